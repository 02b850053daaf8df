package org.genrecall.opensearch.query;

import org.genrecall.opensearch.generation.Generation;
import org.genrecall.opensearch.generation.GenerationService;
import org.genrecall.opensearch.generation.Prompt;
import org.genrecall.opensearch.generation.Sid;
import org.genrecall.opensearch.generation.UserContext;
import org.opensearch.common.unit.TimeValue;
import org.opensearch.core.ParseField;
import org.opensearch.core.common.ParsingException;
import org.opensearch.core.xcontent.ObjectParser;
import org.opensearch.core.xcontent.XContentParser;
import org.opensearch.index.query.AbstractQueryBuilder;

import java.io.IOException;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.SortedMap;
import java.util.TreeMap;
import java.util.function.Supplier;
import java.util.stream.IntStream;

/**
 * JSON to {@link GenerativeQueryBuilder}. The values are checked after parsing, in {@link Body#build}, since the object
 * parser would bury a message thrown inside it.
 */
final class GenerativeQueryParser {

    static final ParseField QUERY_TEXT = new ParseField("query_text");
    static final ParseField SIDS = new ParseField("sids");
    static final ParseField SID = new ParseField("sid");
    static final ParseField SCORE = new ParseField("score");
    static final ParseField CODEBOOK = new ParseField("codebook");
    static final ParseField K = new ParseField("k");
    static final ParseField BEAM_WIDTH = new ParseField("beam_width");
    static final ParseField USER = new ParseField("user");
    static final ParseField TIMEOUT = new ParseField("timeout");
    static final ParseField ON_FAILURE = new ParseField("on_failure");
    static final ParseField MIN_SCORE = new ParseField("min_score");
    static final ParseField IGNORE_UNMAPPED = new ParseField("ignore_unmapped");

    private static final TimeValue MAX_TIMEOUT = TimeValue.timeValueSeconds(60);

    private static final ObjectParser<GivenSid, Void> GIVEN_SID = new ObjectParser<>("sids", GivenSid::new);
    static {
        GIVEN_SID.declareString((given, value) -> given.term = value, SID);
        GIVEN_SID.declareFloat((given, value) -> given.score = value, SCORE);
    }

    private static final ObjectParser<Body, Void> BODY = new ObjectParser<>(GenerativeQueryBuilder.NAME, Body::new);
    static {
        BODY.declareString((body, value) -> body.queryText = value, QUERY_TEXT);
        BODY.declareFieldArray(
            (body, value) -> body.sids = value,
            (parser, unused) -> GivenSid.parse(parser),
            SIDS,
            ObjectParser.ValueType.OBJECT_ARRAY_OR_STRING
        );
        BODY.declareString((body, value) -> body.codebook = value, CODEBOOK);
        BODY.declareInt((body, value) -> body.prompted(K).k = value, K);
        BODY.declareInt((body, value) -> body.prompted(BEAM_WIDTH).beamWidth = value, BEAM_WIDTH);
        BODY.declareObject((body, value) -> body.prompted(USER).user = value, (parser, unused) -> UserContext.parse(parser), USER);
        BODY.declareString((body, value) -> body.prompted(TIMEOUT).timeout = value, TIMEOUT);
        BODY.declareField(Body::parseOnFailure, ON_FAILURE, ObjectParser.ValueType.OBJECT_OR_STRING);
        BODY.declareFloat((body, value) -> body.minScore = value, MIN_SCORE);
        BODY.declareBoolean((body, value) -> body.ignoreUnmapped = value, IGNORE_UNMAPPED);
        BODY.declareFloat((body, value) -> body.boost = value, AbstractQueryBuilder.BOOST_FIELD);
        BODY.declareString((body, value) -> body.queryName = value, AbstractQueryBuilder.NAME_FIELD);
    }

    private GenerativeQueryParser() {}

