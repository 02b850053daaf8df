package org.genrecall.opensearch.generation;

import io.grpc.CallOptions;
import io.grpc.Status;
import io.grpc.stub.ClientCalls;
import io.grpc.stub.StreamObserver;

import org.apache.logging.log4j.LogManager;
import org.apache.logging.log4j.Logger;
import org.genrecall.opensearch.GenrecallSettings;
import org.genrecall.opensearch.generation.GenerationException.Kind;
import org.genrecall.opensearch.stats.GenerationStats;
import org.genrecall.v1.Codebook;
import org.genrecall.v1.DescribeRequest;
import org.genrecall.v1.DescribeResponse;
import org.genrecall.v1.GenerateRequest;
import org.genrecall.v1.GenerateResponse;
import org.genrecall.v1.Generated;
import org.genrecall.v1.GenerativeRecallGrpc;
import org.genrecall.v1.Query;
import org.genrecall.v1.User;
import org.opensearch.common.unit.TimeValue;

import java.util.List;
import java.util.Locale;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicInteger;

/**
 * One {@code Generate} call: request and reply, deadline, cap of the calls in flight, gRPC status to
 * {@link GenerationException}. Never blocks and never throws: what goes wrong is in the future.
 */
final class GenerationClient {

    private static final Logger logger = LogManager.getLogger(GenerationClient.class);
    private static final int GREETING_SECONDS = 10;

    private final InferenceChannel channel;
    private final GenrecallSettings settings;
    private final GenerationStats stats;
    private final AtomicInteger inFlight = new AtomicInteger();

    GenerationClient(InferenceChannel channel, GenrecallSettings settings, GenerationStats stats) {
        this.channel = channel;
        this.settings = settings;
        this.stats = stats;
    }

    CompletableFuture<Generation> generate(String codebook, Prompt prompt, TimeValue timeout) {
        int cap = settings.maxInFlight();
        if (inFlight.incrementAndGet() > cap) {
            inFlight.decrementAndGet();
            return CompletableFuture.failedFuture(overloaded(cap));
        }
        Reply reply = new Reply(codebook, prompt, timeout);
        try {
            InferenceChannel.privileged(() -> {
                CallOptions options = CallOptions.DEFAULT.withDeadlineAfter(timeout.nanos(), TimeUnit.NANOSECONDS);
                ClientCalls.asyncUnaryCall(
                    channel.get().newCall(GenerativeRecallGrpc.getGenerateMethod(), options),
                    request(codebook, prompt),
                    reply
                );
                return null;
            });
        } catch (RuntimeException e) {
            reply.onError(e);
        }
        return reply.answer;
    }

    /**
     * Opens the connection and asks what the server holds, so that the first search pays for neither the connection nor the
     * loading of gRPC's classes, and the log says whom this node talks to.
     */
    void greet() {
        String endpoint = settings.endpoint();
        InferenceChannel.privileged(() -> {
            CallOptions options = CallOptions.DEFAULT.withDeadlineAfter(GREETING_SECONDS, TimeUnit.SECONDS);
            ClientCalls.asyncUnaryCall(
                channel.get().newCall(GenerativeRecallGrpc.getDescribeMethod(), options),
                DescribeRequest.getDefaultInstance(),
                new StreamObserver<DescribeResponse>() {
                    @Override
                    public void onNext(DescribeResponse server) {
                        List<String> held = server.getCodebooksList().stream().map(Codebook::getCodebook).toList();
                        logger.info("inference server at [{}]: version [{}], codebooks {}", endpoint, server.getServerVersion(), held);
                    }

                    @Override
                    public void onError(Throwable e) {
                        logger.info("no inference server at [{}] yet: {}", endpoint, detail(Status.fromThrowable(e)));
                    }

                    @Override
                    public void onCompleted() {}
                }
            );
            return null;
        });
    }

    private static GenerateRequest request(String codebook, Prompt prompt) {
        UserContext user = prompt.user();
        User.Builder who = User.newBuilder().addAllRecentSids(user.recentSids()).addAllRecentItems(user.recentItems());
        if (user.gender() != null) {
            who.setGender(user.gender());
        }
        if (user.ageBand() != null) {
            who.setAgeBand(user.ageBand());
        }
        return GenerateRequest.newBuilder()
            .setCodebook(codebook)
            .addQueries(Query.newBuilder().setText(prompt.text()).setUser(who))
            .setK(prompt.k())
            .setBeamWidth(prompt.beamWidth())
            .build();
    }

