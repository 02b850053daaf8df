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
 * page 1, and a popular query off the server. Emptied when the endpoint changes.
 */
final class GenerationCache {

    private record Key(String codebook, Prompt prompt) {}

    private record Flight(Key key, TimeValue timeout) {}

    private final GenerationClient client;
    private final GenrecallSettings settings;
    private final GenerationStats stats;
    private final ConcurrentMap<Flight, CompletableFuture<Generation>> flights = new ConcurrentHashMap<>();
    private volatile Cache<Key, Generation> answers;

    GenerationCache(GenerationClient client, GenrecallSettings settings, GenerationStats stats) {
        this.client = client;
        this.settings = settings;
        this.stats = stats;
        clear();
    }

    /** Starts anew, with the size and the age set now. */
    void clear() {
        answers = CacheBuilder.<Key, Generation>builder()
            .setMaximumWeight(settings.cacheSize())
            .setExpireAfterWrite(settings.cacheTtl())
            .build();
    }

    CompletableFuture<Generation> generate(String codebook, Prompt prompt, TimeValue timeout) {
        Key key = new Key(codebook, prompt);
        Cache<Key, Generation> current = answers;
        Generation known = current.get(key);
        if (known != null) {
            stats.cacheHit();
            return CompletableFuture.completedFuture(known);
        }
        // Only calls of the same timeout are shared: nobody waits longer than asked, nor learns of another's timeout.
        Flight flight = new Flight(key, timeout);
        CompletableFuture<Generation> mine = new CompletableFuture<>();
        CompletableFuture<Generation> others = flights.putIfAbsent(flight, mine);
        if (others != null) {
            stats.coalesced();
            return others;
        }
        mine.whenComplete((generation, failure) -> flights.remove(flight, mine)); // whatever befalls the call
        try {
            client.generate(codebook, prompt, timeout).whenComplete((generation, failure) -> {
                if (failure != null) {
                    mine.completeExceptionally(failure);
                    return;
                }
                try {
                    current.put(key, generation);
                    flights.remove(flight, mine);
                } finally {
                    mine.complete(generation);
                }
            });
        } catch (Throwable e) {
            mine.completeExceptionally(e);
        }
        return mine;
    }
}
