package org.genrecall.opensearch.generation;

import org.genrecall.opensearch.GenrecallSettings;
import org.genrecall.opensearch.generation.GenerateBatches.Answer;
import org.genrecall.opensearch.generation.GenerateBatches.Shared;
import org.genrecall.opensearch.generation.GenerationException.Kind;
import org.genrecall.opensearch.stats.GenerationStats;
import org.genrecall.v1.Generated;
import org.genrecall.v1.Query;
import org.genrecall.v1.User;
import org.opensearch.common.unit.TimeValue;

import java.util.List;
import java.util.Locale;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.atomic.AtomicInteger;

/** One question to the model: request and reply, bound of the questions under way. What goes wrong is in the future. */
class GenerationClient {

    private final GenrecallSettings settings;
    private final GenerateBatches batches;
    private final AtomicInteger inFlight = new AtomicInteger();

    GenerationClient(InferenceServer server, GenrecallSettings settings, GenerationStats stats, PluginPool pool) {
        this.settings = settings;
        this.batches = new GenerateBatches(server, settings, stats, pool);
    }

    /**
     * Half of the places are for requests that have no question under way yet, so that one of many clauses leaves room for others.
     *
     * @param room what the asking request has of this node's room
     */
    CompletableFuture<Answer> generate(String codebook, Prompt prompt, TimeValue timeout, RequestRoom room) {
        int most = settings.maxInFlight();
        boolean first = room.questions.getAndIncrement() == 0;
        if (inFlight.incrementAndGet() > (first ? most : Math.max(1, most / 2))) {
            inFlight.decrementAndGet();
            room.questions.decrementAndGet();
            return CompletableFuture.failedFuture(overloaded(most));
        }
        CompletableFuture<Answer> answer;
        try {
            answer = batches.ask(new Shared(codebook, prompt.k(), prompt.beamWidth(), timeout), query(prompt));
        } catch (Throwable e) { // a class that does not load
            answer = CompletableFuture.failedFuture(e);
        }
        return answer.whenComplete((value, failure) -> {
            inFlight.decrementAndGet();
            room.questions.decrementAndGet();
        });
    }

    private static Query query(Prompt prompt) {
        UserContext user = prompt.user();
        User.Builder who = User.newBuilder().addAllRecentSids(user.recentSids()).addAllRecentItems(user.recentItems());
        if (user.gender() != null) {
            who.setGender(user.gender());
        }
        if (user.ageBand() != null) {
            who.setAgeBand(user.ageBand());
        }
        return Query.newBuilder().setText(prompt.text()).setUser(who).setWithoutMemory(prompt.memory() == false).build();
    }

    static Generation read(Generated generated, int k) {
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

    private static GenerationException overloaded(int most) {
        return new GenerationException(
            Caller.CLAUSE,
            Kind.OVERLOAD,
            String.format(
                Locale.ROOT,
                "the questions under way on this node leave no room, as [genrecall.max_in_flight] allows [%d], half of them to searches"
                    + " that ask several: try again later, raise it, or add servers",
                most
            ),
            null
        );
    }
}