    /** Ends once, whatever gRPC reports, and gives the place in flight back before anybody hears of it. */
    private final class Reply implements StreamObserver<GenerateResponse> {
        private final String codebook;
        private final Prompt prompt;
        private final TimeValue timeout;
        private final long started = System.nanoTime();
        private final AtomicBoolean ended = new AtomicBoolean();
        private final CompletableFuture<Generation> answer = new CompletableFuture<>();
        private volatile GenerateResponse response = GenerateResponse.getDefaultInstance();

        Reply(String codebook, Prompt prompt, TimeValue timeout) {
            this.codebook = codebook;
            this.prompt = prompt;
            this.timeout = timeout;
        }

        @Override
        public void onNext(GenerateResponse value) {
            response = value;
        }

        @Override
        public void onCompleted() {
            try {
                Generation generation = read(response, codebook, prompt.k());
                end(() -> answer.complete(generation));
            } catch (RuntimeException e) {
                String message = "the inference server" + at() + " broke the contract: " + e.getMessage();
                end(() -> answer.completeExceptionally(new GenerationException(Kind.SERVER_ERROR, message, e)));
            }
        }

        @Override
        public void onError(Throwable e) {
            end(() -> answer.completeExceptionally(failure(codebook, timeout, e)));
        }

        private void end(Runnable tell) {
            if (ended.compareAndSet(false, true)) {
                inFlight.decrementAndGet();
                stats.called(System.nanoTime() - started);
                tell.run();
            }
        }
    }

    static Generation read(GenerateResponse response, String codebook, int k) {
        if (response.getCodebook().equals(codebook) == false) {
            throw new IllegalArgumentException("asked for codebook [" + codebook + "], it answered with [" + response.getCodebook() + "]");
        }
        if (response.getResultsCount() != 1) {
            throw new IllegalArgumentException("asked 1 query, it answered " + response.getResultsCount());
        }
        Generated generated = response.getResults(0);
        int n = generated.getScoresCount();
        if (n > k) {
            throw new IllegalArgumentException("asked for " + k + " SIDs, it answered with " + n);
        }
        int[] codes = generated.getCodesList().stream().mapToInt(Integer::intValue).toArray();
        float[] probabilities = new float[n];
        for (int i = 0; i < n; i++) {
            probabilities[i] = (float) Math.exp(generated.getScores(i));
        }
        return new Generation(codes, probabilities);
    }

    private GenerationException failure(String codebook, TimeValue timeout, Throwable cause) {
        Status status = Status.fromThrowable(cause);
        String said = detail(status);
        return switch (status.getCode()) {
            case UNAVAILABLE -> new GenerationException(
                Kind.UNAVAILABLE,
                "the inference server" + at() + " cannot be reached: " + said
                    + ". Start it, or correct the cluster setting [genrecall.endpoint]; [on_failure] can let the search go on without it",
                cause
            );
            case DEADLINE_EXCEEDED, CANCELLED -> new GenerationException(
                Kind.TIMEOUT,
                "the inference server" + at() + " gave no answer within [" + timeout
                    + "]. Raise [timeout] in the clause or the cluster setting [genrecall.timeout], or give the server more room;"
                    + " [on_failure] can let the search go on without it",
                cause
            );
            case RESOURCE_EXHAUSTED -> new GenerationException(
                Kind.OVERLOAD,
                "the inference server" + at() + " has too much to do: " + said + ". Try again later, or add servers",
                cause
            );
            case FAILED_PRECONDITION -> new GenerationException(
                Kind.CODEBOOK_NOT_HELD,
                "the inference server" + at() + " does not hold codebook [" + codebook + "]: " + said
                    + ". Load its bundle into the server, or search an index whose codebook it holds",
                cause
            );
            case INVALID_ARGUMENT, OUT_OF_RANGE -> new GenerationException(
                Kind.INVALID_REQUEST,
                "the inference server" + at() + " refuses the request: " + said,
                cause
            );
            default -> new GenerationException(
                Kind.SERVER_ERROR,
                "the inference server" + at() + " failed: " + status.getCode() + ", " + said + ". Its log says more",
                cause
            );
        };
    }

    private static GenerationException overloaded(int cap) {
        return new GenerationException(
            Kind.OVERLOAD,
            String.format(
                Locale.ROOT,
                "[%d] calls to the inference server are under way on this node, as many as [genrecall.max_in_flight] allows:"
                    + " try again later, raise it, or add servers",
                cap
            ),
            null
        );
    }

    /** What the server said, or what the connection failed of. */
    private static String detail(Status status) {
        String cause = status.getCause() == null ? null : status.getCause().getMessage();
        if (status.getDescription() == null) {
            return cause == null ? status.getCode().toString() : cause;
        }
        return cause == null ? status.getDescription() : status.getDescription() + " (" + cause + ")";
    }

    private String at() {
        return " at [" + settings.endpoint() + "]";
    }
}
