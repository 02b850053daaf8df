package org.genrecall.opensearch.generation;

import org.genrecall.opensearch.generation.GenerationException.Kind;
import org.opensearch.action.support.ContextPreservingActionListener;
import org.opensearch.common.unit.TimeValue;
import org.opensearch.common.util.concurrent.AbstractRunnable;
import org.opensearch.core.action.ActionListener;
import org.opensearch.threadpool.ThreadPool;

import java.util.function.Consumer;

/** The plugin's own threads, on which requests go on once the server answered: never gRPC's, never a transport thread. */
public final class PluginPool {

    public static final String NAME = "genrecall";

    private final ThreadPool threadPool;

    public PluginPool(ThreadPool threadPool) {
        this.threadPool = threadPool;
    }

    /**
     * A listener that goes on in the present context on the pool, or right where it is told when the pool is full: else the
     * request would hang. It then learns of a failure, whatever was answered.
     */
    public <T> ActionListener<T> continuing(Caller caller, ActionListener<T> listener) {
        ActionListener<T> inContext = ContextPreservingActionListener.wrapPreservingContext(listener, threadPool.getThreadContext());
        return new ActionListener<>() {
            @Override
            public void onResponse(T value) {
                run(() -> inContext.onResponse(value), rejected -> inContext.onFailure(poolIsFull(caller, rejected)));
            }

            @Override
            public void onFailure(Exception e) {
                run(() -> inContext.onFailure(e), rejected -> inContext.onFailure(e));
            }

            private void run(Runnable task, Consumer<Exception> whenRejected) {
                threadPool.executor(NAME).execute(new AbstractRunnable() {
                    @Override
                    protected void doRun() {
                        try {
                            task.run();
                        } catch (LinkageError | AssertionError e) { // else nobody would tell the listener
                            inContext.onFailure(GenerationException.of(caller, e));
                        }
                    }

                    @Override
                    public void onFailure(Exception e) {
                        inContext.onFailure(e);
                    }

                    @Override
                    public void onRejection(Exception e) {
                        whenRejected.accept(e);
                    }
                });
            }
        };
    }

    /** Runs {@code task} later; on the generic pool, whose queue has no bound: what this one rejects then would be lost. */
    public void later(TimeValue delay, Runnable task) {
        threadPool.schedule(task, delay, ThreadPool.Names.GENERIC);
    }

    /** The request that this thread works for. */
    public Origin origin() {
        return Origin.of(threadPool.getThreadContext());
    }

    private static GenerationException poolIsFull(Caller caller, Exception cause) {
        return new GenerationException(
            caller,
            Kind.OVERLOAD,
            "this node's thread pool [" + NAME + "] is full: try again later, or raise [thread_pool." + NAME + ".queue_size]",
            cause
        );
    }
}
