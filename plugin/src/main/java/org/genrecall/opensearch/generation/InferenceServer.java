package org.genrecall.opensearch.generation;

import io.grpc.CallOptions;
import io.grpc.Channel;
import io.grpc.ChannelCredentials;
import io.grpc.ClientInterceptors;
import io.grpc.MethodDescriptor;
import io.grpc.Status;
import io.grpc.stub.ClientCalls;
import io.grpc.stub.MetadataUtils;
import io.grpc.stub.StreamObserver;

import org.apache.logging.log4j.LogManager;
import org.apache.logging.log4j.Logger;
import org.genrecall.opensearch.GenrecallSettings;
import org.genrecall.opensearch.channel.InferenceChannel;
import org.genrecall.opensearch.generation.GenerationException.Kind;
import org.genrecall.opensearch.stats.EndpointSnapshot;
import org.genrecall.v1.Codebook;
import org.genrecall.v1.DescribeRequest;
import org.genrecall.v1.DescribeResponse;
import org.genrecall.v1.GenerativeRecallGrpc;

import java.io.Closeable;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.Executor;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.function.Consumer;
import java.util.function.Function;
import java.util.function.LongConsumer;

/**
 * The servers behind {@code genrecall.endpoint}, as one: a request, a deadline, and in a future the answer or a
 * {@link GenerationException}. Never blocks and never throws. How many calls are made at once is for the callers to bound.
 */
public final class InferenceServer implements Closeable {

    private static final Logger logger = LogManager.getLogger(InferenceServer.class);
    private static final int GREETING_SECONDS = 10;
    private static final int ATTEMPTS = 3;

    private final InferenceChannel channel;
    private final GenrecallSettings settings;
    private final Executor background;
    private volatile ChannelCredentials credentials;

    /** @param background runs what opens connections, so that no caller waits for that */
    public InferenceServer(GenrecallSettings settings, ChannelCredentials credentials, Executor background) {
        this.settings = settings;
        this.background = background;
        this.credentials = credentials;
        this.channel = new InferenceChannel(settings.endpoints(), credentials);
        connected();
        settings.onChange(this::connect, GenrecallSettings.ENDPOINT);
    }

    /** From now on; calls under way run to their end. */
    public void use(ChannelCredentials others) {
        credentials = others;
        connect();
    }

    private void connect() {
        channel.connect(settings.endpoints(), credentials);
        connected();
    }

    private void connected() {
        List<String> inPlaintext = InferenceCredentials.inPlaintext(credentials, settings.endpoints());
        if (inPlaintext.isEmpty() == false) {
            logger.warn("queries go to {} in plaintext: set [genrecall.tls.enabled], unless the network is trusted", inPlaintext);
        }
        background.execute(this::greet);
    }

    /** How each address fares, for operators. */
    public List<EndpointSnapshot> endpoints() {
        return channel.endpoints();
    }

    /**
     * @param read  from the reply to the answer; throws IllegalArgumentException for a reply that breaks the contract
     * @param ended told once how many nanoseconds the call took, before anybody hears of the answer
     */
    public <Q, R, A> CompletableFuture<A> call(
        MethodDescriptor<Q, R> method,
        Q request,
        Ask ask,
        Function<R, A> read,
        LongConsumer ended
    ) {
        CallOptions options = CallOptions.DEFAULT.withDeadline(ask.deadline());
        Reply<R, A> reply = new Reply<>(ask, read, ended, each -> start(method, request, ask.origin(), options, each));
        reply.attempt();
        return reply.answer;
    }

    @Override
    public void close() {
        channel.close();
    }

    private <Q, R> void start(MethodDescriptor<Q, R> method, Q request, Origin origin, CallOptions options, StreamObserver<R> observer) {
        InferenceChannel.privileged(() -> {
            Channel from = ClientInterceptors.intercept(channel.get(), MetadataUtils.newAttachHeadersInterceptor(origin.metadata()));
            ClientCalls.asyncUnaryCall(from.newCall(method, options), request, observer);
            return null;
        });
    }

    /**
     * Opens the connection and asks what the server holds, so that the first search pays for neither the connection nor the
     * loading of gRPC's classes, and the log says whom this node talks to.
     */
    private void greet() {
        List<String> endpoints = settings.endpoints();
        CallOptions options = CallOptions.DEFAULT.withDeadlineAfter(GREETING_SECONDS, TimeUnit.SECONDS);
        start(GenerativeRecallGrpc.getDescribeMethod(), DescribeRequest.getDefaultInstance(), Origin.UNKNOWN, options, new StreamObserver<>() {
            @Override
            public void onNext(DescribeResponse server) {
                List<String> held = server.getCodebooksList().stream().map(Codebook::getCodebook).toList();
                logger.info("inference server at {}: version [{}], codebooks {}", endpoints, server.getServerVersion(), held);
            }

            @Override
            public void onError(Throwable e) {
                logger.info("no inference server at {} yet: {}", endpoints, detail(Status.fromThrowable(e)));
            }

            @Override
            public void onCompleted() {}
        });
    }

