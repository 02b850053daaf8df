package org.genrecall.opensearch.channel;

import io.grpc.Attributes;
import io.grpc.ClientStreamTracer;
import io.grpc.ConnectivityState;
import io.grpc.Deadline;
import io.grpc.EquivalentAddressGroup;
import io.grpc.LoadBalancer;
import io.grpc.LoadBalancerProvider;
import io.grpc.LoadBalancerRegistry;
import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.SynchronizationContext.ScheduledHandle;
import io.grpc.util.ForwardingLoadBalancer;
import io.grpc.util.ForwardingLoadBalancerHelper;
import io.grpc.util.ForwardingSubchannel;

import org.apache.logging.log4j.LogManager;
import org.apache.logging.log4j.Logger;

import java.net.SocketAddress;
import java.util.Set;
import java.util.concurrent.ConcurrentMap;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;

/**
 * gRPC's {@code round_robin} over healthy addresses, of which those whose {@link CircuitBreaker} is open are passed over; a call
 * for which none is left fails at once, as it does while no connection can be had.
 *
 * <p>gRPC's own {@code outlier_detection} is not used: every status but OK is a failure to it, so that one client's wrong requests
 * could take a server from all others, and it lets all calls try an address at once.
 */
public final class CircuitBreakerPolicy extends LoadBalancerProvider {

    static final String NAME = "genrecall_circuit_breaker";
    /** Those of a channel, by address, which the resolver hands over with the addresses. */
    static final Attributes.Key<ConcurrentMap<SocketAddress, CircuitBreaker>> BREAKERS = Attributes.Key.create("genrecall-breakers");

    private static final Logger logger = LogManager.getLogger(CircuitBreakerPolicy.class);
    private static final Attributes.Key<CircuitBreaker> BREAKER = Attributes.Key.create("genrecall-breaker");
    /** How long calls wait for a first connection. */
    static final long PATIENCE_MS = 1_000;

    @Override
    public boolean isAvailable() {
        return true;
    }

    @Override
    public int getPriority() {
        return 5;
    }

    @Override
    public String getPolicyName() {
        return NAME;
    }

    @Override
    public LoadBalancer newLoadBalancer(LoadBalancer.Helper helper) {
        return new Balancer(helper);
    }

    private static final class Balancer extends ForwardingLoadBalancer {
        private final LoadBalancer.Helper helper;
        private final LoadBalancer roundRobin;
        private ConcurrentMap<SocketAddress, CircuitBreaker> breakers;
        private ConnectivityState told;
        private ScheduledHandle impatience;
        private boolean outOfPatience;

        Balancer(LoadBalancer.Helper helper) {
            this.helper = helper;
            this.roundRobin = LoadBalancerRegistry.getDefaultRegistry().getProvider("round_robin").newLoadBalancer(new Guard());
        }

        @Override
        protected LoadBalancer delegate() {
            return roundRobin;
        }

        @Override
        public Status acceptResolvedAddresses(ResolvedAddresses resolved) {
            breakers = resolved.getAttributes().get(BREAKERS);
            Set<SocketAddress> addresses = resolved.getAddresses().stream().map(Balancer::address).collect(Collectors.toSet());
            breakers.keySet().retainAll(addresses);
            addresses.forEach(address -> breakers.computeIfAbsent(address, new_ -> new CircuitBreaker(text(address), System::nanoTime)));
            return roundRobin.acceptResolvedAddresses(resolved);
        }

        @Override
        public void shutdown() {
            forgetImpatience();
            super.shutdown();
        }

        private static SocketAddress address(EquivalentAddressGroup group) {
            return group.getAddresses().get(0);
        }

        private static String text(SocketAddress address) {
            return address.toString().replaceFirst("^/", "");
        }

        private void forgetImpatience() {
            if (impatience != null) {
                impatience.cancel();
                impatience = null;
            }
        }

        /** Sees the connections that round robin opens, and what it would do with a call. In gRPC's synchronization context. */
        private final class Guard extends ForwardingLoadBalancerHelper {
            @Override
            protected LoadBalancer.Helper delegate() {
                return helper;
            }

            @Override
            public LoadBalancer.Subchannel createSubchannel(LoadBalancer.CreateSubchannelArgs args) {
                return new Guarded(super.createSubchannel(args), breakers.get(address(args.getAddresses().get(0))));
            }

