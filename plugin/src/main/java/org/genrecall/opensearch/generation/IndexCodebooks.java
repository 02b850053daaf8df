package org.genrecall.opensearch.generation;

import org.opensearch.action.IndicesRequest;
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

    /** The codebooks of the indices that a request is for, those of remote clusters left out. */
    SortedSet<String> of(IndicesRequest request) {
        ClusterState state = clusterService.state();
        SortedSet<String> codebooks = new TreeSet<>();
        for (Index index : localIndices(state, request)) {
            IndexMetadata metadata = state.metadata().index(index);
            MappingMetadata mapping = metadata == null ? null : metadata.mapping();
            if (mapping != null) {
                MappingKey key = new MappingKey(index.getUUID(), metadata.getMappingVersion());
                Optional<String> codebook = known.get(key);
                if (codebook == null) {
                    codebook = Optional.ofNullable(named((Map<?, ?>) mapping.sourceAsMap().get("_meta")));
                    known.put(key, codebook);
                }
                codebook.ifPresent(codebooks::add);
            }
        }
        return codebooks;
    }

    private Index[] localIndices(ClusterState state, IndicesRequest request) {
        if (request.indices() == null || Arrays.stream(request.indices()).noneMatch(IndexCodebooks::isRemote)) {
            return resolver.concreteIndices(state, request);
        }
        String[] local = Arrays.stream(request.indices()).filter(name -> isRemote(name) == false).toArray(String[]::new);
        return local.length == 0
            ? Index.EMPTY_ARRAY
            : resolver.concreteIndices(state, request.indicesOptions(), request.includeDataStreams(), local);
    }

    /** {@code cluster:index}; a date expression such as {@code <logs-{now/d{HH:mm}}>} has colons of its own. */
    private static boolean isRemote(String name) {
        return name.indexOf(':') > 0 && name.startsWith("<") == false;
    }
}
