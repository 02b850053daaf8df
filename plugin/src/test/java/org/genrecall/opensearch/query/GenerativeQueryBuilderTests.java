package org.genrecall.opensearch.query;

import org.apache.lucene.document.Field;
import org.apache.lucene.document.StringField;
import org.apache.lucene.index.DirectoryReader;
import org.apache.lucene.index.IndexReader;
import org.apache.lucene.index.IndexWriter;
import org.apache.lucene.index.IndexWriterConfig;
import org.apache.lucene.index.NoMergePolicy;
import org.apache.lucene.index.Term;
import org.apache.lucene.queries.function.FunctionScoreQuery;
import org.apache.lucene.search.BooleanClause;
import org.apache.lucene.search.BooleanQuery;
import org.apache.lucene.search.BoostQuery;
import org.apache.lucene.search.ConstantScoreQuery;
import org.apache.lucene.search.DisjunctionMaxQuery;
import org.apache.lucene.search.DoubleValuesSource;
import org.apache.lucene.search.MatchNoDocsQuery;
import org.apache.lucene.search.Query;
import org.apache.lucene.search.TermQuery;
import org.apache.lucene.store.Directory;
import org.genrecall.opensearch.GenrecallPlugin;
import org.genrecall.opensearch.generation.Generation;
import org.genrecall.opensearch.generation.Prompt;
import org.genrecall.opensearch.generation.UserContext;
import org.opensearch.ExceptionsHelper;
import org.opensearch.common.compress.CompressedXContent;
import org.opensearch.common.io.stream.BytesStreamOutput;
import org.opensearch.common.unit.TimeValue;
import org.opensearch.core.common.ParsingException;
import org.opensearch.core.common.io.stream.StreamInput;
import org.opensearch.core.xcontent.XContentParseException;
import org.opensearch.index.mapper.MapperService;
import org.opensearch.index.query.ConstantScoreQueryBuilder;
import org.opensearch.index.query.InnerHitContextBuilder;
import org.opensearch.index.query.MatchAllQueryBuilder;
import org.opensearch.index.query.QueryBuilder;
import org.opensearch.index.query.QueryBuilderVisitor;
import org.opensearch.index.query.QueryShardContext;
import org.opensearch.index.query.QueryShardException;
import org.opensearch.index.query.TermQueryBuilder;
import org.opensearch.plugins.Plugin;
import org.opensearch.test.AbstractQueryTestCase;
import org.opensearch.test.TestGeoShapeFieldMapperPlugin;

import java.io.IOException;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.SortedMap;
import java.util.TreeMap;

import static org.hamcrest.Matchers.containsString;
import static org.hamcrest.Matchers.instanceOf;

/** Parsing, streams, equality and the Lucene query; what needs a coordinator is in {@link GenerativeRewriteTests}. */
public class GenerativeQueryBuilderTests extends AbstractQueryTestCase<GenerativeQueryBuilder> {

    @Override
    @SuppressWarnings("deprecation") // what the framework's own mapping needs
    protected Collection<Class<? extends Plugin>> getPlugins() {
        return List.of(GenrecallPlugin.class, TestGeoShapeFieldMapperPlugin.class);
    }

    @Override
    protected void initializeAdditionalMappings(MapperService mapperService) throws IOException {
        mapperService.merge("_doc", new CompressedXContent("""
            {"_meta": {"genrecall": {"codebook": "v7"}},
             "properties": {"sid": {"type": "keyword"}, "alias": {"type": "alias", "path": "sid"}}}
            """), MapperService.MergeReason.MAPPING_UPDATE);
    }

    /** The form that reaches a shard; a prompt is rewritten before. */
    @Override
    protected GenerativeQueryBuilder doCreateTestQueryBuilder() {
        SortedMap<String, Generation> generations = new TreeMap<>();
        generations.put("v7", randomGeneration());
        if (randomBoolean()) {
            generations.put("v8", randomGeneration());
        }
        return new GenerativeQueryBuilder(randomFrom("sid", "alias"), generations, randomOrderWithin(), () -> null).minScore(
            randomFrom(0f, 0.3f)
        ).ignoreUnmapped(randomBoolean());
    }

