package org.genrecall.opensearch.query;

import com.carrotsearch.randomizedtesting.annotations.ThreadLeakFilters;

import org.genrecall.opensearch.GrpcThreads;
import org.genrecall.opensearch.PluginNodeTestCase;
import org.genrecall.opensearch.TestInferenceServer;
import org.genrecall.opensearch.generation.Formats;
import org.genrecall.opensearch.generation.Generation;
import org.genrecall.opensearch.generation.GenerationException;
import org.genrecall.opensearch.generation.GenerationService;
import org.genrecall.opensearch.generation.PluginPool;
import org.genrecall.opensearch.generation.Prompt;
import org.genrecall.opensearch.generation.UserContext;
import org.opensearch.action.search.SearchRequest;
import org.opensearch.action.support.PlainActionFuture;
import org.opensearch.cluster.metadata.Metadata;
import org.opensearch.common.io.stream.BytesStreamOutput;
import org.opensearch.common.settings.Settings;
import org.opensearch.common.unit.TimeValue;
import org.opensearch.common.xcontent.XContentHelper;
import org.opensearch.common.xcontent.json.JsonXContent;
import org.opensearch.core.action.ActionListener;
import org.opensearch.index.IndexNotFoundException;
import org.opensearch.index.query.BaseQueryRewriteContext;
import org.opensearch.index.query.BoolQueryBuilder;
import org.opensearch.index.query.MatchNoneQueryBuilder;
import org.opensearch.index.query.QueryBuilder;
import org.opensearch.index.query.QueryCoordinatorContext;
import org.opensearch.index.query.QueryRewriteContext;
import org.opensearch.index.query.Rewriteable;
import org.opensearch.index.query.TermQueryBuilder;
import org.opensearch.search.aggregations.bucket.filter.FilterAggregationBuilder;
import org.opensearch.search.builder.SearchSourceBuilder;
import org.junit.Before;

import java.util.List;
import java.util.Map;
import java.util.SortedMap;
import java.util.TreeMap;

import static org.hamcrest.Matchers.containsString;
import static org.hamcrest.Matchers.instanceOf;

/** The rewrite on a coordinator whose cluster state holds indices of two codebooks, with a real server behind it. */
@ThreadLeakFilters(filters = GrpcThreads.class)
public class GenerativeRewriteTests extends PluginNodeTestCase {

    private GenerationService service;

    @Before
    public void startCoordinator() throws Exception {
        startNode(
            "coordinator",
            Settings.builder().put("genrecall.timeout", "20s").put("genrecall.max_k", 100).put("genrecall.max_timeout", "25s").build(),
            Metadata.builder()
                .put(index("products-v7", "{\"_meta\": {\"genrecall\": {\"codebook\": \"v7\"}}}"), false)
                .put(index("products-v8", "{\"_meta\": {\"genrecall\": {\"codebook\": \"v8\"}}}"), false)
                .put(index("products-v9", "{\"_meta\": {\"genrecall\": {\"codebook\": \"v9\"}}}"), false)
                .put(index("other", "{\"_meta\": {\"genrecall\": \"v7\"}}"), false)
        );
        service = new GenerationService(
            values,
            inference,
            indexCodebooks,
            new Formats(clusterService),
            new PluginPool(threadPool),
            stats
        );
    }

    /** A clause that falls back warns of it. */
    @Override
    protected boolean enableWarningsCheck() {
        return false;
    }

    private QueryRewriteContext coordinator(String... indices) {
        return new QueryCoordinatorContext(new BaseQueryRewriteContext(null, null, null, () -> 0), new SearchRequest(indices));
    }

    private GenerativeQueryBuilder clause(String text) {
        return clause(text, null);
    }

    private GenerativeQueryBuilder clause(String text, OrderWithin orderWithin) {
        return new GenerativeQueryBuilder("sid", new Prompt(text, 2, 0, UserContext.ANONYMOUS), orderWithin, () -> service);
    }

    private static <T extends Rewriteable<T>> T fetch(T original, QueryRewriteContext context) {
        PlainActionFuture<T> future = new PlainActionFuture<>();
        Rewriteable.rewriteAndFetch(original, context, future);
        return future.actionGet(TimeValue.timeValueSeconds(30));
    }

