package org.genrecall.opensearch;

import com.carrotsearch.randomizedtesting.annotations.ThreadLeakFilters;

import org.genrecall.opensearch.generation.GenerationException.Kind;
import org.opensearch.OpenSearchParseException;
import org.opensearch.action.bulk.BulkItemResponse;
import org.opensearch.action.bulk.BulkResponse;
import org.opensearch.action.ingest.SimulateDocumentBaseResult;
import org.opensearch.action.ingest.SimulatePipelineResponse;
import org.opensearch.common.settings.Settings;
import org.opensearch.core.common.bytes.BytesArray;
import org.opensearch.core.rest.RestStatus;
import org.opensearch.core.xcontent.MediaTypeRegistry;
import org.opensearch.index.query.QueryBuilders;
import org.opensearch.ingest.AbstractProcessor;
import org.opensearch.ingest.IngestDocument;
import org.opensearch.ingest.Processor;
import org.opensearch.plugins.IngestPlugin;
import org.opensearch.plugins.Plugin;
import org.opensearch.search.SearchHit;
import org.opensearch.test.OpenSearchIntegTestCase;
import org.junit.Before;

import java.util.Arrays;
import java.util.Collection;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.TreeSet;
import java.util.stream.IntStream;

import static org.opensearch.test.hamcrest.OpenSearchAssertions.assertAcked;
import static org.opensearch.test.hamcrest.OpenSearchAssertions.assertNoFailures;
import static org.hamcrest.Matchers.containsString;

/** Pipelines with the processor in a cluster of two nodes that call a real gRPC server. The alias "products" leads to products-v7. */
@ThreadLeakFilters(filters = GrpcThreads.class)
@OpenSearchIntegTestCase.ClusterScope(numDataNodes = 2, numClientNodes = 0, supportsDedicatedMasters = false)
public class IngestPipelineTests extends GenrecallIntegTestCase {

    /** A processor that leaves a mark, in place of those of the module ingest-common. */
    public static final class MarkPlugin extends Plugin implements IngestPlugin {
        @Override
        public Map<String, Processor.Factory> getProcessors(Processor.Parameters parameters) {
            return Map.of("mark", (factories, tag, description, config) -> new AbstractProcessor(tag, description) {
                @Override
                public IngestDocument execute(IngestDocument document) {
                    Object message = document.getIngestMetadata().get("on_failure_message");
                    document.setFieldValue("mark", message == null ? "marked" : message);
                    return document;
                }

                @Override
                public String getType() {
                    return "mark";
                }
            });
        }
    }

    @Override
    protected Collection<Class<? extends Plugin>> nodePlugins() {
        return List.of(GenrecallPlugin.class, MarkPlugin.class);
    }

    @Before
    public void createIndices() {
        pipeline("sids", "{\"sid\": {}}");
        create("products-v7", "v7");
        create("products-v8", "v8");
        assertAcked(client().admin().indices().prepareAliases().addAlias("products-v7", "products"));
    }

    private void create(String index, String codebook) {
        assertAcked(
            prepareCreate(index).setSettings(
                Settings.builder()
                    .put("index.number_of_shards", 2)
                    .put("index.number_of_replicas", 0)
                    .put("index.default_pipeline", "sids")
            )
                .setMapping(String.format(Locale.ROOT, """
                    {"_meta": {"genrecall": {"codebook": "%s"}},
                     "properties": {"sid": {"type": "keyword"}, "title": {"type": "text"}, "mark": {"type": "keyword"}}}""", codebook))
        );
    }

    private static void pipeline(String name, String processors) {
        BytesArray body = new BytesArray("{\"processors\": [" + processors + "]}");
        assertAcked(client().admin().cluster().preparePutPipeline(name, body, MediaTypeRegistry.JSON).get());
    }

    private static BulkResponse bulk(String index, String... titles) {
        var bulk = client().prepareBulk();
        for (int i = 0; i < titles.length; i++) {
            bulk.add(client().prepareIndex(index).setId("d" + i).setSource("title", titles[i], "category", List.of("Shoes")));
        }
        return bulk.get();
    }

    private static String[] titles(int count) {
        return IntStream.range(0, count).mapToObj(i -> "t" + "i".repeat(i)).toArray(String[]::new);
    }

    private static Object field(String index, String id, String field) {
        return client().prepareGet(index, id).get().getSourceAsMap().get(field);
    }

