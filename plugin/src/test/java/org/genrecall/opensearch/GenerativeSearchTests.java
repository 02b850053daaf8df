package org.genrecall.opensearch;

import com.carrotsearch.randomizedtesting.annotations.ThreadLeakFilters;

import org.genrecall.opensearch.dryrun.GenerateAction;
import org.genrecall.opensearch.dryrun.GenerateSidsRequest;
import org.genrecall.opensearch.generation.GenerationException.Kind;
import org.genrecall.opensearch.stats.EndpointSnapshot;
import org.genrecall.opensearch.stats.NodesStatsAction;
import org.opensearch.ExceptionsHelper;
import org.opensearch.OpenSearchException;
import org.opensearch.action.search.CreatePitAction;
import org.opensearch.action.search.CreatePitRequest;
import org.opensearch.action.search.DeletePitAction;
import org.opensearch.action.search.DeletePitRequest;
import org.opensearch.action.search.SearchRequestBuilder;
import org.opensearch.action.search.SearchResponse;
import org.opensearch.common.settings.KeyStoreWrapper;
import org.opensearch.common.settings.Settings;
import org.opensearch.common.unit.TimeValue;
import org.opensearch.common.xcontent.json.JsonXContent;
import org.opensearch.core.action.ActionListener;
import org.opensearch.core.rest.RestStatus;
import org.opensearch.core.xcontent.MediaTypeRegistry;
import org.opensearch.env.Environment;
import org.opensearch.index.query.QueryBuilders;
import org.opensearch.search.SearchHit;
import org.opensearch.search.aggregations.AggregationBuilders;
import org.opensearch.search.aggregations.bucket.filter.Filter;
import org.opensearch.search.aggregations.bucket.terms.Terms;
import org.opensearch.search.builder.PointInTimeBuilder;
import org.opensearch.search.sort.SortOrder;
import org.opensearch.test.OpenSearchIntegTestCase;
import org.opensearch.transport.client.Client;

import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;

import static org.opensearch.test.hamcrest.OpenSearchAssertions.assertAcked;
import static org.opensearch.test.hamcrest.OpenSearchAssertions.assertNoFailures;
import static org.hamcrest.Matchers.containsString;

/** Searches of a cluster of two nodes that call a real gRPC server. In each index documents d0 to d29 hold
 * the SIDs of ranks 0 to 29; the server does not hold the codebook of lost-v9. */
@ThreadLeakFilters(filters = GrpcThreads.class)
@OpenSearchIntegTestCase.SuiteScopeTestCase
@OpenSearchIntegTestCase.ClusterScope(numDataNodes = 2, numClientNodes = 0, supportsDedicatedMasters = false)
public class GenerativeSearchTests extends GenrecallIntegTestCase {

    @Override
    protected Settings nodeSettings(int nodeOrdinal) {
        return Settings.builder().put(super.nodeSettings(nodeOrdinal)).put("genrecall.cache.size", "0b").build();
    }

    @Override
    public Settings indexSettings() {
        return Settings.builder().put("index.number_of_shards", 2).put("index.number_of_replicas", 0).build();
    }

    /** Once for all tests, none of which changes a document. */
    @Override
    protected void setupSuiteScopeCluster() {
        load("products-v7", "v7");
        load("products-v8", "v8");
        load("lost-v9", "v9");
    }

    private void load(String index, String codebook) {
        assertAcked(prepareCreate(index).setMapping(String.format(Locale.ROOT, """
            {"_meta": {"genrecall": {"codebook": "%s"}},
             "properties": {"sid": {"type": "keyword"}, "sid_alias": {"type": "alias", "path": "sid"}, "brand": {"type": "keyword"},
                            "price": {"type": "integer"}}}""", codebook)));
        var bulk = client().prepareBulk();
        for (int rank = 0; rank < 30; rank++) {
            String sid = codebook + "/" + rank / 10 + "/" + rank % 10 + "/0";
            bulk.add(
                client().prepareIndex(index).setId("d" + rank).setSource("sid", sid, "brand", rank % 2 == 0 ? "even" : "odd", "price", rank)
            );
        }
        assertNoFailures(bulk.get());
        refresh(index);
    }

