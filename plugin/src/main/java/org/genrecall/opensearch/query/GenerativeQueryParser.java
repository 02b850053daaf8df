package org.genrecall.opensearch.query;

import org.genrecall.opensearch.generation.GenerationService;
import org.genrecall.opensearch.generation.PromptDraft;
import org.opensearch.core.ParseField;
import org.opensearch.core.common.ParsingException;
import org.opensearch.core.xcontent.ObjectParser;
import org.opensearch.core.xcontent.XContentParser;
import org.opensearch.index.query.AbstractQueryBuilder;

import java.io.IOException;
import java.util.List;
import java.util.function.Supplier;

/** JSON to {@link GenerativeQueryBuilder}. */
final class GenerativeQueryParser {

    static final ParseField SIDS = new ParseField("sids");
    static final ParseField ON_FAILURE = new ParseField("on_failure");
    static final ParseField MIN_SCORE = new ParseField("min_score");
    static final ParseField IGNORE_UNMAPPED = new ParseField("ignore_unmapped");
    static final ParseField ORDER_WITHIN = new ParseField("order_within");

    private static final String FORM = ": write {\"generative\": {\"FIELD\": {\"query_text\": \"...\"}}}";

    private static final ObjectParser<Body, Void> BODY = new ObjectParser<>(GenerativeQueryBuilder.NAME, Body::new);
    static {
        PromptDraft.declare(BODY);
        BODY.declareFieldArray(
            (body, value) -> body.sids = value,
            (parser, unused) -> GivenSids.Entry.parse(parser),
            SIDS,
            ObjectParser.ValueType.OBJECT_ARRAY_OR_STRING
        );
        BODY.declareField(Body::parseOnFailure, ON_FAILURE, ObjectParser.ValueType.OBJECT_OR_STRING);
        BODY.declareObject((body, value) -> body.orderWithin = value, (parser, unused) -> OrderWithin.Draft.parse(parser), ORDER_WITHIN);
        BODY.declareFloat((body, value) -> body.minScore = value, MIN_SCORE);
        BODY.declareBoolean((body, value) -> body.ignoreUnmapped = value, IGNORE_UNMAPPED);
        BODY.declareFloat((body, value) -> body.boost = value, AbstractQueryBuilder.BOOST_FIELD);
        BODY.declareString((body, value) -> body.queryName = value, AbstractQueryBuilder.NAME_FIELD);
    }

    private GenerativeQueryParser() {}

    /** Reads {@code {"FIELD": {...}}}; the clause's own name is read already. */
    static GenerativeQueryBuilder parse(XContentParser parser, Supplier<GenerationService> service) throws IOException {
        if (OrderWithin.Draft.isParsing()) {
            throw new ParsingException(
                parser.getTokenLocation(),
                "[generative] order_within: its query holds another [generative]: combine two clauses by a [bool] or [hybrid] around them"
            );
        }
        if (parser.nextToken() != XContentParser.Token.FIELD_NAME) {
            throw new ParsingException(parser.getTokenLocation(), "[generative] names no field" + FORM);
        }
        String field = parser.currentName();
        if (parser.nextToken() != XContentParser.Token.START_OBJECT) {
            throw new ParsingException(parser.getTokenLocation(), "[generative] [" + field + "] is not an object" + FORM);
        }
        Body body = BODY.parse(parser, null);
        if (parser.nextToken() != XContentParser.Token.END_OBJECT) {
            throw new ParsingException(
                parser.getTokenLocation(),
                "[generative] takes one field, found [" + field + "] and [" + parser.currentName() + "]: write a clause for each"
            );
        }
        return body.build(field, service);
    }

    private static final class Body extends PromptDraft {
        private List<GivenSids.Entry> sids;
        private OnFailure onFailure = OnFailure.FAIL;
        private String onFailureName;
        private OrderWithin.Draft orderWithin;
        private float minScore = 0;
        private boolean ignoreUnmapped = false;
        private float boost = AbstractQueryBuilder.DEFAULT_BOOST;
        private String queryName;

        private static void parseOnFailure(XContentParser parser, Body body, Void unused) throws IOException {
            body.option(ON_FAILURE);
            if (parser.currentToken() == XContentParser.Token.START_OBJECT) {
                body.onFailure = OnFailure.query(AbstractQueryBuilder.parseInnerQueryBuilder(parser));
            } else {
                body.onFailureName = parser.text();
            }
        }

        GenerativeQueryBuilder build(String field, Supplier<GenerationService> service) {
            if (hasText() == (sids != null)) {
                String found = hasText() ? "has both query_text and sids" : "has neither query_text nor sids";
                throw new IllegalArgumentException("[generative] " + found + ": give one of them");
            }
            GenerativeQueryBuilder query = hasText() ? prompting(field, service) : given(field, service);
            return query.minScore(minScore).ignoreUnmapped(ignoreUnmapped).boost(boost).queryName(queryName);
        }

        private GenerativeQueryBuilder prompting(String field, Supplier<GenerationService> service) {
            return new GenerativeQueryBuilder(field, prompt(), order(), service).codebook(codebook())
                .timeout(timeout())
                .onFailure(onFailureName == null ? onFailure : OnFailure.named(onFailureName));
        }

        private GenerativeQueryBuilder given(String field, Supplier<GenerationService> service) {
            if (options().isEmpty() == false) {
                throw new IllegalArgumentException("[generative] " + options() + " belong to query_text, not to sids: leave them out");
            }
            return new GenerativeQueryBuilder(field, GivenSids.byCodebook(sids, codebook()), order(), service);
        }

        private OrderWithin order() {
            return orderWithin == null ? null : orderWithin.orderWithin();
        }
    }
}