    public void testIndex_whenThroughTheAlias_thenFoundByItsSidAndTheSwapFollows() {
        for (String codebook : List.of("v7", "v8")) {
            client().prepareIndex("products").setId("new").setSource("title", "a").get();
            String index = "products-" + codebook;
            assertEquals(codebook + "/1/0/0", field(index, "new", "sid"));
            refresh(index);
            String query = "{\"generative\": {\"sid\": {\"sids\": [\"" + codebook + "/1/0/0\"]}}}";
            SearchHit[] hits = client().prepareSearch(index).setQuery(QueryBuilders.wrapperQuery(query)).get().getHits().getHits();
            assertEquals(List.of("new"), Arrays.stream(hits).map(SearchHit::getId).toList());
            assertAcked(
                client().admin().indices().prepareAliases().removeAlias("products-v7", "products").addAlias("products-v8", "products")
            );
        }
    }

    public void testBulk_whenSeveralIndices_thenEachInItsCodebook() {
        var bulk = client().prepareBulk();
        for (int i = 0; i < 200; i++) {
            bulk.add(client().prepareIndex(i % 2 == 0 ? "products" : "products-v8").setId("d" + i).setSource("title", "t" + "i".repeat(i)));
        }
        assertNoFailures(bulk.get());
        for (int i = 0; i < 200; i++) {
            String codebook = i % 2 == 0 ? "v7" : "v8";
            assertEquals(codebook + "/" + (i + 1) + "/0/0", field("products-" + codebook, "d" + i, "sid"));
        }
    }

    public void testBulk_whenSomeDocumentsAreBad_thenTheirNeighboursAreIndexed() {
        BulkItemResponse[] items = bulk("products", "a", "", "refuse", "x".repeat(20_001), "bb").getItems();
        assertFalse(items[0].isFailed());
        assertRefused(items[1], "field [title] is missing or empty");
        assertRefused(items[2], "refuses the request: items[0].title: not today");
        assertRefused(items[3], "field [title] has 20001 characters");
        assertFalse(items[4].isFailed());
        assertEquals("v7/1/0/1", field("products-v7", "d0", "sid"));
        assertEquals("v7/2/0/1", field("products-v7", "d4", "sid"));
        refresh("products");
        assertEquals(2, client().prepareSearch("products").get().getHits().getTotalHits().value());
    }

    private static void assertRefused(BulkItemResponse item, String message) {
        assertTrue(item.isFailed());
        assertEquals(RestStatus.BAD_REQUEST, item.getFailure().getStatus());
        assertThat(item.getFailureMessage(), containsString(message));
    }

    public void testBulk_whenServerIsDown_thenEveryDocumentFailsAsUnavailable() {
        long before = counted(stats -> stats.snapshot().encode().failures(Kind.UNAVAILABLE));
        setting("genrecall.endpoint", "127.0.0.1:1");
        for (BulkItemResponse item : bulk("products", titles(3))) {
            assertEquals(RestStatus.SERVICE_UNAVAILABLE, item.getFailure().getStatus());
            assertThat(item.getFailureMessage(), containsString("the inference server cannot be reached"));
        }
        assertEquals(before + 3, counted(stats -> stats.snapshot().encode().failures(Kind.UNAVAILABLE)));
    }

    public void testBulk_whenServerIsDownAndFailuresAreIgnored_thenIndexedWithoutSidByTheRestOfThePipeline() {
        pipeline("sids", "{\"sid\": {\"ignore_failure\": true}}, {\"mark\": {}}");
        assertNoFailures(bulk("products", "a", "refuse", "bb"));
        assertEquals("v7/1/0/1", field("products", "d0", "sid"));
        assertNull(field("products", "d1", "sid"));
        setting("genrecall.endpoint", "127.0.0.1:1");
        assertNoFailures(bulk("products", titles(3)));
        client().prepareIndex("products").setId("d3").setSource("title", "alone").get();
        for (int i = 0; i < 4; i++) {
            assertNull(field("products", "d" + i, "sid"));
            assertEquals("marked", field("products", "d" + i, "mark"));
        }
    }

    public void testBulk_whenOnFailure_thenItsProcessorsRunOnTheDocumentsThatFailed() {
        pipeline("sids", "{\"sid\": {\"on_failure\": [{\"mark\": {}}]}}");
        assertNoFailures(bulk("products", "a", "refuse", "bb"));
        client().prepareIndex("products").setId("d3").setSource("brand", "no title").get();
        assertNull(field("products", "d0", "mark"));
        assertThat((String) field("products", "d1", "mark"), containsString("[sid] the inference server"));
        assertThat((String) field("products", "d1", "mark"), containsString("refuses the request: items[0].title: not today"));
        assertNull(field("products", "d1", "sid"));
        assertEquals("v7/2/0/1", field("products", "d2", "sid"));
        assertThat((String) field("products", "d3", "mark"), containsString("field [title] is missing or empty"));
    }

