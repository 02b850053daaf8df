package org.genrecall.opensearch;

import com.carrotsearch.randomizedtesting.annotations.ThreadLeakFilters;

import org.apache.lucene.search.Explanation;
import org.genrecall.opensearch.dryrun.GenerateAction;
import org.genrecall.opensearch.dryrun.GenerateSidsRequest;
import org.genrecall.opensearch.query.EvidenceOption;
import org.opensearch.action.search.SearchRequestBuilder;
import org.opensearch.action.search.SearchResponse;
import org.opensearch.action.search.SearchType;
import org.opensearch.common.settings.Settings;
import org.opensearch.common.xcontent.json.JsonXContent;
import org.opensearch.core.xcontent.ToXContent;
import org.opensearch.index.query.QueryBuilders;
import org.opensearch.search.SearchHit;
import org.opensearch.search.builder.SearchSourceBuilder;
import org.opensearch.search.fetch.subphase.highlight.HighlightBuilder;
import org.opensearch.test.OpenSearchIntegTestCase;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.TreeMap;

import static org.opensearch.test.hamcrest.OpenSearchAssertions.assertAcked;
import static org.opensearch.test.hamcrest.OpenSearchAssertions.assertNoFailures;
import static org.hamcrest.Matchers.containsString;

/**
 * Searches with {@code order_within} on two nodes: some hundred items of random SIDs and titles, one in five of two SIDs, some
 * deleted, in several segments and three shards, against the definition applied to every item.
 */
@ThreadLeakFilters(filters = GrpcThreads.class)
@OpenSearchIntegTestCase.SuiteScopeTestCase
@OpenSearchIntegTestCase.ClusterScope(numDataNodes = 2, numClientNodes = 0, supportsDedicatedMasters = false)
public class OrderWithinTests extends GenrecallIntegTestCase {

    private static final int RANKS = 40;
    private static final int K = 25;
    private static final String MATCH = "{\"match\": {\"title\": \"red shoes\"}}";

    /** The ranks of an item's SIDs. */
    private static final Map<String, List<Integer>> ITEMS = new HashMap<>();

    @Override
    public Settings indexSettings() {
        return Settings.builder().put("index.number_of_shards", 3).put("index.number_of_replicas", 0).build();
    }

    @Override
    protected void setupSuiteScopeCluster() {
        ITEMS.clear();
        assertAcked(prepareCreate("shop").setMapping("""
            {"_meta": {"genrecall": {"codebook": "v7"}},
             "properties": {"sid": {"type": "keyword"}, "title": {"type": "text"}, "colour": {"type": "keyword"},
                            "price": {"type": "integer"}}}"""));
        List<String> words = List.of("red", "blue", "shoes", "lamp", "chair");
        for (int batch = 0; batch < 4; batch++) {
            var bulk = client().prepareBulk();
            for (int i = 0; i < 60; i++) {
                List<Integer> ranks = new ArrayList<>(List.of(randomInt(RANKS - 1)));
                if (i % 5 == 0) {
                    ranks.add((ranks.get(0) + randomIntBetween(1, RANKS - 1)) % RANKS);
                }
                String id = "d" + batch + "-" + i;
                ITEMS.put(id, ranks);
                String title = String.join(" ", randomSubsetOf(randomIntBetween(1, 4), words));
                List<String> sids = ranks.stream().map(OrderWithinTests::term).toList();
                bulk.add(
                    client().prepareIndex("shop").setId(id).setSource("sid", sids, "title", title, "colour", words.get(i % 2), "price", i + 1)
                );
            }
            assertNoFailures(bulk.get());
            refresh("shop"); // a segment
        }
        for (String id : randomSubsetOf(20, ITEMS.keySet())) {
            client().prepareDelete("shop", id).get();
            ITEMS.remove(id);
        }
        assertAcked(prepareCreate("colours").setMapping("{\"properties\": {\"name\": {\"type\": \"keyword\"}}}"));
        client().prepareIndex("colours").setId("wanted").setSource("name", "blue").get();
        refresh();
    }

    private static String term(int rank) {
        return "v7/" + rank / 10 + "/" + rank % 10 + "/0";
    }

    private SearchRequestBuilder search(String query) {
        return search(query, SearchType.QUERY_THEN_FETCH); // without it the test client chooses at random
    }

    private SearchRequestBuilder search(String query, SearchType type) {
        return client().prepareSearch("shop").setQuery(QueryBuilders.wrapperQuery(query)).setSearchType(type).setSize(1000);
    }

    private static Map<String, Float> scores(SearchResponse response) {
        assertNoFailures(response);
        Map<String, Float> scores = new HashMap<>();
        for (SearchHit hit : response.getHits().getHits()) {
            scores.put(hit.getId(), hit.getScore());
        }
        return scores;
    }