    /**
     * Ends once, whatever gRPC reports. A call computes and changes nothing, so that one whose server is unavailable is made again,
     * on the next; one that met an overloaded server is not, for it would only get more to do.
     */
    private final class Reply<R, A> implements StreamObserver<R> {
        private final Ask ask;
        private final Function<R, A> read;
        private final LongConsumer ended;
        private final Consumer<StreamObserver<R>> start;
        private volatile int attempts;
        private final long started = System.nanoTime();
        private final AtomicBoolean done = new AtomicBoolean();
        private final CompletableFuture<A> answer = new CompletableFuture<>();
        private volatile R response;

        Reply(Ask ask, Function<R, A> read, LongConsumer ended, Consumer<StreamObserver<R>> start) {
            this.ask = ask;
            this.read = read;
            this.ended = ended;
            this.start = start;
        }

        void attempt() {
            attempts++;
            try {
                start.accept(this);
            } catch (Throwable e) { // a class that does not load is no exception; whoever waits is told all the same
                fail(e);
            }
        }

        @Override
        public void onNext(R value) {
            response = value;
        }

        @Override
        public void onCompleted() {
            try {
                A value = read.apply(response);
                end(() -> answer.complete(value));
            } catch (RuntimeException e) {
                String message = "the inference server broke the contract: " + e.getMessage();
                end(() -> answer.completeExceptionally(new GenerationException(ask.caller(), Kind.SERVER_ERROR, message, e)));
            } catch (Throwable e) {
                fail(e);
            }
        }

        @Override
        public void onError(Throwable e) {
            if (Status.fromThrowable(e).getCode() == Status.Code.UNAVAILABLE && attempts < ATTEMPTS && ask.deadline().isExpired() == false) {
                attempt();
            } else {
                fail(e);
            }
        }

        private void fail(Throwable e) {
            end(() -> answer.completeExceptionally(described(e)));
        }

        private GenerationException described(Throwable e) {
            if (e instanceof Error) {
                logger.error("a call of the inference server failed on this node", e);
                return GenerationException.of(ask.caller(), e);
            }
            return failure(ask, e);
        }

        private void end(Runnable tell) {
            if (done.compareAndSet(false, true)) {
                try {
                    ended.accept(System.nanoTime() - started);
                } catch (Throwable e) { // on gRPC's thread, where nobody would hear of it
                    logger.error("a call could not be counted", e);
                }
                tell.run();
            }
        }
    }

    private GenerationException failure(Ask ask, Throwable cause) {
        Status status = Status.fromThrowable(cause);
        Caller caller = ask.caller();
        String said = detail(status);
        Kind kind = kind(status);
        String what = switch (kind) {
            case UNAVAILABLE -> " cannot be reached. " + caller.withoutServer
                + "; operators find out why in this node's log and its statistics (/_plugins/_genrecall/stats)";
            case TIMEOUT -> " gave no answer within [" + ask.timeout() + "]. " + caller.moreTime + "; " + caller.withoutServer;
            case OVERLOAD -> " has too much to do: " + said + ". Try again later, or add servers";
            case CODEBOOK_NOT_HELD -> " " + caller.lacks(ask.codebook(), said);
            case INVALID_REQUEST -> " refuses the request: " + said;
            default -> " failed: " + status.getCode() + ", " + said + ". Its log says more";
        };
        // Where no server answered, gRPC's words are about addresses, which are not for those who search.
        boolean answered = kind != Kind.UNAVAILABLE && kind != Kind.TIMEOUT;
        logger.debug("a call failed", cause);
        return new GenerationException(caller, kind, "the inference server" + what, answered ? cause : null);
    }

    private static Kind kind(Status status) {
        return switch (status.getCode()) {
            case UNAVAILABLE -> Kind.UNAVAILABLE;
            case DEADLINE_EXCEEDED, CANCELLED -> Kind.TIMEOUT;
            case RESOURCE_EXHAUSTED -> Kind.OVERLOAD;
            case FAILED_PRECONDITION -> Kind.CODEBOOK_NOT_HELD;
            case INVALID_ARGUMENT, OUT_OF_RANGE -> Kind.INVALID_REQUEST;
            default -> Kind.SERVER_ERROR;
        };
    }

    /** What the server said, or what the connection failed of. */
    private static String detail(Status status) {
        String cause = status.getCause() == null ? null : status.getCause().getMessage();
        if (status.getDescription() == null) {
            return cause == null ? status.getCode().toString() : cause;
        }
        return cause == null ? status.getDescription() : status.getDescription() + " (" + cause + ")";
    }
}
