package org.genrecall.opensearch.channel;

import io.grpc.ChannelCredentials;
import io.grpc.ConnectivityState;
import io.grpc.LoadBalancerRegistry;
import io.grpc.ManagedChannel;
import io.grpc.NameResolverRegistry;
import io.grpc.okhttp.OkHttpChannelBuilder;

import org.genrecall.opensearch.stats.EndpointSnapshot;
import org.genrecall.v1.GenerativeRecallGrpc;
import org.opensearch.secure_sm.AccessController;

import java.io.Closeable;
import java.net.SocketAddress;
import java.util.Comparator;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentMap;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import java.util.function.Supplier;

/**
 * Owns the connections to the inference servers: opened when first used, replaced when the endpoints or the credentials change,
 * retried soon after a failure. Each address of each endpoint gets its share of the calls, while its server says that it serves
 * and answers.
 */
public final class InferenceChannel implements Closeable {

    private static final long RETRY_NANOS = TimeUnit.SECONDS.toNanos(1);
    private static final int CONNECT_TIMEOUT_MS = 5_000;

    /** No retries of gRPC's: they wait for an overloaded server as long as it wants, whatever the deadline. */
    private static final Map<String, ?> SERVICE_CONFIG = Map.of(
        "healthCheckConfig",
        Map.of("serviceName", GenerativeRecallGrpc.SERVICE_NAME)
    );

    static {
        NameResolverRegistry.getDefaultRegistry().register(new EndpointsResolver.Provider());
        LoadBalancerRegistry.getDefaultRegistry().register(new CircuitBreakerPolicy());
    }

    private final AtomicLong retried = new AtomicLong(System.nanoTime());
    private volatile Open open;

    private record Open(ManagedChannel channel, ConcurrentMap<SocketAddress, CircuitBreaker> breakers) {}

    /** @param endpoints each HOST:PORT */
    public InferenceChannel(List<String> endpoints, ChannelCredentials credentials) {
        this.open = open(endpoints, credentials);
    }

    /** Calls under way on the old connections run to their end. */
    public synchronized void connect(List<String> endpoints, ChannelCredentials credentials) {
        Open old = open;
        open = open(endpoints, credentials);
        old.channel.shutdown();
    }

    public ManagedChannel get() {
        ManagedChannel current = open.channel;
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

    /** How each address fares, for operators. */
    public List<EndpointSnapshot> endpoints() {
        return open.breakers.values()
            .stream()
            .map(CircuitBreaker::snapshot)
            .sorted(Comparator.comparing(EndpointSnapshot::address))
            .toList();
    }

    @Override
    public synchronized void close() {
        open.channel.shutdownNow();
    }

    /** OpenSearch's agent asks every caller on the stack for the permission to connect, unless told that the plugin answers for it. */
    public static <T> T privileged(Supplier<T> action) {
        return AccessController.doPrivileged(action);
    }

    private static Open open(List<String> endpoints, ChannelCredentials credentials) {
        ConcurrentMap<SocketAddress, CircuitBreaker> breakers = new ConcurrentHashMap<>();
        // gRPC's own executor: a bounded pool that rejects a task would leave the channel broken for good.
        ManagedChannel channel = privileged(
            () -> OkHttpChannelBuilder.forTarget(EndpointsResolver.SCHEME + ":///inference-server", credentials)
                .setNameResolverArg(EndpointsResolver.ENDPOINTS, endpoints)
                .setNameResolverArg(EndpointsResolver.BREAKERS, breakers)
                .defaultLoadBalancingPolicy(CircuitBreakerPolicy.NAME)
                .disableServiceConfigLookUp()
                .defaultServiceConfig(SERVICE_CONFIG)
                .socketFactory(new ConnectTimeout(CONNECT_TIMEOUT_MS))
                // A host that vanished is noticed after 12 s, whether calls are under way or not.
                .keepAliveTime(10, TimeUnit.SECONDS)
                .keepAliveTimeout(2, TimeUnit.SECONDS)
                .keepAliveWithoutCalls(true)
                .userAgent("genrecall-opensearch")
                .build()
        );
        return new Open(channel, breakers);
    }
}