    private static List<Map<String, Object>> sids(String codebook) {
        return List.of(Map.of("sid", codebook + "/0/0/0", "score", 0.5), Map.of("sid", codebook + "/0/1/0", "score", 0.25));
    }

    /** The clause's options as JSON. */
    private static Map<?, ?> body(QueryBuilder query) {
        Map<String, Object> json = XContentHelper.convertToMap(JsonXContent.jsonXContent, query.toString(), false);
        return (Map<?, ?>) ((Map<?, ?>) json.get("generative")).get("sid");
    }

    public void testRewrite_whenAnswered_thenClauseOfSidsWithItsOptions() {
        GenerativeQueryBuilder query = clause("shoes").minScore(0.1f).ignoreUnmapped(true).boost(3).queryName("gen");
        QueryBuilder rewritten = fetch(query, coordinator("products-v7"));
        Map<?, ?> body = body(rewritten);
        assertEquals("v7", body.get("codebook"));
        assertEquals(sids("v7"), body.get("sids"));
        assertEquals(0.1, body.get("min_score"));
        assertEquals(true, body.get("ignore_unmapped"));
        assertEquals(3f, rewritten.boost(), 0);
        assertEquals("gen", rewritten.queryName());
        assertFalse(body.containsKey("query_text"));
    }

    public void testRewrite_whenWaiting_thenStaysItselfUntilTheAnswerIsThere() throws Exception {
        QueryRewriteContext context = coordinator("products-v7");
        QueryBuilder asking = clause("shoes");
        QueryBuilder waiting = asking.rewrite(context);
        assertNotSame(asking, waiting);
        assertTrue(context.hasAsyncActions());
        assertSame(waiting, waiting.rewrite(context));
        expectThrows(IllegalStateException.class, () -> waiting.writeTo(new BytesStreamOutput()));
        PlainActionFuture<Object> done = new PlainActionFuture<>();
        context.executeAsyncActions(done);
        done.actionGet();
        QueryBuilder answered = waiting.rewrite(context);
        assertEquals(sids("v7"), body(answered).get("sids"));
        assertSame(answered, answered.rewrite(context));
        assertEquals(1, server.requests().size());
    }

    public void testRewrite_whenIndicesOfTwoCodebooks_thenBothAreAsked() {
        QueryBuilder rewritten = fetch(clause("shoes"), coordinator("products-v7", "products-v8", "other"));
        String sids = body(rewritten).get("sids").toString();
        assertThat(sids, containsString("v7/0/1/0"));
        assertThat(sids, containsString("v8/0/1/0"));
        assertEquals(2, server.requests().size());
    }

    public void testRewrite_whenCodebookIsGiven_thenOnlyThatIsAsked() {
        QueryBuilder rewritten = fetch(clause("shoes").codebook("v8"), coordinator("products-v7"));
        assertEquals("v8", body(rewritten).get("codebook"));
    }

    public void testRewrite_whenInsideBoolAndFilterAggregation_thenBothAreRewritten() {
        SearchSourceBuilder source = new SearchSourceBuilder().query(new BoolQueryBuilder().should(clause("shoes")))
            .aggregation(new FilterAggregationBuilder("generated", clause("shoes")));
        SearchSourceBuilder rewritten = fetch(source, coordinator("products-v7"));
        assertThat(rewritten.query().toString(), containsString("v7/0/1/0"));
        assertThat(rewritten.aggregations().toString(), containsString("v7/0/1/0"));
        assertEquals("equal questions at the same time are one call", 1, server.requests().size());
    }

    public void testRewrite_whenSidsAreGiven_thenNothingIsAsked() {
        QueryBuilder given = fetch(clause("shoes"), coordinator("products-v7"));
        int asked = server.requests().size();
        assertSame(given, fetch(given, coordinator("products-v8")));
        assertEquals(asked, server.requests().size());
    }