            @Override
            public void updateBalancingState(ConnectivityState state, LoadBalancer.SubchannelPicker picker) {
                if (state == ConnectivityState.CONNECTING && outOfPatience == false) {
                    if (impatience == null) {
                        impatience = getSynchronizationContext().schedule(
                            this::giveUpWaiting,
                            PATIENCE_MS,
                            TimeUnit.MILLISECONDS,
                            getScheduledExecutorService()
                        );
                    }
                    tell(state, picker);
                } else if (state == ConnectivityState.CONNECTING) {
                    giveUpWaiting();
                } else {
                    forgetImpatience();
                    outOfPatience = state != ConnectivityState.READY;
                    tell(state, new GuardingPicker(picker, breakers));
                }
            }

            /** An address that swallows packets would have every call wait for all of its time. */
            private void giveUpWaiting() {
                outOfPatience = true;
                Status status = Status.UNAVAILABLE.withDescription("no connection within [" + PATIENCE_MS + "ms]");
                tell(ConnectivityState.TRANSIENT_FAILURE, new LoadBalancer.FixedResultPicker(LoadBalancer.PickResult.withError(status)));
            }

            private void tell(ConnectivityState state, LoadBalancer.SubchannelPicker picker) {
                helper.updateBalancingState(state, picker);
                if (state == told || state == ConnectivityState.CONNECTING) {
                    return;
                }
                told = state;
                var endpoints = breakers.values().stream().map(CircuitBreaker::snapshot).toList();
                if (state == ConnectivityState.READY) {
                    logger.info("inference server available: {}", endpoints);
                } else {
                    logger.warn("no inference server available: {}", endpoints);
                }
            }
        }
    }

    private static final class Guarded extends ForwardingSubchannel {
        private final LoadBalancer.Subchannel subchannel;
        private final CircuitBreaker breaker;
        private final Attributes attributes;

        Guarded(LoadBalancer.Subchannel subchannel, CircuitBreaker breaker) {
            this.subchannel = subchannel;
            this.breaker = breaker;
            this.attributes = subchannel.getAttributes().toBuilder().set(BREAKER, breaker).build();
        }

        @Override
        protected LoadBalancer.Subchannel delegate() {
            return subchannel;
        }

        @Override
        public void start(LoadBalancer.SubchannelStateListener listener) {
            super.start(state -> {
                breaker.connection(state);
                listener.onSubchannelState(state);
            });
        }

        @Override
        public Attributes getAttributes() {
            return attributes;
        }
    }

    private static final class GuardingPicker extends LoadBalancer.SubchannelPicker {
        private final LoadBalancer.SubchannelPicker roundRobin;
        private final ConcurrentMap<SocketAddress, CircuitBreaker> breakers;

        GuardingPicker(LoadBalancer.SubchannelPicker roundRobin, ConcurrentMap<SocketAddress, CircuitBreaker> breakers) {
            this.roundRobin = roundRobin;
            this.breakers = breakers;
        }

        /** Each look takes the next address; other threads take theirs in between, hence some more looks than addresses. */
        @Override
        public LoadBalancer.PickResult pickSubchannel(LoadBalancer.PickSubchannelArgs call) {
            for (int looks = 2 * breakers.size(); looks >= 0; looks--) {
                LoadBalancer.PickResult picked = roundRobin.pickSubchannel(call);
                if (picked.getSubchannel() == null) {
                    return picked;
                }
                CircuitBreaker breaker = picked.getSubchannel().getAttributes().get(BREAKER);
                if (breaker.admits()) {
                    return LoadBalancer.PickResult.withSubchannel(picked.getSubchannel(), new Tracing(breaker));
                }
            }
            return LoadBalancer.PickResult.withError(Status.UNAVAILABLE.withDescription("no address answered of late: their circuits are open"));
        }
    }

    private static final class Tracing extends ClientStreamTracer.Factory {
        private final CircuitBreaker breaker;

        Tracing(CircuitBreaker breaker) {
            this.breaker = breaker;
        }

        @Override
        public ClientStreamTracer newClientStreamTracer(ClientStreamTracer.StreamInfo info, Metadata headers) {
            long started = System.nanoTime();
            Deadline deadline = info.getCallOptions().getDeadline();
            return new ClientStreamTracer() {
                @Override
                public void streamClosed(Status status) {
                    // A call that may be repeated ends by its deadline as if the caller had left.
                    boolean late = status.getCode() == Status.Code.CANCELLED && deadline != null && deadline.isExpired();
                    breaker.ended(late ? Status.DEADLINE_EXCEEDED.withDescription("no answer in time") : status, System.nanoTime() - started);
                }
            };
        }
    }
}