    /** The query as a user writes it, parsed where the search is coordinated. */
    private SearchRequestBuilder search(String index, String query) {
        return client().prepareSearch(index).setQuery(QueryBuilders.wrapperQuery(query)).setSize(100);
    }

    private static String generative(String options) {
        return "{\"generative\": {\"sid\": {" + options + "}}}";
    }

    private static List<String> ids(SearchResponse response) {
        assertNoFailures(response);
        return Arrays.stream(response.getHits().getHits()).map(SearchHit::getId).toList();
    }

    public void testSearch_whenTopLevel_thenItemsInOrderOfTheirSidsProbability() {
        for (String node : internalCluster().getNodeNames()) {
            SearchResponse response = client(node).prepareSearch("products-v7")
                .setQuery(QueryBuilders.wrapperQuery(generative("\"query_text\": \"shoes\", \"k\": 3")))
                .get();
            assertEquals(List.of("d0", "d1", "d2"), ids(response));
            for (int rank = 0; rank < 3; rank++) {
                assertEquals(TestInferenceServer.probability(rank), response.getHits().getAt(rank).getScore(), 0);
            }
        }
    }

    public void testSearch_whenBoostAndNameAndExplain_thenEachIsThere() {
        SearchResponse response = search("products-v7", generative("\"query_text\": \"shoes\", \"k\": 2, \"boost\": 3, \"_name\": \"gen\"")).setExplain(
            true
        ).get();
        SearchHit second = response.getHits().getAt(1);
        assertEquals(3 * TestInferenceServer.probability(1), second.getScore(), 1e-6);
        assertArrayEquals(new String[] { "gen" }, second.getMatchedQueries());
        assertThat(second.getExplanation().toString(), containsString("ConstantScore(sid:v7/0/1/0)"));
    }

    public void testSearch_whenFieldAlias_thenTheFieldBehindItIsSearched() {
        String query = generative("\"query_text\": \"shoes\", \"k\": 2").replace("\"sid\"", "\"sid_alias\"");
        assertEquals(List.of("d0", "d1"), ids(search("products-v7", query).get()));
    }

    public void testSearch_whenNested_thenComposesWithOtherClauses() {
        String clause = generative("\"query_text\": \"shoes\", \"k\": 4");
        String even = "{\"term\": {\"brand\": \"even\"}}";
        for (String query : List.of(
            "{\"bool\": {\"must\": [" + clause + "], \"filter\": [" + even + "]}}",
            "{\"bool\": {\"must\": [" + even + "], \"filter\": [" + clause + "]}}",
            "{\"function_score\": {\"query\": {\"bool\": {\"must\": [" + clause + ", " + even + "]}}, \"boost\": 2}}",
            "{\"constant_score\": {\"filter\": {\"bool\": {\"filter\": [" + clause + ", " + even + "]}}}}"
        )) {
            SearchResponse response = search("products-v7", query).addSort("price", SortOrder.ASC).get();
            assertEquals(query, List.of("d0", "d2"), ids(response));
        }
    }

    public void testSearch_whenAggregations_thenTheyCountTheGeneratedItems() {
        String clause = generative("\"query_text\": \"shoes\", \"k\": 5");
        SearchResponse response = search("products-v7", clause).addAggregation(AggregationBuilders.terms("brands").field("brand"))
            .addAggregation(
                AggregationBuilders.filter("two", QueryBuilders.wrapperQuery(generative("\"query_text\": \"shoes\", \"k\": 2")))
            )
            .get();
        Terms brands = response.getAggregations().get("brands");
        assertEquals(3, brands.getBucketByKey("even").getDocCount());
        assertEquals(2, brands.getBucketByKey("odd").getDocCount());
        assertEquals(2, ((Filter) response.getAggregations().get("two")).getDocCount());
    }

    public void testSearch_whenTwoIndicesOfTwoCodebooks_thenEachIsSearchedByItsOwn() {
        assertAcked(client().admin().indices().prepareAliases().addAlias("products-v7", "all").addAlias("products-v8", "all"));
        for (String index : List.of("products-*", "all")) {
            SearchResponse response = search(index, generative("\"query_text\": \"shoes\", \"k\": 2")).get();
            assertEquals(4, response.getHits().getTotalHits().value());
            assertEquals(TestInferenceServer.probability(0), response.getHits().getAt(1).getScore(), 0);
        }
    }

