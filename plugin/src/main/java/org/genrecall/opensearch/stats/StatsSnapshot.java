package org.genrecall.opensearch.stats;

import org.opensearch.core.common.io.stream.StreamInput;
import org.opensearch.core.common.io.stream.StreamOutput;
import org.opensearch.core.common.io.stream.Writeable;
import org.opensearch.core.xcontent.ToXContentFragment;
import org.opensearch.core.xcontent.XContentBuilder;

import java.io.IOException;

/**
 * The counters at one moment. On the wire what was added later comes last.
 *
 * @param generate calls for clauses and dry runs
 * @param encoded  documents that got a SID
 * @param encode   calls for documents
 */
public record StatsSnapshot(long asked, long cacheHits, long coalesced, CallsSnapshot generate, long encoded, CallsSnapshot encode)
    implements
        Writeable,
        ToXContentFragment {

    public StatsSnapshot(StreamInput in) throws IOException {
        this(in.readVLong(), in.readVLong(), in.readVLong(), new CallsSnapshot(in), in.readVLong(), new CallsSnapshot(in));
    }

    @Override
    public void writeTo(StreamOutput out) throws IOException {
        out.writeVLong(asked);
        out.writeVLong(cacheHits);
        out.writeVLong(coalesced);
        generate.writeTo(out);
        out.writeVLong(encoded);
        encode.writeTo(out);
    }

    @Override
    public XContentBuilder toXContent(XContentBuilder builder, Params params) throws IOException {
        builder.field("asked", asked);
        builder.field("cache_hits", cacheHits);
        builder.field("coalesced", coalesced);
        generate.toXContent(builder, params);
        builder.startObject("ingest").field("encoded", encoded);
        encode.toXContent(builder, params);
        return builder.endObject();
    }
}
