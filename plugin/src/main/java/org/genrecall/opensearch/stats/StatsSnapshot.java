package org.genrecall.opensearch.stats;

import org.genrecall.opensearch.generation.Formats;
import org.opensearch.core.common.io.stream.StreamInput;
import org.opensearch.core.common.io.stream.StreamOutput;
import org.opensearch.core.xcontent.ToXContentFragment;
import org.opensearch.core.xcontent.XContentBuilder;

import java.io.IOException;
import java.util.List;

/**
 * The counters at one moment.
 *
 * @param batched   questions that joined others in a call
 * @param fellBack  clauses that became what their {@code on_failure} says
 * @param generate  calls for clauses and dry runs
 * @param encoded   documents that got a SID
 * @param encode    calls for documents
 * @param endpoints the addresses of the inference server
 */
public record StatsSnapshot(
    long asked,
    long cacheHits,
    long coalesced,
    long batched,
    long fellBack,
    CallsSnapshot generate,
    long encoded,
    CallsSnapshot encode,
    List<EndpointSnapshot> endpoints
) implements ToXContentFragment {

    /** In the place of {@code asked}: a number of the form follows. The first form had none. */
    private static final long NUMBERED = Long.MAX_VALUE;

    static StatsSnapshot read(StreamInput in) throws IOException {
        long asked = in.readVLong();
        boolean first = asked != NUMBERED;
        if (first == false) {
            in.readVInt(); // a node writes what the oldest one reads: never a later form than this
            asked = in.readVLong();
        }
        return new StatsSnapshot(
            asked,
            in.readVLong(),
            in.readVLong(),
            first ? 0 : in.readVLong(),
            first ? 0 : in.readVLong(),
            new CallsSnapshot(in),
            in.readVLong(),
            new CallsSnapshot(in),
            first ? List.of() : in.readList(EndpointSnapshot::new)
        );
    }

    /** @param format what every node of the cluster reads, by {@link Formats} */
    void writeTo(StreamOutput out, int format) throws IOException {
        boolean first = format < Formats.NUMBERED_STATS;
        if (first == false) {
            out.writeVLong(NUMBERED);
            out.writeVInt(Formats.NUMBERED_STATS);
        }
        out.writeVLong(asked);
        out.writeVLong(cacheHits);
        out.writeVLong(coalesced);
        if (first == false) {
            out.writeVLong(batched);
            out.writeVLong(fellBack);
        }
        generate.writeTo(out);
        out.writeVLong(encoded);
        encode.writeTo(out);
        if (first == false) {
            out.writeList(endpoints);
        }
    }

    @Override
    public XContentBuilder toXContent(XContentBuilder builder, Params params) throws IOException {
        builder.field("asked", asked);
        builder.field("cache_hits", cacheHits);
        builder.field("coalesced", coalesced);
        builder.field("batched", batched);
        builder.field("fell_back", fellBack);
        generate.toXContent(builder, params);
        builder.startObject("ingest").field("encoded", encoded);
        encode.toXContent(builder, params).endObject();
        return builder.field("endpoints", endpoints);
    }
}
