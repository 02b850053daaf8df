package org.genrecall.opensearch.ingest;

import com.carrotsearch.randomizedtesting.annotations.ThreadLeakFilters;

import org.genrecall.opensearch.GrpcThreads;
import org.genrecall.opensearch.PluginNodeTestCase;
import org.genrecall.opensearch.generation.Ask;
import org.genrecall.opensearch.generation.Caller;
import org.genrecall.opensearch.generation.GenerationException;
import org.genrecall.opensearch.generation.GenerationException.Kind;
import org.genrecall.opensearch.generation.Origin;
import org.genrecall.opensearch.generation.PluginPool;
import org.genrecall.v1.EncodeRequest;
import org.genrecall.v1.EncodeResponse;
import org.genrecall.v1.Item;
import org.opensearch.cluster.metadata.AliasMetadata;
import org.opensearch.cluster.metadata.IndexMetadata;
import org.opensearch.cluster.metadata.Metadata;
import org.opensearch.common.settings.Settings;
import org.opensearch.common.unit.TimeValue;
import org.opensearch.core.rest.RestStatus;
import org.opensearch.index.VersionType;
import org.opensearch.ingest.ConfigurationUtils;
import org.opensearch.ingest.IngestDocument;
import org.opensearch.ingest.IngestDocumentWrapper;
import org.opensearch.ingest.Processor;
import org.junit.Before;

import java.util.ArrayList;
import java.util.Collections;
import java.util.Comparator;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.stream.IntStream;

import static org.hamcrest.Matchers.containsString;

/** The processor on a node whose cluster state holds indices of two codebooks, with a real server behind it. */
@ThreadLeakFilters(filters = GrpcThreads.class)
public class SidProcessorTests extends PluginNodeTestCase {

    private EncodeService service;

    @Before
    public void startNode() throws Exception {
        startNode(
            "ingest",
            Settings.builder().put("genrecall.ingest.timeout", "20s").build(),
            Metadata.builder()
                .put(of("products-v7", "v7", AliasMetadata.builder("products"), AliasMetadata.builder("both")), false)
                .put(of("products-v8", "v8", AliasMetadata.builder("new").writeIndex(true), AliasMetadata.builder("both")), false)
                .put(of("products-old", "v7", AliasMetadata.builder("new").writeIndex(false)), false)
                .put(of("products-v9", "v9"), false)
                .put(of("other", null), false)
        );
        service = new EncodeService(values, inference, indexCodebooks, new PluginPool(threadPool), stats);
    }

    private static IndexMetadata of(String name, String codebook, AliasMetadata.Builder... aliases) throws Exception {
        return index(name, codebook == null ? "{}" : "{\"_meta\": {\"genrecall\": {\"codebook\": \"" + codebook + "\"}}}", aliases);
    }

    private SidProcessor processor(Object... options) throws Exception {
        Map<String, Object> config = new HashMap<>();
        for (int i = 0; i < options.length; i += 2) {
            config.put((String) options[i], options[i + 1]);
        }
        var factories = Map.<String, Processor.Factory>of(SidProcessor.TYPE, new SidProcessorFactory(() -> service));
        return (SidProcessor) ConfigurationUtils.readProcessor(factories, null, SidProcessor.TYPE, config);
    }

    private static IngestDocument document(String index, Object title) {
        Map<String, Object> source = new HashMap<>(Map.of("brand", "Acme", "category", List.of("Shoes", "Running")));
        if (title != null) {
            source.put("title", title);
        }
        return new IngestDocument(index, "d1", null, null, VersionType.INTERNAL, source);
    }

    private static List<IngestDocument> documents(String index, int count) {
        return IntStream.range(0, count).mapToObj(i -> document(index, "t" + "i".repeat(i))).toList();
    }