    public void testRewrite_whenOrderWithin_thenNumbersOfItemsAreKeptAndOthersOnlyThere() {
        OrderWithin order = new OrderWithin(new TermQueryBuilder("brand", "acme"), 2);
        Map<?, ?> body = body(fetch(clause("shoes", order), coordinator("products-v7")));
        assertEquals(
            List.of(
                Map.of("sid", "v7/0/0/0", "score", 0.5, "items", TestInferenceServer.items(0)),
                Map.of("sid", "v7/0/1/0", "score", 0.25, "items", TestInferenceServer.items(1))
            ),
            body.get("sids")
        );
        assertEquals(2.0, ((Map<?, ?>) body.get("order_within")).get("weight"));
        assertEquals(sids("v7"), body(fetch(clause("shoes"), coordinator("products-v7"))).get("sids"));
    }

    public void testRewrite_whenOrderWithin_thenItsQueryIsRewrittenTooInTheSameRound() throws Exception {
        QueryRewriteContext context = coordinator("products-v7");
        GenerativeQueryBuilder query = clause("shoes", new OrderWithin(clause("boots"), 1)); // the parser allows none, but it waits for a call
        QueryBuilder waiting = Rewriteable.rewrite((QueryBuilder) query, context);
        PlainActionFuture<Object> done = new PlainActionFuture<>();
        context.executeAsyncActions(done);
        done.actionGet();
        QueryBuilder rewritten = Rewriteable.rewrite(waiting, context);
        assertFalse("one round was not enough", context.hasAsyncActions());
        assertEquals(2, server.requests().size());
        Map<?, ?> within = (Map<?, ?>) ((Map<?, ?>) body(rewritten).get("order_within")).get("query");
        assertEquals(sids("v7"), ((Map<?, ?>) ((Map<?, ?>) within.get("generative")).get("sid")).get("sids"));
        rewritten.writeTo(new BytesStreamOutput());
    }

    public void testRewrite_whenOrderWithinOfGivenSids_thenItsQueryIsRewritten() {
        OrderWithin order = new OrderWithin(clause("boots"), 1);
        QueryBuilder given = fetch(clause("shoes", new OrderWithin(new TermQueryBuilder("brand", "acme"), 1)), coordinator("products-v7"));
        SortedMap<String, Generation> sids = new TreeMap<>(Map.of("v7", new Generation(new int[] { 1, 2, 3 }, new float[] { 1 }, new int[1])));
        QueryBuilder rewritten = fetch(
            (QueryBuilder) new GenerativeQueryBuilder("sid", sids, order, () -> service).boost(3).queryName("gen"),
            coordinator("products-v7")
        );
        assertThat(rewritten.toString(), containsString("v7/0/1/0"));
        assertEquals(3f, rewritten.boost(), 0);
        assertEquals("gen", rewritten.queryName());
        assertSame("nothing is left to rewrite", given, fetch(given, coordinator("products-v7")));
    }

    public void testRewrite_whenANodeIsOlder_thenOrderWithinIsRefusedAndAllElseIsNot() {
        Settings old = Settings.builder().put("node.attr.genrecall_clause_format", Formats.PLAIN).build();
        Settings coordinating = Settings.builder().putList("node.roles").build();
        joinNodes(Formats.nodeSettings(), old, Settings.EMPTY, coordinating);
        OrderWithin order = new OrderWithin(new TermQueryBuilder("brand", "acme"), 1);
        QueryBuilder given = new GenerativeQueryBuilder("sid", new TreeMap<>(), order, () -> service);
        for (QueryBuilder query : List.of(clause("shoes", order).onFailure(OnFailure.MATCH_NONE), given)) {
            IllegalArgumentException e = expectThrows(IllegalArgumentException.class, () -> fetch(query, coordinator("products-v7")));
            assertThat(e.getMessage(), containsString("order_within is not known to the genrecall plugin of nodes [node-1, node-2]"));
        }
        assertTrue(server.requests().isEmpty());
        assertEquals(sids("v7"), body(fetch(clause("shoes"), coordinator("products-v7"))).get("sids"));
        joinNodes(Formats.nodeSettings(), Formats.nodeSettings(), coordinating);
        assertTrue(body(fetch(clause("shoes", order), coordinator("products-v7"))).containsKey("order_within"));
    }