    public void testSearch_whenAliasIsSwapped_thenTheNewCodebookAnswers() {
        assertAcked(client().admin().indices().prepareAliases().addAlias("products-v7", "live"));
        String query = generative("\"query_text\": \"shoes\", \"k\": 1");
        assertEquals("products-v7", search("live", query).get().getHits().getAt(0).getIndex());
        assertAcked(client().admin().indices().prepareAliases().removeAlias("products-v7", "live").addAlias("products-v8", "live"));
        assertEquals("products-v8", search("live", query).get().getHits().getAt(0).getIndex());
    }

    public void testSearch_whenTheNextCodebookIsAnnounced_thenBothAreAskedAndAMoveMeanwhileIsAnswered() throws Exception {
        load("moving-v7", "v7");
        load("moving-v8", "v8");
        announce("moving-v7", "v8");
        assertAcked(client().admin().indices().prepareAliases().addAlias("moving-v7", "moving"));
        var body = "{\"index\": \"moving\", \"query_text\": \"boots\", \"k\": 2}";
        try (var parser = createParser(JsonXContent.jsonXContent, body)) {
            var asked = client().execute(GenerateAction.TYPE, GenerateSidsRequest.parse(parser)).get();
            assertEquals(Set.of("v7", "v8"), asked.generations().keySet());
        }
        int before = server.requests().size();
        var searched = search("moving", generative("\"query_text\": \"held back\", \"k\": 2")).execute();
        assertBusy(() -> assertEquals(before + 2, server.requests().size()));
        assertAcked(client().admin().indices().prepareAliases().removeAlias("moving-v7", "moving").addAlias("moving-v8", "moving"));
        server.release();
        assertEquals(List.of("d0", "d1"), ids(searched.get()));
        assertEquals("moving-v8", searched.get().getHits().getAt(0).getIndex());
    }

    public void testSearch_whenTheAnnouncedCodebookIsNotHeld_thenTheServedOneAnswers() {
        load("early-v7", "v7");
        announce("early-v7", "v9");
        assertEquals(List.of("d0", "d1"), ids(search("early-v7", generative("\"query_text\": \"shoes\", \"k\": 2")).get()));
    }

    private void announce(String index, String next) {
        String meta = "{\"_meta\": {\"genrecall\": {\"codebook\": \"v7\", \"next\": \"" + next + "\"}}}";
        assertAcked(client().admin().indices().preparePutMapping(index).setSource(meta, MediaTypeRegistry.JSON));
    }

    public void testSearch_whenSidsAreGiven_thenNothingIsAsked() {
        int asked = server.requests().size();
        String query = generative("\"sids\": [{\"sid\": \"v7/0/5/0\", \"score\": 0.1}, \"v7/0/7/0\"]");
        assertEquals(List.of("d7", "d5"), ids(search("products-v7", query).get()));
        assertEquals(asked, server.requests().size());
    }

    public void testSearch_whenPointInTime_thenItsIndexNamesTheCodebook() throws Exception {
        CreatePitRequest create = new CreatePitRequest(TimeValue.timeValueMinutes(1), true, "products-v8");
        create.setIndices(new String[] { "products-v8" });
        String pit = client().execute(CreatePitAction.INSTANCE, create).get().getId();
        try {
            int asked = server.requests().size();
            SearchResponse response = client().prepareSearch("products-v8") // as REST fills it in from the point in time
                .setPointInTime(new PointInTimeBuilder(pit))
                .setQuery(QueryBuilders.wrapperQuery(generative("\"query_text\": \"shoes\", \"k\": 2")))
                .get();
            assertEquals(List.of("d0", "d1"), ids(response));
            assertEquals("products-v8", response.getHits().getAt(0).getIndex());
            assertEquals(asked + 1, server.requests().size());
        } finally {
            client().execute(DeletePitAction.INSTANCE, new DeletePitRequest(pit)).get();
        }
    }