    /** What the processor hands back, by slot; fails where it does so twice, or not at all. */
    private static List<IngestDocumentWrapper> batch(SidProcessor processor, List<IngestDocument> documents) throws Exception {
        List<IngestDocumentWrapper> wrappers = new ArrayList<>();
        for (IngestDocument document : documents) {
            wrappers.add(new IngestDocumentWrapper(wrappers.size(), 0, document, null));
        }
        AtomicInteger told = new AtomicInteger();
        CompletableFuture<List<IngestDocumentWrapper>> done = new CompletableFuture<>();
        processor.batchExecute(wrappers, results -> {
            told.incrementAndGet();
            done.complete(results.stream().sorted(Comparator.comparing(IngestDocumentWrapper::getSlot)).toList());
        });
        List<IngestDocumentWrapper> results = done.get(30, TimeUnit.SECONDS);
        assertEquals(documents.size(), results.size());
        assertEquals(1, told.get());
        for (IngestDocumentWrapper wrapper : wrappers) {
            assertNull("what came in stays as it was, for ignore_failure", wrapper.getException());
            assertNotNull(wrapper.getIngestDocument());
        }
        return results;
    }

    private static List<IngestDocumentWrapper> batch(SidProcessor processor, IngestDocument... documents) throws Exception {
        return batch(processor, List.of(documents));
    }

    private static Exception single(SidProcessor processor, IngestDocument document) throws Exception {
        AtomicInteger told = new AtomicInteger();
        CompletableFuture<Exception> done = new CompletableFuture<>();
        processor.execute(document, (result, e) -> {
            told.incrementAndGet();
            assertTrue(e == null ? result == document : result == null);
            done.complete(e);
        });
        Exception e = done.get(30, TimeUnit.SECONDS);
        assertEquals(1, told.get());
        return e;
    }

    private static String sid(IngestDocument document) {
        return document.getFieldValue("sid", String.class, true);
    }

    private static String sid(IngestDocumentWrapper result) {
        assertNull(result.getException());
        return sid(result.getIngestDocument());
    }

    private static GenerationException failure(IngestDocumentWrapper result) {
        assertNotNull(result.getException());
        assertNull(sid(result.getIngestDocument()));
        return (GenerationException) result.getException();
    }

    private static void assertFailed(Exception e, Kind kind, String message) {
        assertEquals(kind, ((GenerationException) e).kind());
        assertThat(e.getMessage(), containsString("[sid] "));
        assertThat(e.getMessage(), containsString(message));
    }

    public void testExecute_whenOneDocument_thenItsSid() throws Exception {
        IngestDocument document = document("products-v7", "Red shoes");
        assertNull(single(processor(), document));
        assertEquals("v7/9/4/2", sid(document));
        Item expected = Item.newBuilder()
            .setItemId("d1")
            .setTitle("Red shoes")
            .setBrand("Acme")
            .addCategory("Shoes")
            .addCategory("Running")
            .build();
        assertEquals(EncodeRequest.newBuilder().setCodebook("v7").addItems(expected).build(), server.encodeRequests().get(0));
        assertEquals(1, stats.snapshot().encoded());
        assertEquals(1, stats.snapshot().encode().count());
    }

    public void testExecute_whenSidIsThereAlready_thenReplaced() throws Exception {
        IngestDocument document = document("products-v8", "Red shoes");
        document.setFieldValue("sid", List.of("v6/1/2/3", "v7/1/2/3"));
        assertNull(single(processor(), document));
        assertEquals("v8/9/4/2", sid(document));
    }

    public void testExecute_whenSkipExisting_thenASidOfThisCodebookIsKeptWhileTheTextIsTheSame() throws Exception {
        SidProcessor processor = processor("skip_existing", true);
        IngestDocument document = document("products-v7", "Red shoes");
        document.setFieldValue("sid", "v7/1/2/3"); // of whatever text
        assertNull(single(processor, document));
        assertEquals("v7/9/4/2", sid(document));
        document.setFieldValue("price", 12);
        assertNull(single(processor, document));
        assertEquals("the same text", 1, server.encodeRequests().size());
        document.setFieldValue("title", "Red shoe");
        assertNull(single(processor, document));
        assertEquals("v7/8/4/2", sid(document));
        document.setFieldValue("sid", "v8/8/4/2");
        assertNull(single(processor, document));
        assertEquals("of another codebook", "v7/8/4/2", sid(document));
        document.setFieldValue("sid", List.of("v7/8/4/2"));
        assertNull(single(processor, document));
        assertEquals("not a term", "v7/8/4/2", sid(document));
        assertEquals(4, server.encodeRequests().size());
    }

