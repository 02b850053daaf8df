package org.genrecall.opensearch.ingest;

import org.genrecall.opensearch.GenrecallSettings;
import org.genrecall.opensearch.generation.Ask;
import org.genrecall.opensearch.generation.Caller;
import org.genrecall.opensearch.generation.GenerationException;
import org.genrecall.opensearch.generation.GenerationException.Kind;
import org.genrecall.opensearch.generation.IndexCodebooks;
import org.genrecall.opensearch.generation.InferenceServer;
import org.genrecall.opensearch.generation.PluginPool;
import org.genrecall.opensearch.stats.GenerationStats;
import org.opensearch.common.Nullable;
import org.opensearch.common.unit.TimeValue;
import org.opensearch.core.action.ActionListener;

import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicReference;
import java.util.stream.Collectors;

/**
 * What the processor asks: the SIDs of documents, of whatever codebooks. Few calls are made at once, for the server takes no
 * more; the others wait for their turn. A server that is busy is asked again when it said so. Where it refuses a call as wrong,
 * its halves are sent apart, until the document at fault is alone with the error.
 */
public final class EncodeService {
    /** Less is no time for a call: gRPC rounds deadlines down, so that a call before, whose turn this is, ends some milliseconds early. */
    private static final long LEAST_MS = 5;

    private final GenrecallSettings settings;
    private final IndexCodebooks indexCodebooks;
    private final PluginPool pool;
    private final GenerationStats stats;
    private final EncodeClient client;
    private final Turns turns;

    public EncodeService(
        GenrecallSettings settings,
        InferenceServer server,
        IndexCodebooks indexCodebooks,
        PluginPool pool,
        GenerationStats stats
    ) {
        this.settings = settings;
        this.indexCodebooks = indexCodebooks;
        this.pool = pool;
        this.stats = stats;
        this.client = new EncodeClient(server, stats);
        this.turns = new Turns(settings::ingestMaxInFlight);
    }

    GenerationStats stats() {
        return stats;
    }

    /** Of the index that a document written to {@code target} goes to; throws where it has none. */
    String codebook(String target) {
        return indexCodebooks.ofWriteIndex(target);
    }

    /**
     * Tells the listener when every one of {@code encodings} has its term or its failure, on the plugin's pool and in the caller's
     * context; that it could not go on there is the only failure it learns of. Where there is nothing to ask, it is told at once.
     *
     * @param timeout until when, waiting for a turn included; null: the cluster's
     */
    void encode(List<Encoding> encodings, @Nullable TimeValue timeout, ActionListener<Void> listener) {
        if (encodings.isEmpty()) {
            listener.onResponse(null);
            return;
        }
        ActionListener<Void> onPool = pool.continuing(Caller.PROCESSOR, listener);
        AtomicInteger left = new AtomicInteger(encodings.size());
        Runnable settled = () -> {
            if (left.decrementAndGet() == 0) {
                onPool.onResponse(null);
            }
        };
        TimeValue limit = timeout != null ? timeout : settings.ingestTimeout();
        encodings.stream().collect(Collectors.groupingBy(Encoding::codebook)).forEach((codebook, group) -> {
            Errand errand = new Errand(new Ask(Caller.PROCESSOR, codebook, limit, pool.origin()), settled);
            cut(group).forEach(errand::queue);
        });
    }

    /** Parts that each fit into one call. */
    static List<List<Encoding>> cut(List<Encoding> encodings) {
        List<List<Encoding>> parts = new ArrayList<>();
        List<Encoding> part = new ArrayList<>();
        int bytes = 0;
        for (Encoding encoding : encodings) {
            int size = encoding.item().getSerializedSize();
            if (part.size() == EncodeClient.MAX_ITEMS || part.isEmpty() == false && bytes + size > EncodeClient.MAX_ITEMS_BYTES) {
                parts.add(part);
                part = new ArrayList<>();
                bytes = 0;
            }
            part.add(encoding);
            bytes += size;
        }
        parts.add(part);
        return parts;
    }

    /** The calls for documents of one codebook, before one deadline. */
    private final class Errand {
        private final Ask ask;
        private final Runnable settled;

        Errand(Ask ask, Runnable settled) {
            this.ask = ask;
            this.settled = settled;
        }

        void queue(List<Encoding> part) {
            AtomicReference<List<Encoding>> waiting = new AtomicReference<>(part); // for its turn, or the end of its time
            turns.take(() -> {
                List<Encoding> mine = waiting.getAndSet(null);
                if (mine == null) {
                    turns.giveBack();
                } else if (remainingMillis() < LEAST_MS) {
                    turns.giveBack();
                    fail(mine, noTurn());
                } else {
                    send(mine);
                }
            });
            if (waiting.get() != null) {
                later(remainingMillis(), () -> {
                    List<Encoding> late = waiting.getAndSet(null);
                    if (late != null) {
                        fail(late, noTurn());
                    }
                });
            }
        }

        private long remainingMillis() {
            return ask.deadline().timeRemaining(TimeUnit.MILLISECONDS);
        }

        /** Whether it will run. */
        private boolean later(long millis, Runnable task) {
            try {
                pool.later(TimeValue.timeValueMillis(Math.max(0, millis)), task);
                return true;
            } catch (RuntimeException e) { // the node stops
                return false;
            }
        }

        private void send(List<Encoding> part) {
            CompletableFuture<List<String>> answer;
            try {
                answer = client.encode(ask, part.stream().map(Encoding::item).toList());
            } catch (LinkageError e) { // before the call: else the turn would never end
                answer = CompletableFuture.failedFuture(e);
            }
            answer.whenComplete((terms, failure) -> {
                if (failure == null) {
                    turns.giveBack();
                    for (int i = 0; i < part.size(); i++) {
                        part.get(i).succeed(terms.get(i));
                        settled.run();
                    }
                } else {
                    failed(part, GenerationException.of(Caller.PROCESSOR, failure));
                }
            });
        }

        private void failed(List<Encoding> part, GenerationException failure) {
            if (failure.kind() == Kind.OVERLOAD && sendLater(part, EncodeClient.pushback(failure))) {
                return;
            }
            turns.giveBack();
            if (failure.kind() == Kind.INVALID_REQUEST && part.size() > 1) {
                int half = part.size() / 2;
                queue(part.subList(0, half));
                queue(part.subList(half, part.size()));
            } else {
                fail(part, failure);
            }
        }

        /** Keeps its turn meanwhile: others would be turned away as well. */
        private boolean sendLater(List<Encoding> part, @Nullable TimeValue pause) {
            return pause != null && pause.millis() < remainingMillis() && later(pause.millis(), () -> send(part));
        }

        private void fail(List<Encoding> part, GenerationException failure) {
            for (Encoding encoding : part) {
                encoding.fail(failure);
                settled.run();
            }
        }

        private GenerationException noTurn() {
            return new GenerationException(
                Caller.PROCESSOR,
                Kind.OVERLOAD,
                "no turn within [" + ask.timeout() + "] among the calls of this node, of which [genrecall.ingest.max_in_flight] are under way"
                    + " at once: try again later, send smaller bulks, or add servers",
                null
            );
        }
    }
}
