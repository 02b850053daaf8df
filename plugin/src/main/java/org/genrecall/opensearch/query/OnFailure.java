package org.genrecall.opensearch.query;

import org.opensearch.common.Nullable;
import org.opensearch.core.common.io.stream.StreamInput;
import org.opensearch.core.common.io.stream.StreamOutput;
import org.opensearch.core.common.io.stream.Writeable;
import org.opensearch.core.xcontent.ToXContentFragment;
import org.opensearch.core.xcontent.XContentBuilder;
import org.opensearch.index.query.MatchNoneQueryBuilder;
import org.opensearch.index.query.QueryBuilder;

import java.io.IOException;
import java.util.Locale;

/** What a clause without SIDs becomes: an error, nothing, or another query ({@code fallback}, given just then). */
record OnFailure(Mode mode, @Nullable QueryBuilder fallback) implements Writeable, ToXContentFragment {

    enum Mode {
        FAIL,
        MATCH_NONE,
        QUERY
    }

    static final OnFailure FAIL = new OnFailure(Mode.FAIL, null);
    static final OnFailure MATCH_NONE = new OnFailure(Mode.MATCH_NONE, null);

    static OnFailure query(QueryBuilder fallback) {
        return new OnFailure(Mode.QUERY, fallback);
    }

    static OnFailure named(String name) {
        return switch (name) {
            case "fail" -> FAIL;
            case "match_none" -> MATCH_NONE;
            default -> throw new IllegalArgumentException(
                "[generative] on_failure [" + name + "] is unknown: write \"fail\", \"match_none\" or a query such as {\"match_all\": {}}"
            );
        };
    }

    OnFailure(StreamInput in) throws IOException {
        this(in.readEnum(Mode.class), in.readOptionalNamedWriteable(QueryBuilder.class));
    }

    @Override
    public void writeTo(StreamOutput out) throws IOException {
        out.writeEnum(mode);
        out.writeOptionalNamedWriteable(fallback);
    }

    /** The query in place of the clause; null: fail. */
    @Nullable
    QueryBuilder instead() {
        return switch (mode) {
            case FAIL -> null;
            case MATCH_NONE -> new MatchNoneQueryBuilder();
            case QUERY -> fallback;
        };
    }

    @Override
    public XContentBuilder toXContent(XContentBuilder builder, Params params) throws IOException {
        return mode == Mode.QUERY ? builder.value(fallback) : builder.value(mode.name().toLowerCase(Locale.ROOT));
    }
}
