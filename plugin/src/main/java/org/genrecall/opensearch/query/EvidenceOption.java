package org.genrecall.opensearch.query;

import org.opensearch.core.ParseField;
import org.opensearch.core.common.io.stream.StreamInput;
import org.opensearch.core.common.io.stream.StreamOutput;
import org.opensearch.core.xcontent.ObjectParser;
import org.opensearch.core.xcontent.XContentBuilder;
import org.opensearch.core.xcontent.XContentParser;
import org.opensearch.search.SearchExtBuilder;

import java.io.IOException;

/** {@code "ext": {"generative": {"evidence": true}}} of a search request: its hits say why the clause found them. */
public final class EvidenceOption extends SearchExtBuilder {

    public static final String NAME = GenerativeQueryBuilder.NAME;

    private static final ObjectParser<boolean[], Void> PARSER = new ObjectParser<>(NAME, () -> new boolean[1]);
    static {
        PARSER.declareBoolean((wanted, value) -> wanted[0] = value, new ParseField("evidence"));
    }

    private final boolean wanted;

    private EvidenceOption(boolean wanted) {
        this.wanted = wanted;
    }

    public EvidenceOption(StreamInput in) throws IOException {
        this(in.readBoolean());
    }

    @Override
    public void writeTo(StreamOutput out) throws IOException {
        out.writeBoolean(wanted);
    }

    public static EvidenceOption fromXContent(XContentParser parser) throws IOException {
        return new EvidenceOption(PARSER.parse(parser, null)[0]);
    }

    boolean wanted() {
        return wanted;
    }

    @Override
    public XContentBuilder toXContent(XContentBuilder builder, Params params) throws IOException {
        return builder.startObject(NAME).field("evidence", wanted).endObject();
    }

    @Override
    public String getWriteableName() {
        return NAME;
    }

    @Override
    public boolean equals(Object other) {
        return other instanceof EvidenceOption that && wanted == that.wanted;
    }

    @Override
    public int hashCode() {
        return Boolean.hashCode(wanted);
    }
}