    public void testExecute_whenNotSkipExisting_thenNoHashIsWritten() throws Exception {
        IngestDocument document = document("products-v7", "Red shoes");
        assertNull(single(processor(), document));
        assertFalse(document.hasField("sid_hash"));
    }

    public void testExecute_whenTargetFieldIsInAnObject_thenMade() throws Exception {
        IngestDocument document = document("products-v7", "Red shoes");
        assertNull(single(processor("target_field", "ids.sid"), document));
        assertEquals("v7/9/4/2", document.getFieldValue("ids.sid", String.class));
    }

    public void testExecute_whenTargetFieldCannotBeWritten_thenThatIsTheError() throws Exception {
        IngestDocument document = document("products-v7", "Red shoes");
        Exception e = single(processor("target_field", "title.sid"), document);
        assertThat(e.getMessage(), containsString("title"));
        assertEquals(0, stats.snapshot().encoded());
    }

    public void testExecute_whenNoTitle_thenErrorOrNoSid() throws Exception {
        assertFailed(single(processor(), document("products-v7", null)), Kind.INVALID_REQUEST, "field [title] is missing or empty");
        IngestDocument document = document("products-v7", " ");
        assertNull(single(processor("ignore_missing", true), document));
        assertNull(sid(document));
        assertTrue(server.encodeRequests().isEmpty());
    }

    public void testCodebook_whenAlias_thenThatOfItsWriteIndex() throws Exception {
        List<IngestDocumentWrapper> results = batch(processor(), document("products", "a"), document("new", "b"));
        assertEquals("v7/1/4/2", sid(results.get(0)));
        assertEquals("v8/1/4/2", sid(results.get(1)));
    }

    public void testCodebook_whenGiven_thenTheIndexIsNotAsked() throws Exception {
        assertEquals("v8/1/4/2", sid(batch(processor("codebook", "v8"), document("missing", "a")).get(0)));
    }

    public void testCodebook_whenNone_thenErrorNamesTheRemedy() throws Exception {
        for (String index : List.of("other", "missing", "both", "_index")) {
            GenerationException e = failure(batch(processor(), document(index, "a")).get(0));
            assertFailed(e, Kind.NO_CODEBOOK, "[" + index + "]");
            assertThat(e.getMessage(), containsString("give [codebook] in the processor"));
            assertEquals(RestStatus.BAD_REQUEST, e.status());
        }
        assertEquals(4, stats.snapshot().encode().failures(Kind.NO_CODEBOOK));
    }

    public void testBatch_whenSeveralCodebooks_thenOneCallEach() throws Exception {
        List<IngestDocumentWrapper> results = batch(
            processor(),
            document("products-v7", "a"),
            document("products-v8", "bb"),
            document("products-v9", "ccc"),
            document("other", "dddd"),
            document("products-v7", "eeeee")
        );
        assertEquals("v7/1/4/2", sid(results.get(0)));
        assertEquals("v8/2/4/2", sid(results.get(1)));
        assertFailed(failure(results.get(2)), Kind.CODEBOOK_NOT_HELD, "cannot encode for codebook [v9]");
        assertFailed(failure(results.get(3)), Kind.NO_CODEBOOK, "other");
        assertEquals("v7/5/4/2", sid(results.get(4)));
        assertEquals(3, server.encodeRequests().size());
        assertEquals(3, stats.snapshot().encoded());
    }

    public void testBatch_whenLarge_thenCallsOfBatchSizeAndFewAtOnce() throws Exception {
        List<IngestDocumentWrapper> results = batch(processor("batch_size", 7), documents("products-v7", 100));
        for (int i = 0; i < 100; i++) {
            assertEquals("v7/" + (i + 1) + "/4/2", sid(results.get(i)));
        }
        assertEquals(15, server.encodeRequests().size());
        assertEquals(7, server.encodeRequests().stream().mapToInt(EncodeRequest::getItemsCount).max().getAsInt());
        assertTrue("at once: " + server.mostEncoding(), server.mostEncoding() <= 2);
    }

    public void testCut_whenItemsAreLarge_thenEachPartFitsIntoARequest() {
        Encoding large = new Encoding("v7", Item.newBuilder().setTitle("👟".repeat(20_000)).build());
        List<List<Encoding>> parts = EncodeService.cut(Collections.nCopies(30, large));
        assertEquals(List.of(12, 12, 6), parts.stream().map(List::size).toList());
        Encoding small = new Encoding("v7", Item.newBuilder().setTitle("a").build());
        assertEquals(List.of(256, 44), EncodeService.cut(Collections.nCopies(300, small)).stream().map(List::size).toList());
    }

