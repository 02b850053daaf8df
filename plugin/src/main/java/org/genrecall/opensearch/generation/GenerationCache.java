package org.genrecall.opensearch.generation;

import org.genrecall.opensearch.GenrecallSettings;
import org.genrecall.opensearch.stats.GenerationStats;
import org.opensearch.common.cache.Cache;
import org.opensearch.common.cache.CacheBuilder;
import org.opensearch.common.unit.TimeValue;

import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentMap;

/**
 * Answers kept for a while, and one call for equal questions that are asked at the same time. Keeps page 2 on the SIDs of
 * page 1, and a popular query off the server. Emptied when the endpoints change.
 */
final class GenerationCache {

    /** @param model that which a codebook was last answered by: what an older one answered is not looked at any more */
    private record Key(String codebook, String model, Prompt prompt) {
        long bytes(Generation generation) {
            return prompt.bytes() + generation.bytes();
        }
    }

    private record Flight(String codebook, Prompt prompt, TimeValue timeout) {}

    private final GenerationClient client;
    private final GenrecallSettings settings;
    private final GenerationStats stats;
    private final ConcurrentMap<Flight, CompletableFuture<Generation>> flights = new ConcurrentHashMap<>();
    /** By codebook. */
    private final ConcurrentMap<String, String> models = new ConcurrentHashMap<>();
    private volatile Cache<Key, Generation> answers;

    GenerationCache(GenerationClient client, GenrecallSettings settings, GenerationStats stats) {
        this.client = client;
        this.settings = settings;
        this.stats = stats;
        clear();
    }

    /** Starts anew, with the size and the age set now. */
    void clear() {
        models.clear();
        answers = CacheBuilder.<Key, Generation>builder()
            .setMaximumWeight(settings.cacheSize().getBytes())
            .weigher(Key::bytes)
            .setExpireAfterWrite(settings.cacheTtl())
            .build();
    }

    /** @param room what the asking request has of this node's room */
    CompletableFuture<Generation> generate(String codebook, Prompt prompt, TimeValue timeout, RequestRoom room) {
        Cache<Key, Generation> current = answers;
        Generation known = current.get(new Key(codebook, models.getOrDefault(codebook, ""), prompt));
        if (known != null) {
            stats.cacheHit();
            return CompletableFuture.completedFuture(known);
        }
        // Only calls of the same timeout are shared: nobody waits longer than asked, nor learns of another's timeout.
        Flight flight = new Flight(codebook, prompt, timeout);
        CompletableFuture<Generation> mine = new CompletableFuture<>();
        CompletableFuture<Generation> others = flights.putIfAbsent(flight, mine);
        if (others != null) {
            stats.coalesced();
            return others;
        }
        mine.whenComplete((generation, failure) -> flights.remove(flight, mine)); // whatever befalls the call
        try {
            client.generate(codebook, prompt, timeout, room).whenComplete((answer, failure) -> {
                if (failure != null) {
                    mine.completeExceptionally(failure);
                    return;
                }
                try {
                    models.put(codebook, answer.model());
                    current.put(new Key(codebook, answer.model(), prompt), answer.generation());
                    flights.remove(flight, mine);
                } finally {
                    mine.complete(answer.generation());
                }
            });
        } catch (Throwable e) {
            mine.completeExceptionally(e);
        }
        return mine;
    }
}
