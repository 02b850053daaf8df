package org.genrecall.opensearch.channel;

import io.grpc.Attributes;
import io.grpc.EquivalentAddressGroup;
import io.grpc.NameResolver;
import io.grpc.NameResolverProvider;
import io.grpc.NameResolverRegistry;
import io.grpc.Status;
import io.grpc.StatusOr;
import io.grpc.SynchronizationContext.ScheduledHandle;

import java.net.SocketAddress;
import java.net.URI;
import java.net.URISyntaxException;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.ConcurrentMap;
import java.util.concurrent.TimeUnit;

/**
 * Every address of every endpoint, where gRPC itself takes one name; each name is looked up by gRPC's own resolver. One that
 * cannot be looked up takes nothing from the others, and is tried again soon.
 */
final class EndpointsResolver extends NameResolver {

    static final String SCHEME = "genrecall";
    static final Args.Key<List<String>> ENDPOINTS = Args.Key.create("genrecall-endpoints");
    static final Args.Key<ConcurrentMap<SocketAddress, CircuitBreaker>> BREAKERS = Args.Key.create("genrecall-breakers");

    private static final int RETRY_SECONDS = 5;

    private final Args args;
    private final List<NameResolver> names;
    private final List<StatusOr<List<EquivalentAddressGroup>>> found;
    private ScheduledHandle retry;

    /** To be registered once in each JVM. */
    static final class Provider extends NameResolverProvider {
        @Override
        protected boolean isAvailable() {
            return true;
        }

        @Override
        protected int priority() {
            return 0; // not the default of targets without a scheme, which are other plugins'
        }

        @Override
        public String getDefaultScheme() {
            return SCHEME;
        }

        @Override
        public NameResolver newNameResolver(URI target, Args args) {
            return SCHEME.equals(target.getScheme()) ? new EndpointsResolver(args) : null;
        }
    }

    private EndpointsResolver(Args args) {
        this.args = args;
        this.names = args.getArg(ENDPOINTS).stream().map(endpoint -> resolver(endpoint, args)).toList();
        this.found = new ArrayList<>();
        names.forEach(name -> found.add(null));
    }

    private static NameResolver resolver(String endpoint, Args args) {
        try {
            URI target = new URI("dns", "", "/" + endpoint, null, null);
            return NameResolverRegistry.getDefaultRegistry().getProviderForScheme("dns").newNameResolver(target, args);
        } catch (URISyntaxException e) {
            throw new IllegalArgumentException(endpoint, e); // the setting lets none through
        }
    }

    @Override
    public String getServiceAuthority() {
        return names.get(0).getServiceAuthority();
    }

    @Override
    public void start(Listener2 listener) {
        for (int i = 0; i < names.size(); i++) {
            int place = i;
            names.get(i).start(new Listener2() {
                @Override
                public void onResult(ResolutionResult result) {
                    put(result.getAddressesOrError());
                }

                @Override
                public void onError(Status error) {
                    put(StatusOr.fromStatus(error));
                }

                private void put(StatusOr<List<EquivalentAddressGroup>> result) {
                    args.getSynchronizationContext().execute(() -> {
                        found.set(place, result);
                        tell(listener);
                    });
                }
            });
        }
    }

    private void tell(Listener2 listener) {
        List<EquivalentAddressGroup> addresses = new ArrayList<>();
        Status failure = null;
        for (int i = 0; i < names.size(); i++) {
            StatusOr<List<EquivalentAddressGroup>> result = found.get(i);
            if (result == null) {
                continue; // not looked up yet
            }
            if (result.hasValue()) {
                for (EquivalentAddressGroup group : result.getValue()) {
                    for (SocketAddress address : group.getAddresses()) {
                        addresses.add(new EquivalentAddressGroup(address, named(group.getAttributes(), names.get(i))));
                    }
                }
            } else {
                failure = result.getStatus();
            }
        }
        if (addresses.isEmpty() == false) {
            Attributes breakers = Attributes.newBuilder().set(CircuitBreakerPolicy.BREAKERS, args.getArg(BREAKERS)).build();
            listener.onResult2(
                ResolutionResult.newBuilder().setAddressesOrError(StatusOr.fromValue(addresses)).setAttributes(breakers).build()
            );
            if (failure != null) {
                retryLater();
            }
        } else if (failure != null && found.contains(null) == false) {
            listener.onResult2(ResolutionResult.newBuilder().setAddressesOrError(StatusOr.fromStatus(failure)).build()); // it tries again
        }
    }

    /** TLS checks the certificate of each address against the endpoint that it comes from. */
    private static Attributes named(Attributes attributes, NameResolver name) {
        return attributes.toBuilder().set(EquivalentAddressGroup.ATTR_AUTHORITY_OVERRIDE, name.getServiceAuthority()).build();
    }

    private void retryLater() {
        if (retry == null || retry.isPending() == false) {
            retry = args.getSynchronizationContext()
                .schedule(this::refresh, RETRY_SECONDS, TimeUnit.SECONDS, args.getScheduledExecutorService());
        }
    }

    @Override
    public void refresh() {
        names.forEach(NameResolver::refresh);
    }

    @Override
    public void shutdown() {
        if (retry != null) {
            retry.cancel();
        }
        names.forEach(NameResolver::shutdown);
    }
}
