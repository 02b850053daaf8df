package org.genrecall.opensearch.stats;

import org.genrecall.opensearch.generation.GenerationException.Kind;
import org.opensearch.core.common.io.stream.StreamInput;
import org.opensearch.core.common.io.stream.StreamOutput;
import org.opensearch.core.common.io.stream.Writeable;
import org.opensearch.core.xcontent.ToXContentFragment;
import org.opensearch.core.xcontent.XContentBuilder;

import java.io.IOException;

/**
 * The counters at one moment.
 *
 * @param callsByLatency calls up to each of {@link #LATENCY_BOUNDS_MS}, then those beyond
 * @param failures       by {@link Kind}, in its order
 */
public record StatsSnapshot(
    long asked,
    long cacheHits,
    long coalesced,
    long calls,
    long callMicros,
    long[] callsByLatency,
    long[] failures
) implements Writeable, ToXContentFragment {

    static final long[] LATENCY_BOUNDS_MS = { 1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000 };

    public StatsSnapshot(StreamInput in) throws IOException {
        this(
            in.readVLong(),
            in.readVLong(),
            in.readVLong(),
            in.readVLong(),
            in.readVLong(),
            in.readVLongArray(),
            in.readVLongArray()
        );
    }

    @Override
    public void writeTo(StreamOutput out) throws IOException {
        out.writeVLong(asked);
        out.writeVLong(cacheHits);
        out.writeVLong(coalesced);
        out.writeVLong(calls);
        out.writeVLong(callMicros);
        out.writeVLongArray(callsByLatency);
        out.writeVLongArray(failures);
    }

    @Override
    public XContentBuilder toXContent(XContentBuilder builder, Params params) throws IOException {
        builder.field("asked", asked);
        builder.field("cache_hits", cacheHits);
        builder.field("coalesced", coalesced);
        builder.startObject("failures");
        for (Kind kind : Kind.values()) {
            builder.field(kind.key(), kind.ordinal() < failures.length ? failures[kind.ordinal()] : 0);
        }
        builder.endObject();
        builder.startObject("calls");
        builder.field("count", calls);
        builder.field("mean_ms", calls == 0 ? 0 : callMicros / 1_000.0 / calls);
        builder.startObject("latency_ms");
        for (int i = 0; i < callsByLatency.length; i++) {
            String upTo = i < LATENCY_BOUNDS_MS.length ? "le_" + LATENCY_BOUNDS_MS[i] : "more";
            builder.field(upTo, callsByLatency[i]);
        }
        return builder.endObject().endObject();
    }
}
