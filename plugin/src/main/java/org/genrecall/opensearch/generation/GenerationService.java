package org.genrecall.opensearch.generation;

import com.google.common.collect.MapMaker;

import org.genrecall.opensearch.GenrecallSettings;
import org.genrecall.opensearch.generation.GenerationException.Kind;
import org.genrecall.opensearch.stats.GenerationStats;
import org.opensearch.action.IndicesRequest;
import org.opensearch.action.support.GroupedActionListener;
import org.opensearch.common.Nullable;
import org.opensearch.common.logging.HeaderWarning;
import org.opensearch.common.unit.TimeValue;
import org.opensearch.core.action.ActionListener;

import java.util.Collection;
import java.util.Map;
import java.util.Set;
import java.util.SortedMap;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.concurrent.ConcurrentMap;

/**
 * What the clause asks: the SIDs of a prompt, in each codebook that the searched indices name. Answers on the plugin's own
 * thread pool with the caller's thread context, so that neither gRPC's nor a transport thread goes on with the search.
 */
public final class GenerationService {

    private final GenrecallSettings settings;
    private final IndexCodebooks indexCodebooks;
    private final Formats formats;
    private final PluginPool pool;
    private final GenerationStats stats;
    private final GenerationCache cache;
    /** By identity, and gone with the request. */
    private final ConcurrentMap<IndicesRequest, RequestRoom> rooms = new MapMaker().weakKeys().makeMap();

    public GenerationService(
        GenrecallSettings settings,
        InferenceServer server,
        IndexCodebooks indexCodebooks,
        Formats formats,
        PluginPool pool,
        GenerationStats stats
    ) {
        this.settings = settings;
        this.indexCodebooks = indexCodebooks;
        this.formats = formats;
        this.pool = pool;
        this.stats = stats;
        this.cache = new GenerationCache(new GenerationClient(server, settings, stats, pool), settings, stats);
        settings.onChange(cache::clear, GenrecallSettings.CACHE_SIZE, GenrecallSettings.CACHE_TTL, GenrecallSettings.ENDPOINT);
    }

    /** @throws IllegalArgumentException where what is asked, or its timeout (null: the cluster's), is beyond the limits set for this cluster */
    public void checkLimits(Prompt prompt, @Nullable TimeValue timeout) {
        if (timeout != null && timeout.compareTo(settings.maxTimeout()) > 0) {
            throw new IllegalArgumentException(
                "[generative] timeout [" + timeout + "] is too long: this cluster allows [" + settings.maxTimeout()
                    + "]. Ask for less, or raise the cluster setting [genrecall.max_timeout]"
            );
        }
        if (prompt.beamWidth() > settings.maxBeamWidth()) {
            throw new IllegalArgumentException(
                "[generative] beam_width [" + prompt.beamWidth() + "] is too large: this cluster allows " + settings.maxBeamWidth()
                    + ". Ask for less, or raise the cluster setting [genrecall.max_beam_width] (up to " + Prompt.MAX_K + ")"
            );
        }
        if (prompt.k() > settings.maxK()) {
            throw new IllegalArgumentException(
                "[generative] k [" + prompt.k() + "] is too large: this cluster allows " + settings.maxK()
                    + ". Ask for less, or raise the cluster setting [genrecall.max_k] (up to " + Prompt.MAX_K + ")"
            );
        }
    }

    /** What somebody typed is no mistake in the clause, so {@code on_failure} covers it. */
    private void checkText(Prompt prompt) {
        if (prompt.text().isBlank()) {
            throw refused("query_text is empty: give the words of the search");
        }
        if (prompt.length() > settings.maxQueryLength()) {
            throw refused(
                "query_text is too long: " + prompt.length() + " characters, where this cluster allows " + settings.maxQueryLength()
                    + ". Shorten it, or raise the cluster setting [genrecall.max_query_length]"
            );
        }
    }

    private static GenerationException refused(String why) {
        return new GenerationException(Caller.CLAUSE, Kind.INVALID_REQUEST, why, null);
    }