    private static OrderWithin randomOrderWithin() {
        QueryBuilder term = new TermQueryBuilder(KEYWORD_FIELD_NAME, randomAlphaOfLength(4));
        QueryBuilder query = randomBoolean() ? term : new ConstantScoreQueryBuilder(term).boost(2);
        return randomBoolean() ? null : new OrderWithin(query, randomFrom(1f, 0f, 2.5f));
    }

    private static Generation randomGeneration() {
        int n = randomIntBetween(1, 5);
        int[] codes = new int[3 * n];
        float[] probabilities = new float[n];
        int[] items = new int[n];
        for (int i = 0; i < n; i++) {
            codes[3 * i] = i; // distinct, as a server's are
            codes[3 * i + 1] = randomInt(100);
            codes[3 * i + 2] = randomInt(100);
            probabilities[i] = randomFloat();
            items[i] = randomInt(9);
        }
        return new Generation(codes, probabilities, items);
    }

    private static GenerativeQueryBuilder randomPrompt() {
        UserContext user = randomBoolean()
            ? UserContext.ANONYMOUS
            : new UserContext(randomFrom("f", null), randomFrom("25-34", null), List.of("v7/1/2/3"), List.of(randomAlphaOfLength(5)));
        OnFailure onFailure = randomFrom(
            OnFailure.FAIL,
            OnFailure.MATCH_NONE,
            OnFailure.query(new MatchAllQueryBuilder()),
            OnFailure.query(new TermQueryBuilder("brand", randomAlphaOfLength(4)))
        );
        int k = randomIntBetween(1, 1024);
        Prompt prompt = new Prompt(randomRealisticUnicodeOfLengthBetween(1, 20) + "x", k, randomFrom(0, k, k + randomInt(200)), user, randomBoolean());
        return new GenerativeQueryBuilder(randomAlphaOfLength(5), prompt, randomOrderWithin(), () -> null).codebook(randomFrom("v7", null))
            .timeout(randomFrom(TimeValue.timeValueMillis(40), null))
            .onFailure(onFailure)
            .minScore(randomFrom(0f, 0.5f))
            .ignoreUnmapped(randomBoolean())
            .boost(randomFrom(1f, 2f))
            .queryName(randomFrom("gen", null));
    }

    @Override
    protected void doAssertLuceneQuery(GenerativeQueryBuilder builder, Query query, QueryShardContext context) throws IOException {
        if (query instanceof MatchNoDocsQuery == false) {
            List<BooleanClause> clauses = form(query).clauses();
            if (clauses.get(0).occur() == BooleanClause.Occur.MUST) {
                assertEquals(2, clauses.size());
                assertEquals(BooleanClause.Occur.SHOULD, clauses.get(1).occur());
                clauses = ((DisjunctionMaxQuery) clauses.get(0).query()).getDisjuncts()
                    .stream()
                    .map(sid -> new BooleanClause(sid, BooleanClause.Occur.SHOULD))
                    .toList();
            }
            for (BooleanClause clause : clauses) {
                assertEquals(BooleanClause.Occur.SHOULD, clause.occur());
                ConstantScoreQuery constant = (ConstantScoreQuery) ((BoostQuery) clause.query()).getQuery();
                Term term = ((TermQuery) constant.getQuery()).getTerm();
                assertEquals("sid", term.field()); // also where the alias was named
                assertTrue(term.text(), term.text().startsWith("v7/"));
            }
        }
    }

    public void testToQuery_whenSids_thenExactLuceneQuery() throws IOException {
        Query query = parseQuery("""
            {"generative": {"alias": {"sids": [{"sid": "v7/1/2/3", "score": 0.5}, {"sid": "v7/0/0/9", "score": 0.25}, "v7/4/4/4"]}}}
            """).toQuery(createShardContext());
        BooleanQuery.Builder expected = new BooleanQuery.Builder();
        expected.add(sid("v7/1/2/3", 0.5f), BooleanClause.Occur.SHOULD);
        expected.add(sid("v7/0/0/9", 0.25f), BooleanClause.Occur.SHOULD);
        expected.add(sid("v7/4/4/4", 1f), BooleanClause.Occur.SHOULD);
        assertEquals(expected.build(), form(query));
    }