    /** Reads {@code {"FIELD": {...}}}; the clause's own name is read already. */
    static GenerativeQueryBuilder parse(XContentParser parser, Supplier<GenerationService> service) throws IOException {
        if (parser.nextToken() != XContentParser.Token.FIELD_NAME) {
            throw new ParsingException(
                parser.getTokenLocation(),
                "[generative] names no field: write {\"generative\": {\"FIELD\": {\"query_text\": \"...\"}}}"
            );
        }
        String field = parser.currentName();
        if (parser.nextToken() != XContentParser.Token.START_OBJECT) {
            throw new ParsingException(
                parser.getTokenLocation(),
                "[generative] [" + field + "] is not an object: write {\"generative\": {\"FIELD\": {\"query_text\": \"...\"}}}"
            );
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

    private static final class GivenSid {
        private String term;
        private float score = 1;

        static GivenSid parse(XContentParser parser) throws IOException {
            if (parser.currentToken() == XContentParser.Token.START_OBJECT) {
                return GIVEN_SID.parse(parser, null);
            }
            GivenSid given = new GivenSid();
            given.term = parser.text();
            return given;
        }

        Sid sid() {
            if (term == null) {
                throw new IllegalArgumentException("[generative] sids: an entry has no [sid]: write {\"sid\": \"v7/12/40/733\", \"score\": 0.5}");
            }
            if (Float.isFinite(score) == false || score < 0) {
                throw new IllegalArgumentException("[generative] sids: score [" + score + "] of [" + term + "] must be finite and not negative");
            }
            try {
                return Sid.parse(term);
            } catch (IllegalArgumentException e) {
                throw new IllegalArgumentException("[generative] sids: " + e.getMessage());
            }
        }
    }

    /** What was written, unchecked. */
    private static final class Body {
        private String queryText;
        private List<GivenSid> sids;
        private String codebook;
        private int k = Prompt.DEFAULT_K;
        private int beamWidth = 0;
        private UserContext user = UserContext.NOBODY;
        private String timeout;
        private OnFailure onFailure = OnFailure.FAIL;
        private String onFailureName;
        private float minScore = 0;
        private boolean ignoreUnmapped = false;
        private float boost = AbstractQueryBuilder.DEFAULT_BOOST;
        private String queryName;
        /** Options that mean something for query_text only. */
        private final Set<String> prompted = new LinkedHashSet<>();

        private Body prompted(ParseField option) {
            prompted.add(option.getPreferredName());
            return this;
        }

        private static void parseOnFailure(XContentParser parser, Body body, Void unused) throws IOException {
            body.prompted(ON_FAILURE);
            if (parser.currentToken() == XContentParser.Token.START_OBJECT) {
                body.onFailure = OnFailure.query(OnFailure.parseQuery(parser));
            } else {
                body.onFailureName = parser.text();
            }
        }

        GenerativeQueryBuilder build(String field, Supplier<GenerationService> service) {
            if ((queryText == null) == (sids == null)) {
                throw new IllegalArgumentException(
                    "[generative] " + (sids == null ? "has neither query_text nor sids" : "has both query_text and sids") + ": give one of them"
                );
            }
            if (codebook != null && Sid.isCodebook(codebook) == false) {
                throw new IllegalArgumentException(
                    "[generative] codebook [" + codebook + "] is not a valid name: use 1 to 64 letters, digits, '.', '_' or '-', such as v7"
                );
            }
            GenerativeQueryBuilder query = sids != null ? given(field) : prompt(field, service);
            return query.minScore(minScore).ignoreUnmapped(ignoreUnmapped).boost(boost).queryName(queryName);
        }

        private GenerativeQueryBuilder prompt(String field, Supplier<GenerationService> service) {
            return new GenerativeQueryBuilder(field, new Prompt(queryText, k, beamWidth, user.validate()), service).codebook(codebook)
                .timeout(timeout == null ? null : duration(timeout))
                .onFailure(onFailureName == null ? onFailure : OnFailure.named(onFailureName));
        }

        private GenerativeQueryBuilder given(String field) {
            if (prompted.isEmpty() == false) {
                throw new IllegalArgumentException(
                    "[generative] " + prompted + " go with query_text, not with sids, which need no model: leave them out"
                );
            }
            return new GenerativeQueryBuilder(field, generations());
        }

        /** The given SIDs by codebook, each in the order given. */
        private SortedMap<String, Generation> generations() {
            if (sids.isEmpty() && codebook == null) {
                throw new IllegalArgumentException("[generative] sids is empty: give at least one, such as v7/12/40/733");
            }
            if (sids.size() > Prompt.MAX_K) {
                throw new IllegalArgumentException(
                    "[generative] sids has " + sids.size() + " entries: give " + Prompt.MAX_K + " or less"
                );
            }
            SortedMap<String, Map<Sid, Float>> scores = new TreeMap<>();
            if (codebook != null) {
                scores.put(codebook, new LinkedHashMap<>());
            }
            for (GivenSid given : sids) {
                Sid sid = given.sid();
                if (codebook != null && codebook.equals(sid.codebook()) == false) {
                    throw new IllegalArgumentException(
                        "[generative] sids: [" + given.term + "] is not of codebook [" + codebook + "]: leave codebook out to mix codebooks"
                    );
                }
                Float before = scores.computeIfAbsent(sid.codebook(), unused -> new LinkedHashMap<>()).put(sid, given.score);
                if (before != null) {
                    throw new IllegalArgumentException("[generative] sids: [" + given.term + "] is given twice: give it once");
                }
            }
            SortedMap<String, Generation> generations = new TreeMap<>();
            scores.forEach((name, entries) -> generations.put(name, generation(entries)));
            return generations;
        }

        private static Generation generation(Map<Sid, Float> scores) {
            int[] codes = scores.keySet().stream().flatMapToInt(sid -> IntStream.of(sid.c1(), sid.c2(), sid.c3())).toArray();
            float[] probabilities = new float[scores.size()];
            int rank = 0;
            for (float score : scores.values()) {
                probabilities[rank++] = score;
            }
            return new Generation(codes, probabilities);
        }

        private static TimeValue duration(String text) {
            TimeValue timeout;
            try {
                timeout = TimeValue.parseTimeValue(text, TIMEOUT.getPreferredName());
            } catch (IllegalArgumentException e) {
                throw new IllegalArgumentException("[generative] timeout [" + text + "] is no duration: write a number and a unit, such as 40ms");
            }
            if (timeout.millis() < 1 || timeout.compareTo(MAX_TIMEOUT) > 0) {
                throw new IllegalArgumentException("[generative] timeout [" + text + "] is out of range: choose 1ms to " + MAX_TIMEOUT);
            }
            return timeout;
        }
    }
}
