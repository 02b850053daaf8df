package org.genrecall.opensearch.generation;

import io.grpc.ChannelCredentials;
import io.grpc.ConnectivityState;
import io.grpc.ManagedChannel;
import io.grpc.okhttp.OkHttpChannelBuilder;

import org.opensearch.secure_sm.AccessController;

import java.io.Closeable;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import java.util.function.Supplier;

/**
 * Owns the connection to the inference server: opened when first used, replaced when the endpoint changes, retried soon
 * after a failure. Every address that the endpoint's name resolves to gets its share of the calls.
 */
final class InferenceChannel implements Closeable {

    private static final long RETRY_NANOS = TimeUnit.SECONDS.toNanos(1);

    private final ChannelCredentials credentials;
    private final AtomicLong retried = new AtomicLong(System.nanoTime());
    private volatile ManagedChannel channel;

    InferenceChannel(String endpoint, ChannelCredentials credentials) {
        this.credentials = credentials;
        this.channel = open(endpoint);
    }

    /** Calls under way on the old channel run to their end. */
    synchronized void connect(String endpoint) {
        ManagedChannel old = channel;
        channel = open(endpoint);
        old.shutdown();
    }

    ManagedChannel get() {
        ManagedChannel current = channel;
        // gRPC waits up to two minutes between attempts, far longer than a restart of the server takes.
        if (current.getState(false) == ConnectivityState.TRANSIENT_FAILURE) {
            long last = retried.get();
            long now = System.nanoTime();
            if (now - last > RETRY_NANOS && retried.compareAndSet(last, now)) {
                privileged(() -> {
                    current.resetConnectBackoff();
                    return null;
                });
            }
        }
        return current;
    }

    @Override
    public synchronized void close() {
        channel.shutdownNow();
    }

    /** OpenSearch's agent asks every caller on the stack for the permission to connect, unless told that the plugin answers for it. */
    static <T> T privileged(Supplier<T> action) {
        return AccessController.doPrivileged(action);
    }

    private ManagedChannel open(String endpoint) {
        // gRPC's own executor: a bounded pool that rejects a task would leave the channel broken for good.
        return privileged(
            () -> OkHttpChannelBuilder.forTarget(endpoint, credentials)
                .defaultLoadBalancingPolicy("round_robin")
                .disableServiceConfigLookUp()
                .keepAliveTime(60, TimeUnit.SECONDS)
                .userAgent("genrecall-opensearch")
                .build()
        );
    }
}
