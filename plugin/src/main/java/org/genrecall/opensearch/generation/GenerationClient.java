package org.genrecall.opensearch.generation;

import org.genrecall.opensearch.GenrecallSettings;
import org.genrecall.opensearch.generation.GenerationException.Kind;
import org.genrecall.opensearch.stats.GenerationStats;
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
import java.util.concurrent.atomic.AtomicInteger;

/** One {@code Generate} call: request and reply, cap of the calls in flight. What goes wrong is in the future. */
class GenerationClient {

    private final InferenceServer server;
    private final GenrecallSettings settings;
    private final GenerationStats stats;
    private final AtomicInteger inFlight = new AtomicInteger();

    GenerationClient(InferenceServer server, GenrecallSettings settings, GenerationStats stats) {
        this.server = server;
        this.settings = settings;
        this.stats = stats;
    }

    CompletableFuture<Generation> generate(String codebook, Prompt prompt, TimeValue timeout) {
        int cap = settings.maxInFlight();
        if (inFlight.incrementAndGet() > cap) {
            inFlight.decrementAndGet();
            return CompletableFuture.failedFuture(overloaded(cap));
        }
        Ask ask = new Ask(Caller.CLAUSE, codebook, timeout);
        return server.call(
            GenerativeRecallGrpc.getGenerateMethod(),
            request(codebook, prompt),
            ask,
            response -> read(response, ask, prompt.k()),
            nanos -> {
                inFlight.decrementAndGet();
                stats.generate().called(nanos);
            }
        );
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

    static Generation read(GenerateResponse response, Ask ask, int k) {
        ask.check(response.getCodebook());
        if (response.getResultsCount() != 1) {
            throw new IllegalArgumentException("asked 1 query, it answered " + response.getResultsCount());
        }
        Generated generated = response.getResults(0);
        int n = generated.getScoresCount();
        if (n > k) {
            throw new IllegalArgumentException("asked for " + k + " SIDs, it answered with " + n);
        }
        int[] codes = ints(generated.getCodesList());
        float[] probabilities = new float[n];
        for (int i = 0; i < n; i++) {
            probabilities[i] = (float) Math.exp(generated.getScores(i));
        }
        return new Generation(codes, probabilities, generated.getItemsCount() == 0 ? new int[n] : ints(generated.getItemsList()));
    }

    private static int[] ints(List<Integer> values) {
        return values.stream().mapToInt(Integer::intValue).toArray();
    }

    private static GenerationException overloaded(int cap) {
        return new GenerationException(
            Caller.CLAUSE,
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
}
