package org.genrecall.opensearch.stats;

import org.opensearch.common.Nullable;
import org.opensearch.core.common.io.stream.StreamInput;
import org.opensearch.core.common.io.stream.StreamOutput;
import org.opensearch.core.common.io.stream.Writeable;
import org.opensearch.core.xcontent.ToXContentObject;
import org.opensearch.core.xcontent.XContentBuilder;

import java.io.IOException;

/**
 * An address of the inference server as one node sees it.
 *
 * @param connection as gRPC calls its states: {@code idle}, {@code connecting}, {@code ready}, {@code transient_failure}, {@code shutdown}
 * @param circuit    {@code closed}: it is asked; {@code open}: it is not; {@code half_open}: one call tries it
 * @param answered   calls, with an error or without
 * @param failed     calls without an answer
 */
public record EndpointSnapshot(
    String address,
    String connection,
    String circuit,
    long answered,
    long failed,
    @Nullable String lastFailure
) implements Writeable, ToXContentObject {

    EndpointSnapshot(StreamInput in) throws IOException {
        this(in.readString(), in.readString(), in.readString(), in.readVLong(), in.readVLong(), in.readOptionalString());
    }

    @Override
    public void writeTo(StreamOutput out) throws IOException {
        out.writeString(address);
        out.writeString(connection);
        out.writeString(circuit);
        out.writeVLong(answered);
        out.writeVLong(failed);
        out.writeOptionalString(lastFailure);
    }

    @Override
    public XContentBuilder toXContent(XContentBuilder builder, Params params) throws IOException {
        builder.startObject().field("address", address).field("connection", connection).field("circuit", circuit);
        builder.field("answered", answered).field("failed", failed);
        if (lastFailure != null) {
            builder.field("last_failure", lastFailure);
        }
        return builder.endObject();
    }
}