    public void testExplainApi_whenPrompt_thenExplains() {
        var explained = client().prepareExplain("products-v7", "d1")
            .setQuery(QueryBuilders.wrapperQuery(generative("\"query_text\": \"shoes\", \"k\": 2")))
            .get();
        assertTrue(explained.isMatch());
        assertThat(explained.getExplanation().toString(), containsString("ConstantScore(sid:v7/0/1/0)"));
    }

    public void testSearch_whenServerIsDown_thenFailsOrMatchesNoneOrFallsBack() throws Exception {
        TestInferenceServer gone = new TestInferenceServer("v7");
        gone.close();
        setting("genrecall.endpoint", gone.endpoint());
        assertDegrades("shoes", "", Kind.UNAVAILABLE, "cannot be reached");
    }

    public void testSearch_whenServerIsSlow_thenFailsOrMatchesNoneOrFallsBack() {
        assertDegrades("slow", ", \"timeout\": \"50ms\"", Kind.TIMEOUT, "gave no answer within [50ms]");
    }

    public void testSearch_whenCodebookIsNotHeld_thenFailsOrMatchesNoneOrFallsBack() {
        assertDegrades("lost-v9", "shoes", "", Kind.CODEBOOK_NOT_HELD, "does not hold codebook [v9]");
    }

    private void assertDegrades(String text, String options, Kind kind, String message) {
        assertDegrades("products-v7", text, options, kind, message);
    }

    private void assertDegrades(String index, String text, String options, Kind kind, String message) {
        long before = counted(stats -> stats.snapshot().generate().failures(kind));
        String asked = "\"query_text\": \"" + text + "\"" + options;
        OpenSearchException e = expectThrows(OpenSearchException.class, () -> search(index, generative(asked)).get());
        assertEquals(RestStatus.SERVICE_UNAVAILABLE, e.status());
        assertThat(e.getDetailedMessage(), containsString(message));

        assertEquals(List.of(), ids(search(index, generative(asked + ", \"on_failure\": \"match_none\"")).get()));
        String blended = "{\"bool\": {\"should\": [{\"term\": {\"price\": 4}}, "
            + generative(asked + ", \"on_failure\": \"match_none\"") + "]}}";
        assertEquals(List.of("d4"), ids(search(index, blended).get()));
        String fallback = generative(asked + ", \"on_failure\": {\"term\": {\"price\": 9}}");
        assertEquals(List.of("d9"), ids(search(index, fallback).get()));
        assertEquals("one a clause", before + 4, counted(stats -> stats.snapshot().generate().failures(kind)));
    }

    public void testSearch_whenItFellBack_thenTheResponseWarnsAndItIsCounted() throws Exception {
        long before = counted(stats -> stats.snapshot().fellBack());
        assertEquals(List.of(), warnings(generative("\"query_text\": \"shoes\"")));
        List<String> warnings = warnings(generative("\"query_text\": \"busy\", \"on_failure\": \"match_none\""));
        assertEquals(1, warnings.size());
        assertThat(warnings.get(0), containsString("[generative] no SIDs (overload): [on_failure] took the place of a clause"));
        assertEquals(before + 1, counted(stats -> stats.snapshot().fellBack()));
    }

    /** Of the response to a search. */
    private List<String> warnings(String query) throws Exception {
        Client coordinator = client(internalCluster().getNodeNames()[0]);
        CompletableFuture<List<String>> warnings = new CompletableFuture<>();
        coordinator.prepareSearch("products-v7").setQuery(QueryBuilders.wrapperQuery(query)).execute(ActionListener.wrap(response -> {
            var headers = coordinator.threadPool().getThreadContext().getResponseHeaders();
            warnings.complete(headers.getOrDefault("Warning", List.of()));
        }, warnings::completeExceptionally));
        return warnings.get(20, TimeUnit.SECONDS);
    }

    public void testSearch_whenGivenCodebookIsNotTheIndexs_thenBadRequest() {
        OpenSearchException e = expectThrows(
            OpenSearchException.class,
            () -> search("products-v7", generative("\"query_text\": \"shoes\", \"codebook\": \"v8\"")).get()
        );
        assertEquals(RestStatus.BAD_REQUEST, e.status());
        assertThat(e.getDetailedMessage(), containsString("this index is of codebook [v7], the SIDs are of [v8]"));
    }

