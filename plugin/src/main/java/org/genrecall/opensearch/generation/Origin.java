package org.genrecall.opensearch.generation;

import io.grpc.Metadata;

import org.opensearch.common.Nullable;
import org.opensearch.common.util.concurrent.ThreadContext;
import org.opensearch.tasks.Task;

import java.util.List;
import java.util.Objects;
import java.util.stream.Collectors;

/**
 * The search or write that a call is made for, so that the server's log and spans name it.
 *
 * @param requestId   its {@code X-Opaque-Id}, the server's {@code x-request-id}
 * @param traceparent of W3C Trace Context
 */
public record Origin(@Nullable String requestId, @Nullable String traceparent) {

    public static final String TRACEPARENT = "traceparent";
    public static final Origin UNKNOWN = new Origin(null, null);

    private static final Metadata.Key<String> REQUEST_ID_KEY = Metadata.Key.of("x-request-id", Metadata.ASCII_STRING_MARSHALLER);
    private static final Metadata.Key<String> TRACEPARENT_KEY = Metadata.Key.of(TRACEPARENT, Metadata.ASCII_STRING_MARSHALLER);

    static Origin of(ThreadContext context) {
        return new Origin(context.getHeader(Task.X_OPAQUE_ID), context.getHeader(TRACEPARENT));
    }

    /** Of a call for several: all their ids, and the first trace. */
    static Origin of(List<Origin> origins) {
        String ids = origins.stream().map(Origin::requestId).filter(Objects::nonNull).distinct().collect(Collectors.joining(","));
        String trace = origins.stream().map(Origin::traceparent).filter(Objects::nonNull).findFirst().orElse(null);
        return new Origin(ids.isEmpty() ? null : ids, trace);
    }

    Metadata metadata() {
        Metadata metadata = new Metadata();
        put(metadata, REQUEST_ID_KEY, requestId);
        put(metadata, TRACEPARENT_KEY, traceparent);
        return metadata;
    }

    /** HTTP/2 takes printable ASCII alone. */
    private static void put(Metadata metadata, Metadata.Key<String> key, @Nullable String value) {
        if (value != null) {
            metadata.put(key, value.replaceAll("[^ -~]", "?"));
        }
    }
}
