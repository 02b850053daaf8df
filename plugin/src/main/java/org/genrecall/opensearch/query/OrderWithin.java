package org.genrecall.opensearch.query;

import org.opensearch.core.ParseField;
import org.opensearch.core.common.io.stream.StreamInput;
import org.opensearch.core.common.io.stream.StreamOutput;
import org.opensearch.core.common.io.stream.Writeable;
import org.opensearch.core.xcontent.ObjectParser;
import org.opensearch.core.xcontent.ToXContentObject;
import org.opensearch.core.xcontent.XContentBuilder;
import org.opensearch.core.xcontent.XContentParser;
import org.opensearch.index.query.AbstractQueryBuilder;
import org.opensearch.index.query.QueryBuilder;
import org.opensearch.index.query.QueryRewriteContext;

import java.io.IOException;

/** What orders the items of the generated SIDs: {@code weight} times the score of {@code query}, 0 where it does not match. */
record OrderWithin(QueryBuilder query, float weight) implements Writeable, ToXContentObject {

    static final ParseField QUERY = new ParseField("query");
    static final ParseField WEIGHT = new ParseField("weight");

    /** As it was written, unchecked: the object parser would bury a message thrown inside it. */
    static final class Draft {
        private static final ObjectParser<Draft, Void> PARSER = new ObjectParser<>("order_within", Draft::new);
        static {
            PARSER.declareObject((draft, value) -> draft.query = value, (json, unused) -> parseQuery(json), QUERY);
            PARSER.declareFloat((draft, value) -> draft.weight = value, WEIGHT);
        }
        /** Set while the query is parsed, so that a clause within it, however deep, is noticed. */
        private static final ThreadLocal<Boolean> PARSING = new ThreadLocal<>();

        private QueryBuilder query;
        private float weight = 1;

        static Draft parse(XContentParser parser) throws IOException {
            return PARSER.parse(parser, null);
        }

        private static QueryBuilder parseQuery(XContentParser parser) throws IOException {
            PARSING.set(true);
            try {
                return AbstractQueryBuilder.parseInnerQueryBuilder(parser);
            } finally {
                PARSING.remove();
            }
        }

        static boolean isParsing() {
            return PARSING.get() != null;
        }

        OrderWithin orderWithin() {
            if (query == null) {
                throw new IllegalArgumentException(
                    "[generative] order_within has no query: write {\"query\": {\"match\": {\"title\": \"...\"}}, \"weight\": 1}"
                );
            }
            return new OrderWithin(query, weight);
        }
    }

    OrderWithin {
        if (Float.isFinite(weight) == false || weight < 0) {
            throw new IllegalArgumentException(
                "[generative] order_within: weight [" + weight + "] is out of range: it must be finite and not negative"
            );
        }
    }

    OrderWithin(StreamInput in) throws IOException {
        this(in.readNamedWriteable(QueryBuilder.class), in.readFloat());
    }

    @Override
    public void writeTo(StreamOutput out) throws IOException {
        out.writeNamedWriteable(query);
        out.writeFloat(weight);
    }

    /** Itself where nothing changes. */
    OrderWithin rewrite(QueryRewriteContext context) throws IOException {
        QueryBuilder rewritten = query.rewrite(context);
        return rewritten == query ? this : new OrderWithin(rewritten, weight);
    }

    @Override
    public XContentBuilder toXContent(XContentBuilder builder, Params params) throws IOException {
        return builder.startObject().field(QUERY.getPreferredName(), query).field(WEIGHT.getPreferredName(), weight).endObject();
    }
}
