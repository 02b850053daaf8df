package org.genrecall.opensearch.generation;

import org.genrecall.opensearch.generation.GenerationException.Kind;
import org.opensearch.action.IndicesRequest;
import org.opensearch.action.support.IndicesOptions;
import org.opensearch.cluster.ClusterState;
import org.opensearch.cluster.metadata.IndexMetadata;
import org.opensearch.cluster.metadata.IndexNameExpressionResolver;
import org.opensearch.cluster.metadata.MappingMetadata;
import org.opensearch.cluster.service.ClusterService;
import org.opensearch.common.Nullable;
import org.opensearch.common.cache.Cache;
import org.opensearch.common.cache.CacheBuilder;
import org.opensearch.core.index.Index;

import java.util.Arrays;
import java.util.Map;
import java.util.SortedSet;
import java.util.TreeSet;

/**
 * Which codebook an index names: {@code _meta.genrecall.codebook} in its mapping, and while its alias is about to move to the
 * index of another codebook, {@code _meta.genrecall.next}.
 */
public final class IndexCodebooks {

    private static final Named NONE = new Named(null, null);

    /** What one mapping says. */
    private record Named(@Nullable String codebook, @Nullable String next) {}

    /**
     * What a search is to ask in.
     *
     * @param served the codebooks of the indices searched
     * @param next   further ones that are announced: an alias may move between this look and the search itself, and the SIDs of
     *               {@code served} are then of no use. They are worth asking for and not worth failing for.
     */
    record Searched(SortedSet<String> served, SortedSet<String> next) {}

    /** A mapping is parsed at each look-up otherwise. The version is part of the key, so that nothing need be forgotten. */
    private record MappingKey(String indexUuid, long mappingVersion) {}

    private final ClusterService clusterService;
    private final IndexNameExpressionResolver resolver;
    private final Cache<MappingKey, Named> known = CacheBuilder.<MappingKey, Named>builder()
        .setMaximumWeight(10_000)
        .build();

    public IndexCodebooks(ClusterService clusterService, IndexNameExpressionResolver resolver) {
        this.clusterService = clusterService;
        this.resolver = resolver;
    }

    /** The codebook in a mapping's {@code _meta}; null where it names none. */
    @Nullable
    public static String named(@Nullable Map<?, ?> meta) {
        return named(meta, "codebook");
    }

    private static String named(@Nullable Map<?, ?> meta, String key) {
        return meta != null && meta.get("genrecall") instanceof Map<?, ?> genrecall && genrecall.get(key) instanceof String name ? name : null;
    }

    /**
     * The codebooks of the indices that a request is for, those of remote clusters left out; none where nothing is searched,
     * as by a pattern without a match.
     *
     * @throws GenerationException where something is searched and none of it names a codebook
     */
    Searched of(@Nullable IndicesRequest request) {
        if (request == null) {
            throw none("");
        }
        ClusterState state = clusterService.state();
        Index[] indices = localIndices(state, request);
        SortedSet<String> served = new TreeSet<>();
        SortedSet<String> next = new TreeSet<>();
        for (Index index : indices) {
            Named named = named(state.metadata().index(index));
            if (named.codebook != null) {
                served.add(named.codebook);
            }
            if (named.next != null) {
                next.add(named.next);
            }
        }
        if (served.isEmpty() && (indices.length > 0 || remote(request))) {
            throw none(String.join(", ", request.indices()));
        }
        next.removeAll(served);
        return new Searched(served, next);
    }

    /**
     * The codebook of the index that a document written to {@code target} goes to.
     *
     * @param target an index, or an alias or a data stream with its write index
     * @throws GenerationException where there is no such index, or it names no codebook
     */
    public String ofWriteIndex(String target) {
        ClusterState state = clusterService.state();
        Index index;
        try {
            index = resolver.concreteWriteIndex(state, IndicesOptions.strictSingleIndexNoExpandForbidClosed(), target, false, true);
        } catch (Exception e) { // there is none, it is closed, or the alias has no write index
            throw noneToWrite("there is no index to write [" + target + "] to: " + e.getMessage(), e);
        }
        String codebook = named(state.metadata().index(index)).codebook;
        if (codebook == null) {
            throw noneToWrite("no codebook is named by the mapping (_meta.genrecall.codebook) of index [" + index.getName() + "]", null);
        }
        return codebook;
    }

    private static GenerationException noneToWrite(String why, @Nullable Exception cause) {
        String remedy = ". Create it with a codebook, as `genrecall index` does, or give [codebook] in the processor";
        return new GenerationException(Caller.PROCESSOR, Kind.NO_CODEBOOK, why + remedy, cause);
    }

    private Named named(@Nullable IndexMetadata index) {
        MappingMetadata mapping = index == null ? null : index.mapping();
        if (mapping == null) {
            return NONE;
        }
        MappingKey key = new MappingKey(index.getIndexUUID(), index.getMappingVersion());
        Named named = known.get(key);
        if (named == null) {
            Map<?, ?> meta = (Map<?, ?>) mapping.sourceAsMap().get("_meta");
            named = new Named(named(meta, "codebook"), named(meta, "next"));
            known.put(key, named);
        }
        return named;
    }

    private static GenerationException none(String searched) {
        return new GenerationException(
            Caller.CLAUSE,
            Kind.NO_CODEBOOK,
            "no codebook is named by the mapping (_meta.genrecall.codebook) of the indices searched [" + searched
                + "]. Search an index that was loaded with SIDs; for an index of a remote cluster give [codebook] in the clause",
            null
        );
    }

    private Index[] localIndices(ClusterState state, IndicesRequest request) {
        if (remote(request) == false) {
            return resolver.concreteIndices(state, request);
        }
        String[] local = Arrays.stream(request.indices()).filter(name -> isRemote(name) == false).toArray(String[]::new);
        return local.length == 0
            ? Index.EMPTY_ARRAY
            : resolver.concreteIndices(state, request.indicesOptions(), request.includeDataStreams(), local);
    }

    private static boolean remote(IndicesRequest request) {
        return request.indices() != null && Arrays.stream(request.indices()).anyMatch(IndexCodebooks::isRemote);
    }

    /** {@code cluster:index}; a date expression such as {@code <logs-{now/d{HH:mm}}>} has colons of its own. */
    private static boolean isRemote(String name) {
        return name.indexOf(':') > 0 && name.startsWith("<") == false;
    }
}