    public void testToQuery_whenMinScore_thenLessProbableSidsAreLeftOut() throws IOException {
        Query query = parseQuery("""
            {"generative": {"sid": {"min_score": 0.25, "sids": [{"sid": "v7/1/2/3", "score": 0.25}, {"sid": "v7/0/0/9", "score": 0.24}]}}}
            """).toQuery(createShardContext());
        assertEquals(new BooleanQuery.Builder().add(sid("v7/1/2/3", 0.25f), BooleanClause.Occur.SHOULD).build(), form(query));
    }

    public void testToQuery_whenNothingIsLeft_thenMatchesNone() throws IOException {
        for (String clause : List.of("\"codebook\": \"v7\", \"sids\": []", "\"min_score\": 1.5, \"sids\": [\"v7/1/2/3\"]")) {
            Query query = parseQuery("{\"generative\": {\"sid\": {" + clause + "}}}").toQuery(createShardContext());
            assertThat(query, instanceOf(MatchNoDocsQuery.class));
        }
    }

    public void testToQuery_whenOrderWithin_thenExactLuceneQuery() throws IOException {
        Query query = parseQuery("""
            {"generative": {"alias": {"sids": [{"sid": "v7/1/2/3", "score": 0.5, "items": 4}, {"sid": "v7/0/0/9", "score": 0.25, "items": 1},
              {"sid": "v7/4/4/4", "score": 0.2, "items": 10}],
              "order_within": {"query": {"term": {"%s": "acme"}}, "weight": 3}, "min_score": 0.21}}}
            """.formatted(KEYWORD_FIELD_NAME)).toQuery(createShardContext());
        double least = Math.log(0.5) - Math.log(4); // less than log(0.25), and v7/4/4/4 is left out
        BooleanQuery.Builder expected = new BooleanQuery.Builder();
        Query best = new DisjunctionMaxQuery(List.of(sid("v7/1/2/3", 1), sid("v7/0/0/9", (float) (Math.log(0.25) + 1 - least))), 0);
        expected.add(best, BooleanClause.Occur.MUST);
        Query brand = new TermQueryBuilder(KEYWORD_FIELD_NAME, "acme").toQuery(createShardContext());
        expected.add(FunctionScoreQuery.boostByValue(brand, DoubleValuesSource.constant(3)), BooleanClause.Occur.SHOULD);
        assertEquals(expected.build(), form(query));
    }

    public void testToQuery_whenItemsAreUnknown_thenDocumentFrequencyAndTheSameShiftOnEveryShard() throws IOException {
        QueryBuilder query = parseQuery("""
            {"generative": {"sid": {"sids": [{"sid": "v7/1/2/3", "score": 0.5}, {"sid": "v7/0/0/9", "score": 0.25}],
              "order_within": {"query": {"match_all": {}}}}}}
            """);
        double shift = 1 + Math.log(Integer.MAX_VALUE) - Math.log(0.25);
        for (int documents : List.of(0, 1, 7)) {
            try (Directory directory = newDirectory()) {
                try (IndexWriter writer = new IndexWriter(directory, new IndexWriterConfig().setMergePolicy(NoMergePolicy.INSTANCE))) {
                    for (int i = 0; i < documents; i++) {
                        writer.addDocument(List.of(new StringField("sid", "v7/1/2/3", Field.Store.NO)));
                        writer.flush(); // a segment each
                    }
                }
                try (IndexReader reader = DirectoryReader.open(directory)) {
                    BooleanQuery made = form(query.toQuery(createShardContext(newSearcher(reader))));
                    float score = (float) (Math.log(0.5) - Math.log(Math.max(1, documents)) + shift);
                    Query best = new DisjunctionMaxQuery(List.of(sid("v7/1/2/3", score), sid("v7/0/0/9", (float) (1 + Math.log(Integer.MAX_VALUE)))), 0);
                    assertEquals(best, made.clauses().get(0).query());
                }
            }
        }
    }