    public void testAliasFilter_whenPrompt_thenRefusedAndWithSidsItFilters() {
        Exception e = expectThrows(
            Exception.class,
            () -> client().admin().indices().prepareAliases().addAlias("products-v7", "some", generative("\"query_text\": \"shoes\"")).get()
        );
        assertThat(ExceptionsHelper.stackTrace(e), containsString("Give [sids] and [codebook] in its place"));
        assertAcked(
            client().admin()
                .indices()
                .prepareAliases()
                .addAlias("products-v7", "some", generative("\"sids\": [\"v7/0/5/0\"], \"codebook\": \"v7\""))
        );
        assertEquals(List.of("d5"), ids(client().prepareSearch("some").get()));
    }

    public void testSettings_whenEndpointAndLimitsChange_thenTheNextSearchFollows() throws Exception {
        try (TestInferenceServer other = new TestInferenceServer("v7")) {
            setting("genrecall.endpoint", other.endpoint());
            search("products-v7", generative("\"query_text\": \"elsewhere\"")).get();
            assertEquals("elsewhere", other.requests().get(0).getQueries(0).getText());
        }
        setting("genrecall.max_k", "10");
        Exception e = expectThrows(Exception.class, () -> search("products-v7", generative("\"query_text\": \"shoes\", \"k\": 11")).get());
        assertThat(ExceptionsHelper.stackTrace(e), containsString("k [11] is too large: this cluster allows 10"));
        for (String wrong : List.of("localhost", "127.0.0.1:1,localhost")) {
            expectThrows(IllegalArgumentException.class, () -> setting("genrecall.endpoint", wrong));
        }
    }

    public void testReload_whenSecureSettingsAreReloaded_thenConnectionsAreMadeAnewAndSearchesGoOn() throws Exception {
        String query = generative("\"query_text\": \"shoes\", \"k\": 1");
        for (String node : internalCluster().getNodeNames()) {
            assertEquals(List.of("d0"), ids(client(node).prepareSearch("products-v7").setQuery(QueryBuilders.wrapperQuery(query)).get()));
        }
        assertTrue(counted(GenerativeSearchTests::answered) > 0);
        for (Environment node : internalCluster().getInstances(Environment.class)) {
            KeyStoreWrapper.create().save(node.configDir(), new char[0]);
        }
        assertFalse(client().admin().cluster().prepareReloadSecureSettings().get().hasFailures());
        // A new connection begins with one call of the node's own.
        assertBusy(() -> assertEquals(internalCluster().getNodeNames().length, counted(GenerativeSearchTests::answered)));
        assertEquals(List.of("d0"), ids(search("products-v7", query).get()));
    }

    private static long answered(NodesStatsAction.NodeStats stats) {
        return stats.snapshot().endpoints().stream().mapToLong(EndpointSnapshot::answered).sum();
    }

    public void testStats_whenSearched_thenEveryNodeIsCounted() {
        long asked = counted(stats -> stats.snapshot().asked());
        long calls = counted(stats -> stats.snapshot().generate().count());
        for (String node : internalCluster().getNodeNames()) {
            client(node).prepareSearch("products-v7")
                .setQuery(QueryBuilders.wrapperQuery(generative("\"query_text\": \"shoes\"")))
                .get();
        }
        int nodes = internalCluster().getNodeNames().length;
        assertEquals(asked + nodes, counted(stats -> stats.snapshot().asked()));
        assertEquals(calls + nodes, counted(stats -> stats.snapshot().generate().count()));
    }

    public void testDryRun_whenIndexIsGiven_thenSidsOfItsCodebook() throws Exception {
        String body = "{\"index\": \"products-v7\", \"query_text\": \"shoes\", \"k\": 2}";
        try (var parser = createParser(JsonXContent.jsonXContent, body)) {
            GenerateAction.Response response = client().execute(GenerateAction.TYPE, GenerateSidsRequest.parse(parser)).get();
            assertEquals("v7/0/1/0", response.generations().get("v7").term("v7", 1));
            assertEquals(2, response.generations().get("v7").size());
        }
    }
}
