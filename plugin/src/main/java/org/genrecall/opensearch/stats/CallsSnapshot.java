package org.genrecall.opensearch.stats;

import org.genrecall.opensearch.generation.GenerationException.Kind;
import org.opensearch.core.common.io.stream.StreamInput;
import org.opensearch.core.common.io.stream.StreamOutput;
import org.opensearch.core.common.io.stream.Writeable;
import org.opensearch.core.xcontent.ToXContentFragment;
import org.opensearch.core.xcontent.XContentBuilder;

import java.io.IOException;
import java.util.Arrays;

/**
 * {@link CallCounters} at one moment.
 *
 * @param byLatency calls up to each of {@link #LATENCY_BOUNDS_MS}, then those beyond
 * @param failures  by {@link Kind}, in its order
 */
public record CallsSnapshot(long count, long micros, long[] byLatency, long[] failures) implements Writeable, ToXContentFragment {

    static final long[] LATENCY_BOUNDS_MS = { 1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000 };

    private static final int[] PERCENTILES = { 50, 90, 99 };

    CallsSnapshot(StreamInput in) throws IOException {
        this(in.readVLong(), in.readVLong(), in.readVLongArray(), in.readVLongArray());
    }

    @Override
    public void writeTo(StreamOutput out) throws IOException {
        out.writeVLong(count);
        out.writeVLong(micros);
        out.writeVLongArray(byLatency);
        out.writeVLongArray(failures);
    }

    public long failures(Kind kind) {
        return kind.ordinal() < failures.length ? failures[kind.ordinal()] : 0;
    }

    /** In milliseconds, as if the calls of a range were spread evenly over it; of those beyond the last bound, that bound. */
    double percentile(int percent) {
        double wanted = Arrays.stream(byLatency).sum() * percent / 100.0;
        double below = 0;
        for (int i = 0; i < byLatency.length && i < LATENCY_BOUNDS_MS.length; i++) {
            if (byLatency[i] > 0 && below + byLatency[i] >= wanted) {
                long from = i == 0 ? 0 : LATENCY_BOUNDS_MS[i - 1];
                return from + (LATENCY_BOUNDS_MS[i] - from) * (wanted - below) / byLatency[i];
            }
            below += byLatency[i];
        }
        return wanted == 0 ? 0 : LATENCY_BOUNDS_MS[LATENCY_BOUNDS_MS.length - 1];
    }

    @Override
    public XContentBuilder toXContent(XContentBuilder builder, Params params) throws IOException {
        builder.startObject("failures");
        for (Kind kind : Kind.values()) {
            builder.field(kind.key(), failures(kind));
        }
        builder.endObject();
        builder.startObject("calls");
        builder.field("count", count);
        builder.field("mean_ms", count == 0 ? 0 : micros / 1_000.0 / count);
        for (int percent : PERCENTILES) {
            builder.field("p" + percent + "_ms", percentile(percent));
        }
        builder.startObject("latency_ms");
        for (int i = 0; i < byLatency.length; i++) {
            String upTo = i < LATENCY_BOUNDS_MS.length ? "le_" + LATENCY_BOUNDS_MS[i] : "more";
            builder.field(upTo, byLatency[i]);
        }
        return builder.endObject().endObject();
    }
}