    public void testShift_whenScoreIsZero_thenEveryScoreIsPositiveAndFinite() throws IOException {
        Query query = parseQuery("""
            {"generative": {"sid": {"sids": [{"sid": "v7/1/2/3", "score": 0}, {"sid": "v7/0/0/9", "score": 2, "items": 1},
              {"sid": "v8/0/0/9", "score": 1e-38, "items": 2147483647}], "order_within": {"query": {"match_all": {}}}}}}
            """).toQuery(createShardContext());
        for (Query sid : ((DisjunctionMaxQuery) form(query).clauses().get(0).query()).getDisjuncts()) {
            float score = ((BoostQuery) sid).getBoost();
            assertTrue(Float.toString(score), score > 0 && score < 200);
        }
    }

    /** What is searched. */
    private static BooleanQuery form(Query query) {
        return (BooleanQuery) ((GenerativeQuery) query).form();
    }

    private static Query sid(String term, float probability) {
        return new BoostQuery(new ConstantScoreQuery(new TermQuery(new Term("sid", term))), probability);
    }

    public void testToQuery_whenSidsOfAnotherCodebook_thenFailsInsteadOfMatchingNothing() {
        QueryShardException e = shardFailure("{\"generative\": {\"sid\": {\"sids\": [\"v8/1/2/3\"]}}}");
        assertEquals(
            "[generative] this index is of codebook [v7], the SIDs are of [v8]: leave [codebook] out, or search an index of that codebook",
            e.getMessage()
        );
    }

    public void testToQuery_whenFieldIsNoKeyword_thenMessageNamesFieldAndType() {
        QueryShardException e = shardFailure("{\"generative\": {\"mapped_int\": {\"sids\": [\"v7/1/2/3\"]}}}");
        assertThat(e.getMessage(), containsString("field [mapped_int] is of type [integer], but SIDs need a [keyword] field"));
    }

    public void testToQuery_whenFieldIsUnmapped_thenFailsOrMatchesNone() throws IOException {
        QueryShardException e = shardFailure("{\"generative\": {\"sidd\": {\"sids\": [\"v7/1/2/3\"]}}}");
        assertThat(e.getMessage(), containsString("no field [sidd] in this index"));
        String lenient = "{\"generative\": {\"sidd\": {\"ignore_unmapped\": true, \"sids\": [\"v7/1/2/3\"]}}}";
        assertThat(parseQuery(lenient).toQuery(createShardContext()), instanceOf(MatchNoDocsQuery.class));
    }

    public void testToQuery_whenPromptWasNotRewritten_thenMessageSaysToGiveSids() {
        QueryShardException e = shardFailure("{\"generative\": {\"sid\": {\"query_text\": \"shoes\"}}}");
        assertThat(e.getMessage(), containsString("Give [sids] and [codebook] in its place"));
    }

    private QueryShardException shardFailure(String json) {
        QueryShardContext context = createShardContext();
        context.setAllowUnmappedFields(true);
        return expectThrows(QueryShardException.class, () -> parseQuery(json).toQuery(context));
    }

    public void testPrompt_whenStreamed_thenEqual() throws IOException {
        for (int i = 0; i < 50; i++) {
            assertSerialization(randomPrompt());
        }
    }

    public void testPrompt_whenWrittenAndParsed_thenEqual() throws IOException {
        for (int i = 0; i < 50; i++) {
            GenerativeQueryBuilder query = randomPrompt();
            QueryBuilder parsed = parseQuery(query);
            assertEquals(query, parsed);
            assertEquals(query.hashCode(), parsed.hashCode());
        }
    }

    public void testStream_whenWrittenByAnOlderNode_thenRead() throws IOException {
        BytesStreamOutput out = new BytesStreamOutput();
        out.writeFloat(2); // boost
        out.writeOptionalString("gen");
        out.writeVInt(1);
        out.writeString("sid");
        out.writeBoolean(false); // no prompt
        out.writeBoolean(true);
        out.writeVInt(1);
        out.writeString("v7");
        out.writeVIntArray(new int[] { 1, 2, 3 });
        out.writeFloatArray(new float[] { 0.5f });
        out.writeOptionalString(null);
        out.writeOptionalTimeValue(null);
        out.writeEnum(OnFailure.Mode.FAIL);
        out.writeOptionalNamedWriteable(null);
        out.writeFloat(0.1f);
        out.writeBoolean(true);
        QueryBuilder expected = parseQuery("""
            {"generative": {"sid": {"sids": [{"sid": "v7/1/2/3", "score": 0.5, "items": 7}], "min_score": 0.1, "ignore_unmapped": true,
              "boost": 2, "_name": "gen"}}}""");
        assertEquals(expected, new GenerativeQueryBuilder(out.bytes().streamInput(), () -> null));
        BytesStreamOutput ours = new BytesStreamOutput();
        expected.writeTo(ours);
        assertEquals("without order_within an older node reads what this one writes", out.bytes(), ours.bytes());
    }