    private static String clause(String query, double weight, String options) {
        return String.format(Locale.ROOT, """
            {"generative": {"sid": {"query_text": "shoes", "k": %d, "order_within": {"query": %s, "weight": %s}%s}}}""", K, query, weight, options);
    }

    private static double logProbability(int rank) {
        return Math.log(TestInferenceServer.probability(rank)) - Math.log(TestInferenceServer.items(rank));
    }

    /** By the definition: of every item that has one of the first K SIDs. */
    private static Map<String, Float> expected(Map<String, Float> query, double weight, double boost) {
        double least = Double.POSITIVE_INFINITY;
        for (int rank = 0; rank < K; rank++) {
            least = Math.min(least, logProbability(rank));
        }
        Map<String, Float> expected = new TreeMap<>();
        for (var item : ITEMS.entrySet()) {
            double best = Double.NEGATIVE_INFINITY;
            for (int rank : item.getValue()) {
                best = rank < K ? Math.max(best, logProbability(rank)) : best;
            }
            if (best > Double.NEGATIVE_INFINITY) {
                expected.put(item.getKey(), (float) (boost * (1 + best - least + weight * query.getOrDefault(item.getKey(), 0f))));
            }
        }
        return expected;
    }

    private static void assertSame(Map<String, Float> expected, SearchResponse response) {
        Map<String, Float> found = scores(response);
        assertEquals(expected.keySet(), found.keySet());
        expected.forEach((id, score) -> assertEquals(id, score, found.get(id), 1e-5 * Math.max(1, score)));
        assertEquals("each item once", expected.size(), response.getHits().getTotalHits().value());
        float before = Float.POSITIVE_INFINITY;
        for (SearchHit hit : response.getHits().getHits()) {
            assertTrue(hit.getScore() <= before);
            before = hit.getScore();
        }
    }

    public void testSearch_whenOrderWithin_thenScoresAreThoseOfTheDefinitionOverAllItems() {
        for (String query : List.of(
            MATCH,
            "{\"match_all\": {\"boost\": 3}}",
            "{\"function_score\": {\"query\": " + MATCH + ", \"functions\": [{\"filter\": {\"term\": {\"colour\": \"red\"}}, \"weight\": 2}]}}",
            "{\"function_score\": {\"query\": " + MATCH + ", \"field_value_factor\": {\"field\": \"price\"}, \"boost_mode\": \"replace\"}}",
            "{\"bool\": {\"should\": [" + MATCH + ", {\"constant_score\": {\"filter\": {\"term\": {\"colour\": \"blue\"}}}}]}}",
            "{\"terms\": {\"colour\": {\"index\": \"colours\", \"id\": \"wanted\", \"path\": \"name\"}}}",
            "{\"match_none\": {}}"
        )) {
            for (SearchType type : List.of(SearchType.QUERY_THEN_FETCH, SearchType.DFS_QUERY_THEN_FETCH)) {
                Map<String, Float> alone = scores(search(query, type).get());
                assertSame(expected(alone, 2, 1), search(clause(query, 2, ""), type).get());
                assertSame(expected(alone, 0.5, 3), search(clause(query, 0.5, ", \"boost\": 3"), type).get());
                assertSame(expected(alone, 0, 1), search(clause(query, 0, ""), type).get());
            }
        }
    }

    public void testSearch_whenOnlyTheBestAreWanted_thenTheyAreTheBestOfAll() {
        List<Float> all = new ArrayList<>(expected(scores(search(MATCH).get()), 2, 1).values());
        all.sort((a, b) -> Float.compare(b, a));
        for (int from = 0; from < 20; from += 5) {
            SearchHit[] page = search(clause(MATCH, 2, "")).setFrom(from).setSize(5).setTrackTotalHits(false).get().getHits().getHits();
            for (int i = 0; i < 5; i++) {
                assertEquals(all.get(from + i), page[i].getScore(), 1e-5);
            }
        }
    }

    public void testExplain_whenOrderWithin_thenTellsTheSidsPartAndTheQuerys() {
        SearchHit first = search(clause(MATCH, 20, "")).setExplain(true).get().getHits().getAt(0);
        Explanation explanation = first.getExplanation();
        assertEquals(first.getScore(), explanation.getValue().floatValue(), 1e-5);
        assertEquals(explanation.toString(), 2, explanation.getDetails().length);
        String sid = explanation.getDetails()[0].toString();
        assertTrue(sid, ITEMS.get(first.getId()).stream().anyMatch(rank -> sid.contains("ConstantScore(sid:" + term(rank) + ")^")));
        assertThat(explanation.getDetails()[1].toString(), containsString("weight(title:"));
    }