    public void testIndex_whenNoTitleAndIgnored_thenIndexedWithoutSid() {
        pipeline("sids", "{\"sid\": {\"ignore_missing\": true}}");
        client().prepareIndex("products").setId("d0").setSource("brand", "no title").get();
        assertTrue(client().prepareGet("products", "d0").get().isExists());
        assertNull(field("products", "d0", "sid"));
    }

    public void testBulk_whenBatchSizeIsSet_thenCallsOfThatSize() {
        pipeline("sids", "{\"sid\": {\"batch_size\": 10}}");
        int before = server.encodeRequests().size();
        assertNoFailures(bulk("products", titles(35)));
        List<Integer> sizes = server.encodeRequests().stream().skip(before).map(request -> request.getItemsCount()).toList();
        assertEquals(4, sizes.size());
        assertEquals(new TreeSet<>(List.of(5, 10)), new TreeSet<>(sizes));
    }

    public void testPutPipeline_whenOptionIsUnknown_thenRefused() {
        Exception e = expectThrows(OpenSearchParseException.class, () -> pipeline("wrong", "{\"sid\": {\"titel_field\": \"title\"}}"));
        assertThat(e.getMessage(), containsString("[titel_field]"));
    }

    public void testSimulate_whenIndexIsGiven_thenShowsSidOrFailure() {
        SimulatePipelineResponse response = simulate("{\"sid\": {}}", "products", "a", "");
        IngestDocument first = ((SimulateDocumentBaseResult) response.getResults().get(0)).getIngestDocument();
        assertEquals("v7/1/0/0", first.getFieldValue("sid", String.class));
        Exception e = ((SimulateDocumentBaseResult) response.getResults().get(1)).getFailure();
        assertThat(e.getMessage(), containsString("field [title] is missing or empty"));
    }

    public void testSimulate_whenIndexNamesNoCodebook_thenErrorNamesTheRemedyAndTheOptionHelps() {
        SimulatePipelineResponse response = simulate("{\"sid\": {}}", "nowhere", "a");
        Exception e = ((SimulateDocumentBaseResult) response.getResults().get(0)).getFailure();
        assertThat(e.getMessage(), containsString("give [codebook] in the processor"));
        response = simulate("{\"sid\": {\"codebook\": \"v8\"}}", "nowhere", "a");
        IngestDocument document = ((SimulateDocumentBaseResult) response.getResults().get(0)).getIngestDocument();
        assertEquals("v8/1/0/0", document.getFieldValue("sid", String.class));
    }

    private static SimulatePipelineResponse simulate(String processor, String index, String... titles) {
        List<String> docs = Arrays.stream(titles)
            .map(title -> "{\"_index\": \"" + index + "\", \"_id\": \"d\", \"_source\": {\"title\": \"" + title + "\"}}")
            .toList();
        String body = "{\"pipeline\": {\"processors\": [" + processor + "]}, \"docs\": [" + String.join(",", docs) + "]}";
        return client().admin().cluster().prepareSimulatePipeline(new BytesArray(body), MediaTypeRegistry.JSON).get();
    }

    public void testIndex_whenManyClients_thenEveryDocumentHasItsSid() {
        var requests = IntStream.range(0, 100)
            .mapToObj(i -> client().prepareIndex("products").setId("m" + i).setSource("title", "t" + "i".repeat(i)).execute())
            .toList();
        requests.forEach(request -> request.actionGet());
        for (int i = 0; i < 100; i++) {
            assertEquals("v7/" + (i + 1) + "/0/0", field("products", "m" + i, "sid"));
        }
        assertTrue("at once, of two nodes: " + server.mostEncoding(), server.mostEncoding() <= 4);
    }

    public void testStats_whenDocumentsAreEncoded_thenCounted() {
        long encoded = counted(stats -> stats.snapshot().encoded());
        long calls = counted(stats -> stats.snapshot().encode().count());
        bulk("products", titles(5));
        assertEquals(encoded + 5, counted(stats -> stats.snapshot().encoded()));
        assertEquals(calls + 1, counted(stats -> stats.snapshot().encode().count()));
    }
}