    public void testStream_whenOrderWithin_thenTheNewerFormAndABeyondOneIsRefused() throws IOException {
        QueryBuilder query = parseQuery(clause("\"sids\": [\"v7/1/2/3\"], \"order_within\": {\"query\": {\"match_all\": {}}}"));
        BytesStreamOutput out = new BytesStreamOutput();
        query.writeTo(out);
        StreamInput in = out.bytes().streamInput();
        in.readFloat();
        in.readOptionalString();
        assertEquals(2, in.readVInt());

        BytesStreamOutput beyond = new BytesStreamOutput();
        beyond.writeFloat(1);
        beyond.writeOptionalString(null);
        beyond.writeVInt(5);
        Exception e = expectThrows(
            IllegalStateException.class,
            () -> new GenerativeQueryBuilder(beyond.bytes().streamInput(), () -> null)
        );
        assertThat(e.getMessage(), containsString("another node wrote format [5], this one reads up to [4]"));
    }

    public void testVisit_whenOrderWithin_thenItsQueryIsVisitedToo() throws IOException {
        List<String> visited = new ArrayList<>();
        QueryBuilderVisitor visitor = new QueryBuilderVisitor() {
            @Override
            public void accept(QueryBuilder query) {
                visited.add(query.getName());
            }

            @Override
            public QueryBuilderVisitor getChildVisitor(BooleanClause.Occur occur) {
                return this;
            }
        };
        String within = "{\"query\": {\"bool\": {\"must\": {\"match_all\": {}}}}}";
        parseQuery(clause("\"query_text\": \"shoes\", \"order_within\": " + within)).visit(visitor);
        parseQuery(clause("\"query_text\": \"shoes\"")).visit(visitor);
        assertEquals(List.of("generative", "bool", "match_all", "generative"), visited);
    }

    public void testInnerHits_whenOrderWithinIsNested_thenTheyAreFound() throws IOException {
        QueryBuilder query = parseQuery(clause("""
            "sids": ["v7/1/2/3"],
            "order_within": {"query": {"nested": {"path": "mapped_object", "query": {"match_all": {}}, "inner_hits": {"name": "parts"}}}}"""));
        Map<String, InnerHitContextBuilder> innerHits = new HashMap<>();
        InnerHitContextBuilder.extractInnerHits(query, innerHits);
        assertEquals(Set.of("parts"), innerHits.keySet());
    }

    public void testParse_whenEveryOption_thenEveryOptionIsKept() throws IOException {
        GenerativeQueryBuilder expected = new GenerativeQueryBuilder(
            "sid",
            new Prompt("red running shoes", 20, 40, new UserContext("f", "25-34", List.of("v7/3/9/1"), List.of("B01")), false),
            new OrderWithin(new TermQueryBuilder("brand", "acme"), 0.5f),
            () -> null
        ).codebook("v7")
            .timeout(TimeValue.timeValueMillis(40))
            .onFailure(OnFailure.MATCH_NONE)
            .minScore(0.01f)
            .ignoreUnmapped(true)
            .boost(2)
            .queryName("gen");
        assertEquals(expected, parseQuery("""
            {"generative": {"sid": {"query_text": "red running shoes", "codebook": "v7", "k": 20, "beam_width": 40,
              "user": {"gender": "f", "age_band": "25-34", "recent_sids": ["v7/3/9/1"], "recent_items": ["B01"]},
              "memory": false, "timeout": "40ms", "on_failure": "match_none", "min_score": 0.01, "ignore_unmapped": true,
              "order_within": {"query": {"term": {"brand": "acme"}}, "weight": 0.5},
              "boost": 2, "_name": "gen"}}}"""));
    }