    public void testRewrite_whenThereIsNoCoordinator_thenClauseIsLeftForTheShardToRefuse() {
        QueryBuilder query = clause("shoes");
        assertSame(query, fetch(query, new BaseQueryRewriteContext(null, null, null, () -> 0)));
    }

    public void testRewrite_whenFails_thenErrorSaysWhy() {
        server.close();
        GenerationException e = expectThrows(GenerationException.class, () -> fetch(clause("shoes"), coordinator("products-v7")));
        assertEquals(GenerationException.Kind.UNAVAILABLE, e.kind());
        assertEquals(1, stats.snapshot().generate().failures(e.kind()));
    }

    public void testRewrite_whenFailsAndMatchNone_thenMatchesNoneUnderItsName() {
        server.close();
        QueryBuilder query = clause("shoes").onFailure(OnFailure.MATCH_NONE).queryName("gen");
        QueryBuilder rewritten = fetch(query, coordinator("products-v7"));
        assertThat(rewritten, instanceOf(MatchNoneQueryBuilder.class));
        assertEquals("gen", rewritten.queryName());
    }

    public void testRewrite_whenSlowAndFallback_thenFallbackTakesItsPlace() {
        QueryBuilder fallback = new TermQueryBuilder("brand", "acme");
        QueryBuilder query = clause("slow").timeout(TimeValue.timeValueMillis(50)).onFailure(OnFailure.query(fallback));
        assertEquals(fallback, fetch(query, coordinator("products-v7")));
        assertEquals(1, stats.snapshot().generate().failures(GenerationException.Kind.TIMEOUT));
    }

    public void testRewrite_whenFallbackIsGenerativeToo_thenItIsAsked() {
        QueryBuilder query = clause("refuse").onFailure(OnFailure.query(clause("shoes")));
        assertEquals(sids("v7"), body(fetch(query, coordinator("products-v7"))).get("sids"));
    }

    public void testRewrite_whenOneCodebookOfTwoIsNotHeld_thenTheWholeClauseFails() {
        GenerationException e = expectThrows(
            GenerationException.class,
            () -> fetch(clause("shoes"), coordinator("products-v7", "products-v9"))
        );
        assertEquals(GenerationException.Kind.CODEBOOK_NOT_HELD, e.kind());
        assertThat(e.getMessage(), containsString("[v9]"));
    }

    public void testRewrite_whenNoIndexNamesACodebook_thenMessageNamesTheIndices() {
        GenerationException e = expectThrows(GenerationException.class, () -> fetch(clause("shoes"), coordinator("other")));
        assertEquals(GenerationException.Kind.NO_CODEBOOK, e.kind());
        assertThat(e.getMessage(), containsString("of the indices searched [other]"));
    }

    public void testRewrite_whenOnlyRemoteIndices_thenMessageSaysToGiveTheCodebook() {
        GenerationException e = expectThrows(GenerationException.class, () -> fetch(clause("shoes"), coordinator("far:products")));
        assertThat(e.getMessage(), containsString("give [codebook] in the clause"));
        assertEquals("v7", body(fetch(clause("shoes").codebook("v7"), coordinator("far:products"))).get("codebook"));
    }

    public void testRewrite_whenPatternMatchesNoIndex_thenNothingIsAskedAndNothingFails() {
        QueryBuilder rewritten = fetch(clause("shoes"), coordinator("absent-*"));
        assertEquals(List.of(), body(rewritten).get("sids"));
        assertTrue(server.requests().isEmpty());
    }

    public void testRewrite_whenIndexIsMissing_thenThatIsTheError() {
        expectThrows(IndexNotFoundException.class, () -> fetch(clause("shoes").onFailure(OnFailure.MATCH_NONE), coordinator("missing")));
    }

