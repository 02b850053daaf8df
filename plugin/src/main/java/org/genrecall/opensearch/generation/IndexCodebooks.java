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
import java.util.Optional;
import java.util.SortedSet;
import java.util.TreeSet;

/** Which codebook an index names: {@code _meta.genrecall.codebook} in its mapping. */
public final class IndexCodebooks {

    /** A mapping is parsed at each look-up otherwise. The version is part of the key, so that nothing need be forgotten. */
    private record MappingKey(String indexUuid, long mappingVersion) {}

    private final ClusterService clusterService;
    private final IndexNameExpressionResolver resolver;
    private final Cache<MappingKey, Optional<String>> known = CacheBuilder.<MappingKey, Optional<String>>builder()
        .setMaximumWeight(10_000)
        .build();

    public IndexCodebooks(ClusterService clusterService, IndexNameExpressionResolver resolver) {
        this.clusterService = clusterService;
        this.resolver = resolver;
    }

    /** The codebook in a mapping's {@code _meta}; null where it names none. */
    @Nullable
    public static String named(@Nullable Map<?, ?> meta) {
        return meta != null && meta.get("genrecall") instanceof Map<?, ?> genrecall && genrecall.get("codebook") instanceof String codebook
            ? codebook
            : null;
    }

    /**
     * The codebooks of the indices that a request is for, those of remote clusters left out; none where nothing is searched,
     * as by a pattern without a match.
     *
     * @throws GenerationException where something is searched and none of it names a codebook
     */
    SortedSet<String> of(@Nullable IndicesRequest request) {
        if (request == null) {
            throw none("");
        }
        ClusterState state = clusterService.state();
        Index[] indices = localIndices(state, request);
        SortedSet<String> codebooks = new TreeSet<>();
        for (Index index : indices) {
            codebook(state.metadata().index(index)).ifPresent(codebooks::add);
        }
        if (codebooks.isEmpty() && (indices.length > 0 || remote(request))) {
            throw none(String.join(", ", request.indices()));
        }
        return codebooks;
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
        return codebook(state.metadata().index(index)).orElseThrow(
            () -> noneToWrite("no codebook is named by the mapping (_meta.genrecall.codebook) of index [" + index.getName() + "]", null)
        );
    }

    private static GenerationException noneToWrite(String why, @Nullable Exception cause) {
        String remedy = ". Create it with a codebook, as `genrecall index` does, or give [codebook] in the processor";
        return new GenerationException(Caller.PROCESSOR, Kind.NO_CODEBOOK, why + remedy, cause);
    }

    private Optional<String> codebook(@Nullable IndexMetadata index) {
        MappingMetadata mapping = index == null ? null : index.mapping();
        if (mapping == null) {
            return Optional.empty();
        }
        MappingKey key = new MappingKey(index.getIndexUUID(), index.getMappingVersion());
        Optional<String> codebook = known.get(key);
        if (codebook == null) {
            codebook = Optional.ofNullable(named((Map<?, ?>) mapping.sourceAsMap().get("_meta")));
            known.put(key, codebook);
        }
        return codebook;
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