    public void testEquals_whenOneOptionDiffers_thenNotEqual() throws IOException {
        GenerativeQueryBuilder base = (GenerativeQueryBuilder) parseQuery(clause("\"query_text\": \"shoes\""));
        for (String other : List.of(
            "\"query_text\": \"shoe\"",
            "\"query_text\": \"shoes\", \"k\": 7",
            "\"query_text\": \"shoes\", \"beam_width\": 70",
            "\"query_text\": \"shoes\", \"memory\": false",
            "\"query_text\": \"shoes\", \"codebook\": \"v7\"",
            "\"query_text\": \"shoes\", \"timeout\": \"7ms\"",
            "\"query_text\": \"shoes\", \"on_failure\": \"match_none\"",
            "\"query_text\": \"shoes\", \"min_score\": 0.1",
            "\"query_text\": \"shoes\", \"ignore_unmapped\": true",
            "\"query_text\": \"shoes\", \"user\": {\"gender\": \"f\"}",
            "\"query_text\": \"shoes\", \"order_within\": {\"query\": {\"match_all\": {}}}",
            "\"sids\": [\"v7/1/2/3\"]"
        )) {
            assertNotEquals(base, parseQuery(clause(other)));
        }
        assertNotEquals(base, parseQuery(clause("\"query_text\": \"shoes\"").replace("\"sid\"", "\"sid2\"")));
        String ordered = "\"sids\": [{\"sid\": \"v7/1/2/3\", \"items\": 4}], \"order_within\": {\"query\": {\"match_all\": {}}, \"weight\": 2}";
        for (String other : List.of(ordered.replace("4", "5"), ordered.replace("2}", "3}"), ordered.replace("match_all", "match_none"))) {
            assertNotEquals(parseQuery(clause(ordered)), parseQuery(clause(other)));
        }
    }

    public void testParse_whenValueIsWrong_thenMessageNamesItAndTheRemedy() {
        assertRefused("\"k\": 5", "has neither query_text nor sids: give one of them");
        assertRefused("\"query_text\": \"a\", \"sids\": [\"v7/1/2/3\"]", "has both query_text and sids: give one of them");
        assertRefused("\"query_text\": \"a\", \"k\": 1025", "k [1025] is out of range: choose 1 to 1024");
        assertRefused("\"query_text\": \"a\", \"k\": 0", "k [0] is out of range");
        assertRefused("\"query_text\": \"a\", \"beam_width\": -1", "beam_width [-1] is below k [50]: choose at least k, or 0");
        assertRefused("\"query_text\": \"a\", \"timeout\": \"40\"", "timeout [40] is not a duration: write a number and a unit, such as 40ms");
        assertRefused("\"query_text\": \"a\", \"timeout\": \"2m\"", "timeout [2m] is out of range: choose 1ms to");
        assertRefused("\"query_text\": \"a\", \"timeout\": \"-1\"", "timeout [-1] is out of range");
        assertRefused("\"query_text\": \"a\", \"codebook\": \"v 7\"", "codebook [v 7] is not a valid name");
        assertRefused("\"query_text\": \"a\", \"on_failure\": \"ignore\"", "on_failure [ignore] is unknown: write \"fail\", \"match_none\" or a query");
        assertRefused("\"query_text\": \"a\", \"min_score\": -0.1", "min_score [-0.1] is not a probability");
        assertRefused("\"query_text\": \"a\", \"user\": {\"recent_sids\": [\"3/9/1\"]}", "user.recent_sids: [3/9/1] is not a SID term");
        String many = "\"v7/1/2/3\",".repeat(100) + "\"v7/1/2/3\"";
        assertRefused("\"query_text\": \"a\", \"user\": {\"recent_sids\": [" + many + "]}", "user.recent_sids has 101 entries: give the newest 100");
        assertRefused("\"query_text\": \"a\", \"user\": {\"gender\": \"" + "f".repeat(65) + "\"}", "user.gender has a value of 65 characters");
        assertRefused("\"sids\": []", "sids is empty: give at least one");
        assertRefused("\"sids\": [\"v7/1/2\"]", "sids: [v7/1/2] is not a SID term: write CODEBOOK/c1/c2/c3, such as v7/12/40/733");
        assertRefused("\"sids\": [\"v7/1/2/3\", \"v7/1/2/3\"]", "sids: [v7/1/2/3] is given twice");
        assertRefused("\"sids\": [{\"sid\": \"v7/1/2/3\", \"score\": -1}]", "score [-1.0] of [v7/1/2/3] is out of range");
        assertRefused("\"sids\": [{\"score\": 1}]", "an entry has no sid");
        assertRefused("\"sids\": [{\"sid\": \"v7/1/2/3\", \"items\": 0}]", "items [0] of [v7/1/2/3] is out of range: give 1 or more");
        assertRefused("\"query_text\": \"a\", \"order_within\": {\"weight\": 1}", "order_within has no query: write {\"query\": ");
        assertRefused(
            "\"query_text\": \"a\", \"order_within\": {\"query\": {\"match_all\": {}}, \"weight\": -1}",
            "order_within: weight [-1.0] is out of range: it must be finite and not negative"
        );
        assertRefused("\"sids\": [\"v7/1/2/3\"], \"codebook\": \"v8\"", "[v7/1/2/3] is not of codebook [v8]");
        assertRefused("\"sids\": [\"v7/1/2/3\"], \"k\": 3", "[k] belong to query_text, not to sids: leave them out");
    }