    public void testBatch_whenSomeDocumentsAreBad_thenTheirNeighboursGetTheirSids() throws Exception {
        List<IngestDocumentWrapper> results = batch(
            processor(),
            document("products-v7", "a"),
            document("products-v7", null),
            document("products-v7", "x".repeat(20_001)),
            document("products-v7", Map.of("de", "Schuhe")),
            document("products-v7", "bb")
        );
        assertEquals("v7/1/4/2", sid(results.get(0)));
        assertFailed(failure(results.get(1)), Kind.INVALID_REQUEST, "field [title] is missing");
        assertFailed(failure(results.get(2)), Kind.INVALID_REQUEST, "field [title] has 20001 characters");
        assertFailed(failure(results.get(3)), Kind.INVALID_REQUEST, "field [title] is missing");
        assertEquals("v7/2/4/2", sid(results.get(4)));
        assertEquals(1, server.encodeRequests().size());
        assertEquals(3, stats.snapshot().encode().failures(Kind.INVALID_REQUEST));
    }

    public void testBatch_whenTheServerRefusesIt_thenOnlyTheDocumentsAtFaultFail() throws Exception {
        List<IngestDocument> documents = new ArrayList<>(documents("products-v7", 64));
        documents.set(5, document("products-v7", "refuse this"));
        documents.set(63, document("products-v7", "refuse that"));
        List<IngestDocumentWrapper> results = batch(processor(), documents);
        for (int i = 0; i < 64; i++) {
            if (i == 5 || i == 63) {
                assertFailed(failure(results.get(i)), Kind.INVALID_REQUEST, "refuses the request: items[0].title: not today");
            } else {
                assertEquals("v7/" + (i + 1) + "/4/2", sid(results.get(i)));
            }
        }
        assertTrue("calls: " + server.encodeRequests().size(), server.encodeRequests().size() < 30);
    }

    public void testBatch_whenServerIsDown_thenEveryDocumentFails() throws Exception {
        server.close();
        for (IngestDocumentWrapper result : batch(processor(), documents("products-v7", 3))) {
            GenerationException e = failure(result);
            assertFailed(e, Kind.UNAVAILABLE, "cannot be reached");
            assertThat(e.getMessage(), containsString("[ignore_failure] lets documents be indexed without SID"));
            assertEquals(RestStatus.SERVICE_UNAVAILABLE, e.status());
        }
        assertEquals(3, stats.snapshot().encode().failures(Kind.UNAVAILABLE));
    }

    public void testBatch_whenServerIsSlow_thenTimeoutNamesTheLimit() throws Exception {
        IngestDocument slow = document("products-v7", "slow");
        Exception e = single(processor("timeout", "100ms"), slow);
        assertFailed(e, Kind.TIMEOUT, "gave no answer within [100ms]");
        assertThat(e.getMessage(), containsString("[genrecall.ingest.timeout]"));
    }

    public void testBatch_whenNoTurnInTime_thenTooManyRequests() throws Exception {
        List<IngestDocument> documents = List.of(
            document("products-v7", "slow 1"),
            document("products-v7", "slow 2"),
            document("products-v7", "a")
        );
        List<IngestDocumentWrapper> results = batch(processor("timeout", "200ms", "batch_size", 1), documents);
        assertFailed(failure(results.get(0)), Kind.TIMEOUT, "gave no answer");
        assertFailed(failure(results.get(1)), Kind.TIMEOUT, "gave no answer");
        GenerationException e = failure(results.get(2));
        assertFailed(e, Kind.OVERLOAD, "no turn within [200ms]");
        assertThat(e.getMessage(), containsString("[genrecall.ingest.max_in_flight]"));
        assertEquals(RestStatus.TOO_MANY_REQUESTS, e.status());
        assertNull("and the next has its turn", single(processor(), document("products-v7", "a")));
    }