    public void testSearch_whenFilterAndNamesAndHighlight_thenTheQueryWithinIsThereToo() {
        String named = "{\"match\": {\"title\": {\"query\": \"red\", \"_name\": \"text\"}}}";
        String query = "{\"bool\": {\"must\": " + clause(named, 2, ", \"_name\": \"gen\"") + ", \"filter\": {\"match\": {\"title\": \"red\"}}}}";
        SearchResponse response = search(query).highlighter(new HighlightBuilder().field("title")).get();
        assertTrue(response.getHits().getHits().length > 0);
        for (SearchHit hit : response.getHits().getHits()) {
            assertEquals(List.of("gen", "text"), List.of(hit.getMatchedQueries()).stream().sorted().toList());
            assertThat(hit.getHighlightFields().get("title").fragments()[0].string(), containsString("<em>red</em>"));
        }
    }

    public void testSearch_whenServerTellsNoNumbersOfItems_thenEveryItemIsFoundInOrderOfItsShard() {
        String older = clause(MATCH, 0, "").replace("\"shoes\", \"k\"", "\"unsized\", \"k\"");
        Map<String, Float> found = scores(search(older).get());
        assertEquals(expected(Map.of(), 0, 1).keySet(), found.keySet());
        found.values().forEach(score -> assertTrue(score > 0));
    }

    public void testSearch_whenDryRunsSidsAreGiven_thenTheSameScores() throws Exception {
        String body = "{\"index\": \"shop\", \"query_text\": \"shoes\", \"k\": " + K + "}";
        String response;
        try (var parser = createParser(JsonXContent.jsonXContent, body)) {
            var sids = client().execute(GenerateAction.TYPE, GenerateSidsRequest.parse(parser)).get();
            response = sids.toXContent(JsonXContent.contentBuilder(), ToXContent.EMPTY_PARAMS).toString();
        }
        assertThat(response, containsString("\"items\":" + TestInferenceServer.items(2)));
        String sids = response.substring(response.indexOf('['), response.indexOf(']') + 1);
        String given = "{\"generative\": {\"sid\": {\"sids\": " + sids + ", \"order_within\": {\"query\": " + MATCH + ", \"weight\": 2}}}}";
        assertSame(expected(scores(search(MATCH).get()), 2, 1), search(given).get());
    }

    public void testEvidence_whenAsked_thenEachHitSaysWhyItWasFound() throws Exception {
        Map<String, Float> alone = scores(search(MATCH).get());
        String named = clause(MATCH, 2, ", \"_name\": \"gen\"");
        for (String query : List.of(named, "{\"bool\": {\"must\": " + named + ", \"filter\": {\"match_all\": {}}}}")) {
            assertTrue(search(query).get().getHits().getAt(0).getFields().isEmpty());
            SearchResponse response = withEvidence(query);
            assertEquals(expected(alone, 2, 1).keySet(), scores(response).keySet());
            for (SearchHit hit : response.getHits().getHits()) {
                List<Map<String, Object>> told = evidence(hit);
                List<Integer> ranks = ITEMS.get(hit.getId()).stream().filter(rank -> rank < K).toList();
                assertEquals(ranks.size(), told.size());
                for (Map<String, Object> each : told) {
                    int rank = (int) each.get("rank") - 1;
                    assertTrue(ranks.contains(rank));
                    assertEquals(term(rank), each.get("sid"));
                    assertEquals("gen", each.get("name"));
                    assertEquals(TestInferenceServer.probability(rank), (float) each.get("probability"), 0);
                    assertEquals(TestInferenceServer.items(rank), each.get("items"));
                    assertEquals(2 * alone.getOrDefault(hit.getId(), 0f), (float) each.get("order_within"), 1e-5);
                }
            }
        }
    }

    public void testEvidence_whenNoOrderWithinOrAnotherClauseFoundTheHit_thenOnlyWhatThereIs() throws Exception {
        String query = "{\"bool\": {\"should\": [{\"match_all\": {}}, {\"generative\": {\"sid\": {\"sids\": [\"" + term(3) + "\"]}}}]}}";
        SearchResponse response = withEvidence(query);
        assertEquals(ITEMS.keySet(), scores(response).keySet());
        for (SearchHit hit : response.getHits().getHits()) {
            boolean found = ITEMS.get(hit.getId()).contains(3);
            assertEquals(found ? List.of(Map.of("sid", term(3), "rank", 1, "probability", 1f)) : List.of(), evidence(hit));
        }
    }

    private SearchResponse withEvidence(String query) throws Exception {
        try (var parser = createParser(JsonXContent.jsonXContent, "{\"evidence\": true}")) {
            SearchSourceBuilder source = new SearchSourceBuilder().query(QueryBuilders.wrapperQuery(query)).size(1000);
            return client().prepareSearch("shop")
                .setSearchType(SearchType.QUERY_THEN_FETCH)
                .setSource(source.ext(List.of(EvidenceOption.fromXContent(parser))))
                .get();
        }
    }

    @SuppressWarnings("unchecked")
    private static List<Map<String, Object>> evidence(SearchHit hit) {
        var field = hit.getFields().get("_generative");
        return field == null ? List.of() : (List<Map<String, Object>>) (List<?>) field.getValues();
    }
}