    private void assertRefused(String options, String message) {
        IllegalArgumentException e = expectThrows(IllegalArgumentException.class, () -> parseQuery(clause(options)));
        assertThat(e.getMessage(), containsString("[generative] "));
        assertThat(e.getMessage(), containsString(message));
    }

    public void testParse_whenKeyIsUnknown_thenMessageNamesTheNearest() {
        XContentParseException e = expectThrows(
            XContentParseException.class,
            () -> parseQuery(clause("\"query_txt\": \"shoes\""))
        );
        assertThat(e.getMessage(), containsString("[generative] unknown field [query_txt] did you mean [query_text]?"));
    }

    public void testParse_whenOrderWithinIsWrong_thenMessageNamesIt() throws IOException {
        for (var wrong : Map.of(
            "{\"query\": {\"match_all\": {}}, \"wieght\": 2}", "unknown field [wieght] did you mean [weight]?",
            "{\"query\": \"shoes\"}", "query doesn't support values of type: VALUE_STRING",
            "\"shoes\"", "order_within doesn't support values of type: VALUE_STRING",
            "{\"query\": " + clause("\"query_text\": \"boots\"") + "}", "order_within: its query holds another [generative]",
            "{\"query\": {\"bool\": {\"must\": " + clause("\"query_text\": \"boots\"") + "}}}", "order_within: its query holds another [generative]"
        ).entrySet()) {
            Exception e = expectThrows(
                Exception.class,
                () -> parseQuery(clause("\"query_text\": \"shoes\", \"order_within\": " + wrong.getKey()))
            );
            assertThat(ExceptionsHelper.stackTrace(e), containsString(wrong.getValue()));
        }
        parseQuery(clause("\"query_text\": \"a clause after a refused one is read\""));
    }

    public void testParse_whenFormIsWrong_thenMessageShowsTheForm() {
        for (String json : List.of("{\"generative\": {}}", "{\"generative\": {\"sid\": \"shoes\"}}")) {
            ParsingException e = expectThrows(ParsingException.class, () -> parseQuery(json));
            assertThat(e.getMessage(), containsString("write {\"generative\": {\"FIELD\": {\"query_text\": \"...\"}}}"));
        }
        ParsingException e = expectThrows(
            ParsingException.class,
            () -> parseQuery("{\"generative\": {\"a\": {\"query_text\": \"x\"}, \"b\": {\"query_text\": \"x\"}}}")
        );
        assertThat(e.getMessage(), containsString("takes one field, found [a] and [b]"));
    }

    private static String clause(String options) {
        return "{\"generative\": {\"sid\": {" + options + "}}}";
    }
}
