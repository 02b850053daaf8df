package org.genrecall.opensearch.ingest;

import org.apache.logging.log4j.LogManager;
import org.apache.logging.log4j.Logger;

import java.util.ArrayDeque;
import java.util.Queue;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.IntSupplier;

/** Lets so many in at once, and the others when it is their turn, in the order they came. Nobody blocks. */
final class Turns {

    private static final Logger logger = LogManager.getLogger(Turns.class);

    private final IntSupplier most;
    private final Queue<Runnable> waiting = new ArrayDeque<>();
    private final AtomicInteger looks = new AtomicInteger();
    private int inside;

    Turns(IntSupplier most) {
        this.most = most;
    }

    /** Runs {@code task} now or when it is its turn. It must start something and return, and {@link #giveBack} when that is over. */
    void take(Runnable task) {
        synchronized (this) {
            waiting.add(task);
        }
        look();
    }

    /** A turn is over. */
    void giveBack() {
        synchronized (this) {
            inside--;
        }
        look();
    }

    /** A task that is over at once calls back in here: whoever looks already looks once more, instead of one call in the other. */
    private void look() {
        if (looks.getAndIncrement() > 0) {
            return;
        }
        do {
            for (Runnable task = next(); task != null; task = next()) {
                try {
                    task.run();
                } catch (RuntimeException | LinkageError | AssertionError e) { // of whoever hears of it; the others still get their turns
                    logger.error("an answer could not be passed on", e);
                }
            }
        } while (looks.decrementAndGet() > 0);
    }

    private synchronized Runnable next() {
        if (waiting.isEmpty() || inside >= most.getAsInt()) {
            return null;
        }
        inside++;
        return waiting.poll();
    }
}