    /**
     * A clause of {@code request} is about to {@link #generate}.
     *
     * @throws IllegalArgumentException where more of its clauses ask at once than this cluster allows
     */
    public void enter(@Nullable IndicesRequest request) {
        int most = settings.maxClauses();
        if (room(request).clauses.incrementAndGet() > most) {
            throw new IllegalArgumentException(
                "[generative] the search has more than " + most + " clauses that ask the model, as many as this cluster allows: ask for"
                    + " less at once, or raise the cluster setting [genrecall.max_clauses]"
            );
        }
    }

    /** One of its own where nothing is known of the request. */
    private RequestRoom room(@Nullable IndicesRequest request) {
        return request == null ? new RequestRoom() : rooms.computeIfAbsent(request, asking -> new RequestRoom());
    }

    /** @throws IllegalArgumentException where a node of the cluster cannot be sent a clause with {@code order_within} */
    public void checkOrdered() {
        formats.checkOrdered();
    }

    /**
     * Tells the listener the SIDs by codebook (none where nothing is searched), or a {@link GenerationException}; once, and never throws.
     *
     * @param request  what is searched; null where it is not known
     * @param codebook asks for just this one, whatever the indices name; null: for theirs
     * @param timeout  of each call; null: the cluster's
     */
    public void generate(
        @Nullable IndicesRequest request,
        @Nullable String codebook,
        Prompt prompt,
        @Nullable TimeValue timeout,
        ActionListener<SortedMap<String, Generation>> listener
    ) {
        stats.asked();
        RequestRoom room = room(request);
        ActionListener<SortedMap<String, Generation>> told = counting(
            ActionListener.runBefore(listener, room.clauses::decrementAndGet)
        );
        IndexCodebooks.Searched codebooks;
        try {
            checkText(prompt);
            codebooks = codebook != null
                ? new IndexCodebooks.Searched(new TreeSet<>(Set.of(codebook)), new TreeSet<>())
                : indexCodebooks.of(request);
        } catch (Exception e) {
            told.onFailure(e);
            return;
        } catch (LinkageError e) {
            told.onFailure(GenerationException.of(Caller.CLAUSE, e));
            return;
        }
        if (codebooks.served().isEmpty()) {
            told.onResponse(new TreeMap<>());
            return;
        }
        TimeValue limit = timeout != null ? timeout : settings.timeout();
        GroupedActionListener<Map<String, Generation>> all = new GroupedActionListener<>(
            pool.continuing(Caller.CLAUSE, ActionListener.map(told, GenerationService::byCodebook)),
            codebooks.served().size() + codebooks.next().size()
        );
        for (String each : codebooks.served()) {
            cache.generate(each, prompt, limit, room).whenComplete((generation, failure) -> {
                if (failure == null) {
                    all.onResponse(Map.of(each, generation));
                } else {
                    all.onFailure(GenerationException.of(Caller.CLAUSE, failure));
                }
            });
        }
        for (String each : codebooks.next()) {
            cache.generate(each, prompt, limit, room)
                .whenComplete((generation, failure) -> all.onResponse(failure == null ? Map.of(each, generation) : Map.of()));
        }
    }

    /** A clause became what its {@code on_failure} says: the response has a header that warns of it. */
    public void fellBack(GenerationException failure) {
        stats.fellBack();
        HeaderWarning.addWarning("[generative] no SIDs (" + failure.kind().key() + "): [on_failure] took the place of a clause");
    }

    private static SortedMap<String, Generation> byCodebook(Collection<Map<String, Generation>> some) {
        SortedMap<String, Generation> generations = new TreeMap<>();
        some.forEach(generations::putAll);
        return generations;
    }

    /** Counts what goes wrong, and passes everything on, once. */
    private <T> ActionListener<T> counting(ActionListener<T> listener) {
        return ActionListener.notifyOnce(new ActionListener<>() {
            @Override
            public void onResponse(T value) {
                listener.onResponse(value);
            }

            @Override
            public void onFailure(Exception e) {
                if (e instanceof GenerationException failure) {
                    stats.generate().failed(failure.kind());
                }
                listener.onFailure(e);
            }
        });
    }
}
