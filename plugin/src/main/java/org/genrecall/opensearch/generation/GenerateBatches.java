package org.genrecall.opensearch.generation;

import org.genrecall.opensearch.GenrecallSettings;
import org.genrecall.opensearch.generation.GenerationException.Kind;
import org.genrecall.opensearch.stats.GenerationStats;
import org.genrecall.v1.GenerateRequest;
import org.genrecall.v1.GenerateResponse;
import org.genrecall.v1.GenerativeRecallGrpc;
import org.genrecall.v1.Query;
import org.opensearch.common.unit.TimeValue;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;

/**
 * {@code Generate} calls of one or more questions. While calls are under way a question waits {@code genrecall.batch_window} for
 * others to share a call with, as a call costs the server about as much as its questions do; else it is sent at once.
 */
final class GenerateBatches {

    /** Below {@code server.max_queries} and {@code server.max_request_bytes}, as they are by default. */
    static final int MAX_QUERIES = 32;
    private static final int MAX_BYTES = 500_000;

    /** What the questions of one call have in common. */
    record Shared(String codebook, int k, int beamWidth, TimeValue timeout) {}

    /** One question's answer and the model that gave it. */
    record Answer(String model, Generation generation) {}

    private record Question(Query query, Origin origin, CompletableFuture<Answer> answer) {}

    private final class Batch {
        private final Shared shared;
        private final Ask ask;
        private final List<Question> questions = new ArrayList<>();
        private int bytes;

        Batch(Shared shared) {
            this.shared = shared;
            this.ask = new Ask(Caller.CLAUSE, shared.codebook, shared.timeout, Origin.UNKNOWN);
        }

        boolean fits(Query query) {
            return questions.isEmpty() || questions.size() < MAX_QUERIES && bytes + query.getSerializedSize() <= MAX_BYTES;
        }

        CompletableFuture<Answer> add(Query query) {
            CompletableFuture<Answer> answer = new CompletableFuture<>();
            questions.add(new Question(query, pool.origin(), answer));
            bytes += query.getSerializedSize();
            return answer;
        }
    }

    private final InferenceServer server;
    private final GenrecallSettings settings;
    private final GenerationStats stats;
    private final PluginPool pool;
    private final Map<Shared, Batch> waiting = new HashMap<>();
    private int underWay;

    GenerateBatches(InferenceServer server, GenrecallSettings settings, GenerationStats stats, PluginPool pool) {
        this.server = server;
        this.settings = settings;
        this.stats = stats;
        this.pool = pool;
    }

    CompletableFuture<Answer> ask(Shared shared, Query query) {
        TimeValue window = settings.batchWindow();
        List<Batch> ready = new ArrayList<>();
        CompletableFuture<Answer> answer;
        Batch begun = null;
        synchronized (this) {
            Batch batch = waiting.get(shared);
            if (batch != null && batch.fits(query) == false) {
                ready.add(batch);
                batch = null;
            }
            if (batch == null) {
                batch = new Batch(shared);
                if (underWay == 0 || window.nanos() == 0) {
                    ready.add(batch);
                } else {
                    begun = batch;
                    waiting.put(shared, batch);
                }
            } else {
                stats.batched();
            }
            answer = batch.add(query);
        }
        ready.forEach(this::send);
        if (begun != null) {
            sendLater(begun, window);
        }
        return answer;
    }

    private void sendLater(Batch batch, TimeValue window) {
        Runnable send = () -> {
            synchronized (this) {
                if (waiting.remove(batch.shared, batch) == false) {
                    return; // it was full
                }
            }
            send(batch);
        };
        try {
            pool.later(window, send);
        } catch (RuntimeException e) { // the node stops
            send.run();
        }
    }

    private void send(Batch batch) {
        call(batch.shared, batch.ask, batch.questions);
    }

    private void call(Shared shared, Ask ask, List<Question> questions) {
        synchronized (this) {
            underWay++;
        }
        GenerateRequest.Builder request = GenerateRequest.newBuilder()
            .setCodebook(shared.codebook)
            .setK(shared.k)
            .setBeamWidth(shared.beamWidth);
        questions.forEach(question -> request.addQueries(question.query));
        server.call(
            GenerativeRecallGrpc.getGenerateMethod(),
            request.build(),
            ask.from(Origin.of(questions.stream().map(Question::origin).toList())),
            response -> read(response, ask, questions.size(), shared.k),
            this::ended
        ).whenComplete((answers, failure) -> {
            if (failure == null) {
                for (int i = 0; i < questions.size(); i++) {
                    questions.get(i).answer.complete(answers.get(i));
                }
            } else if (questions.size() > 1 && GenerationException.of(Caller.CLAUSE, failure).kind() == Kind.INVALID_REQUEST) {
                // One of them is at fault, and must not fail the others.
                questions.forEach(question -> call(shared, ask, List.of(question)));
            } else {
                questions.forEach(question -> question.answer.completeExceptionally(failure));
            }
        });
    }

    private void ended(long nanos) {
        synchronized (this) {
            underWay--;
        }
        stats.generate().called(nanos);
    }

    /** The answers in the order of the questions; throws IllegalArgumentException for a reply that breaks the contract. */
    static List<Answer> read(GenerateResponse response, Ask ask, int questions, int k) {
        ask.check(response.getCodebook());
        if (response.getResultsCount() != questions) {
            throw new IllegalArgumentException("asked " + questions + " queries, it answered " + response.getResultsCount());
        }
        String model = response.getModel();
        return response.getResultsList().stream().map(generated -> new Answer(model, GenerationClient.read(generated, k))).toList();
    }
}