    public void testBatch_whenTheTurnsOfOthersLastLonger_thenFailsWhenItsOwnTimeIsOver() throws Exception {
        CompletableFuture<Exception> others = new CompletableFuture<>();
        for (int i = 0; i < 2; i++) {
            processor("timeout", "20s").execute(document("products-v7", "slow " + i), (result, e) -> others.complete(e));
        }
        Exception e = single(processor("timeout", "200ms"), document("products-v7", "a"));
        assertFailed(e, Kind.OVERLOAD, "no turn within [200ms]");
        assertFalse("they go on", others.isDone());
        server.close();
        others.get(30, TimeUnit.SECONDS);
        assertEquals("it was never asked", 2, server.encodeRequests().size());
    }

    public void testBatch_whenServerIsBusy_thenAskedAgainOnlyIfItSaysSo() throws Exception {
        assertFailed(single(processor(), document("products-v7", "busy")), Kind.OVERLOAD, "has too much to do: the queue is full");
        assertEquals(1, server.encodeRequests().size());
        assertNull(single(processor(), document("products-v7", "later")));
        assertEquals(4, server.encodeRequests().size());
    }

    public void testBatch_whenServerIsBusyBeyondTheDeadline_thenFailsAtOnce() throws Exception {
        assertFailed(single(processor(), document("products-v7", "tomorrow")), Kind.OVERLOAD, "the queue is full");
        assertEquals(1, server.encodeRequests().size());
    }

    public void testBatch_whenReplyBreaksTheContract_thenNoDocumentGetsAWrongSid() throws Exception {
        Exception other = single(processor(), document("products-v7", "broken"));
        assertFailed(other, Kind.SERVER_ERROR, "asked for codebook [v7], it answered with [v0]");
        for (IngestDocumentWrapper result : batch(processor(), document("products-v7", "a"), document("products-v7", "short"))) {
            assertFailed(failure(result), Kind.SERVER_ERROR, "asked for 2 SIDs of 3 codes, it answered with 5 codes");
        }
    }

    public void testRead_whenCodeIsTooLarge_thenThrows() {
        Ask ask = new Ask(Caller.PROCESSOR, "v7", TimeValue.timeValueSeconds(1), Origin.UNKNOWN);
        EncodeResponse.Builder reply = EncodeResponse.newBuilder().setCodebook("v7").addCodes(1).addCodes(2);
        assertEquals(List.of("v7/1/2/3"), EncodeClient.read(reply.clone().addCodes(3).build(), ask, 1));
        expectThrows(IllegalArgumentException.class, () -> EncodeClient.read(reply.clone().addCodes(-1).build(), ask, 1));
    }

    public void testBatch_whenEmpty_thenToldSo() throws Exception {
        assertEquals(List.of(), batch(processor()));
    }

    public void testBatch_whenAnswered_thenGoesOnOnThePluginsPoolInTheCallersContext() throws Exception {
        threadPool.getThreadContext().putHeader("who", "ann");
        CompletableFuture<String> seen = new CompletableFuture<>();
        processor().execute(
            document("products-v7", "a"),
            (result, e) -> seen.complete(threadPool.getThreadContext().getHeader("who") + " on " + Thread.currentThread().getName())
        );
        assertThat(seen.get(30, TimeUnit.SECONDS), containsString("ann on "));
        assertThat(seen.get(), containsString("[" + PluginPool.NAME + "]"));
    }

    public void testBatch_whenThePoolIsFull_thenFailsInsteadOfHanging() throws Exception {
        withFullPool(() -> {
            SidProcessor processor = processor("ignore_missing", true);
            List<IngestDocumentWrapper> results = batch(processor, document("products-v7", "a"), document("products-v7", null));
            assertFailed(failure(results.get(0)), Kind.OVERLOAD, "thread pool [genrecall] is full");
            assertNull("nothing was asked for it", sid(results.get(1)));
        });
    }

    public void testBatch_whenTheRestOfThePipelineThrows_thenNotToldTwice() throws Exception {
        AtomicInteger told = new AtomicInteger();
        processor().execute(document("products-v7", "a"), (result, e) -> {
            told.incrementAndGet();
            throw new IllegalStateException("on purpose");
        });
        assertNull("the next is served", single(processor(), document("products-v7", "b")));
        assertBusy(() -> assertEquals(1, told.get()));
        Thread.sleep(100);
        assertEquals(1, told.get());
    }
}