    public void testRewrite_whenBeyondTheClustersLimits_thenMessageNamesTheSetting() {
        GenerativeQueryBuilder large = new GenerativeQueryBuilder("sid", new Prompt("a", 101, 0, UserContext.ANONYMOUS), null, () -> service);
        IllegalArgumentException k = expectThrows(IllegalArgumentException.class, () -> fetch(large, coordinator("products-v7")));
        assertThat(k.getMessage(), containsString("k [101] is too large: this cluster allows 100"));
        assertThat(k.getMessage(), containsString("[genrecall.max_k]"));
        GenerativeQueryBuilder wide = new GenerativeQueryBuilder("sid", new Prompt("a", 1, 1024, UserContext.ANONYMOUS), null, () -> service);
        IllegalArgumentException beam = expectThrows(IllegalArgumentException.class, () -> fetch(wide, coordinator("products-v7")));
        assertThat(beam.getMessage(), containsString("beam_width [1024] is too large: this cluster allows 512"));
        GenerativeQueryBuilder patient = clause("a").timeout(TimeValue.timeValueSeconds(30));
        IllegalArgumentException wait = expectThrows(IllegalArgumentException.class, () -> fetch(patient, coordinator("products-v7")));
        assertThat(wait.getMessage(), containsString("timeout [30s] is too long: this cluster allows [25s]"));
        assertTrue(server.requests().isEmpty());
    }

    public void testRewrite_whenTextIsTooLongOrEmpty_thenOnFailureCoversIt() {
        for (String text : List.of("é👟".repeat(5_000), "", " \t")) {
            GenerationException e = expectThrows(GenerationException.class, () -> fetch(clause(text), coordinator("products-v7")));
            assertEquals(GenerationException.Kind.INVALID_REQUEST, e.kind());
            String why = text.isBlank()
                ? "query_text is empty: give the words of the search"
                : "query_text is too long: 10000 characters, where this cluster allows 1000";
            assertThat(e.getMessage(), containsString(why));
            QueryBuilder covered = clause(text).onFailure(OnFailure.MATCH_NONE);
            assertThat(fetch(covered, coordinator("products-v7")), instanceOf(MatchNoneQueryBuilder.class));
        }
        assertEquals(3, stats.snapshot().fellBack());
        assertTrue(server.requests().isEmpty());
    }

    public void testRewrite_whenARequestHasManyClauses_thenRefusedAtOnceAndRoomForTheNext() {
        for (int round = 0; round < 2; round++) {
            assertThat(fetch(any(16, "shoes"), coordinator("products-v7")).toString(), containsString("v7/0/1/0"));
            IllegalArgumentException e = expectThrows(
                IllegalArgumentException.class,
                () -> fetch(any(17, "boots"), coordinator("products-v7"))
            );
            assertThat(e.getMessage(), containsString("more than 16 clauses that ask the model"));
            assertThat(e.getMessage(), containsString("[genrecall.max_clauses]"));
        }
        QueryRewriteContext again = coordinator("products-v7");
        fetch(any(16, "lamps"), again);
        fetch(any(16, "tables"), again); // clauses that ask no more do not count
        assertTrue(server.requests().stream().noneMatch(request -> request.getQueries(0).getText().startsWith("boots")));
    }

    private QueryBuilder any(int clauses, String text) {
        BoolQueryBuilder any = new BoolQueryBuilder();
        for (int i = 0; i < clauses; i++) {
            any.should(clause(text + i));
        }
        return any;
    }

    public void testRewrite_whenThePoolIsFull_thenMatchesNoneInsteadOfHanging() throws Exception {
        fetch(clause("shoes"), coordinator("products-v7")); // now known, so that no call is needed
        withFullPool(() -> {
            QueryBuilder query = clause("shoes").onFailure(OnFailure.MATCH_NONE);
            assertThat(fetch(query, coordinator("products-v7")), instanceOf(MatchNoneQueryBuilder.class));
            assertEquals(1, stats.snapshot().generate().failures(GenerationException.Kind.OVERLOAD));
        });
    }

    public void testRewrite_whenCallerHasThreadContext_thenItIsThereAfterwards() {
        threadPool.getThreadContext().putHeader("who", "ann");
        PlainActionFuture<String> seen = new PlainActionFuture<>();
        Rewriteable.rewriteAndFetch(
            (QueryBuilder) clause("shoes"),
            coordinator("products-v7"),
            ActionListener.map(
                seen,
                rewritten -> threadPool.getThreadContext().getHeader("who") + " on " + Thread.currentThread().getName()
            )
        );
        assertThat(seen.actionGet(), containsString("ann on "));
        assertThat(seen.actionGet(), containsString("[" + PluginPool.NAME + "]"));
    }
}
