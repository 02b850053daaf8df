package org.genrecall.opensearch.generation;

import io.grpc.InsecureChannelCredentials;
import io.grpc.InsecureServerCredentials;

import com.carrotsearch.randomizedtesting.annotations.ThreadLeakFilters;

import org.genrecall.opensearch.GenrecallSettings;
import org.genrecall.opensearch.GrpcThreads;
import org.genrecall.opensearch.TestInferenceServer;
import org.genrecall.opensearch.generation.GenerateBatches.Answer;
import org.genrecall.opensearch.generation.GenerationException.Kind;
import org.genrecall.opensearch.stats.EndpointSnapshot;
import org.genrecall.opensearch.stats.GenerationStats;
import org.genrecall.v1.GenerateRequest;
import org.genrecall.v1.GenerateResponse;
import org.genrecall.v1.Generated;
import org.genrecall.v1.GenerativeRecallGrpc;
import org.genrecall.v1.Query;
import org.opensearch.ExceptionsHelper;
import org.opensearch.common.settings.ClusterSettings;
import org.opensearch.common.settings.Settings;
import org.opensearch.common.unit.TimeValue;
import org.opensearch.core.rest.RestStatus;
import org.opensearch.test.OpenSearchTestCase;
import org.opensearch.threadpool.TestThreadPool;
import org.opensearch.threadpool.ThreadPool;
import org.junit.After;
import org.junit.Before;

import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;

import static org.hamcrest.Matchers.containsString;
import static org.hamcrest.Matchers.not;

/** The client against a real server over loopback. */
@ThreadLeakFilters(filters = GrpcThreads.class)
public class GenerationClientTests extends OpenSearchTestCase {

    private static final TimeValue LONG = TimeValue.timeValueSeconds(20);
    private static final TimeValue SHORT = TimeValue.timeValueMillis(50);

    private TestInferenceServer server;
    private GenrecallSettings settings;
    private ClusterSettings clusterSettings;
    private GenerationStats stats;
    private ThreadPool threads;
    private InferenceServer inference;
    private GenerationClient client;
    private GenerationCache cache;

    @Before
    public void connect() throws Exception {
        server = new TestInferenceServer("v7", "v8");
        Settings at = Settings.builder().put("genrecall.endpoint", server.endpoint()).build();
        clusterSettings = new ClusterSettings(at, new HashSet<>(GenrecallSettings.all()));
        settings = new GenrecallSettings(at, clusterSettings);
        threads = new TestThreadPool("client");
        inference = new InferenceServer(settings, InsecureChannelCredentials.create(), Runnable::run);
        stats = new GenerationStats(inference::endpoints);
        client = new GenerationClient(inference, settings, stats, new PluginPool(threads));
        cache = new GenerationCache(client, settings, stats);
    }

    @After
    public void disconnect() {
        inference.close();
        server.close();
        ThreadPool.terminate(threads, 10, TimeUnit.SECONDS);
    }

    private CompletableFuture<Generation> ask(String codebook, Prompt prompt, TimeValue timeout) {
        return client.generate(codebook, prompt, timeout, new RequestRoom()).thenApply(Answer::generation);
    }

    private CompletableFuture<Generation> cached(String codebook, Prompt prompt, TimeValue timeout) {
        return cache.generate(codebook, prompt, timeout, new RequestRoom());
    }

    public void testGenerate_whenAnswered_thenCodesAndProbabilities() throws Exception {
        Generation generation = ask("v7", prompt("shoes", 12), LONG).get();
        assertEquals(12, generation.size());
        assertEquals("v7/0/0/0", generation.term("v7", 0));
        assertEquals("v7/1/1/0", generation.term("v7", 11));
        assertEquals(TestInferenceServer.probability(11), generation.probability(11), 0);
        assertEquals(TestInferenceServer.items(11), generation.items(11));
    }

    public void testCall_whenReadingTheReplyFailsWithAnError_thenTheFutureFailsAndTheCallIsOver() throws Exception {
        AtomicInteger ended = new AtomicInteger();
        CompletableFuture<Object> answer = inference.call(
            GenerativeRecallGrpc.getGenerateMethod(),
            GenerateRequest.newBuilder().setCodebook("v7").addQueries(Query.newBuilder().setText("shoes")).setK(2).build(),
            new Ask(Caller.CLAUSE, "v7", LONG, Origin.UNKNOWN),
            response -> { throw new NoClassDefFoundError("of a plugin that was removed"); },
            nanos -> ended.incrementAndGet()
        );
        ExecutionException failure = expectThrows(ExecutionException.class, () -> answer.get(20, TimeUnit.SECONDS));
        assertEquals(Kind.SERVER_ERROR, ((GenerationException) failure.getCause()).kind());
        assertThat(failure.getCause().getMessage(), containsString("this node failed: java.lang.NoClassDefFoundError"));
        assertEquals(1, ended.get());
    }

    public void testCall_whenItCannotEvenStart_thenTheFutureFails() {
        CompletableFuture<Object> answer = inference.call(null, null, new Ask(Caller.CLAUSE, "v7", LONG, null), response -> response, nanos -> {
            throw new LinkageError("in the statistics");
        });
        expectThrows(ExecutionException.class, "whoever waits is told", () -> answer.get(20, TimeUnit.SECONDS));
    }

    public void testCache_whenACallFailsWithAnError_thenNoFlightStays() {
        GenerationClient failing = new GenerationClient(inference, settings, stats, new PluginPool(threads)) {
            @Override
            CompletableFuture<Answer> generate(String codebook, Prompt prompt, TimeValue timeout, RequestRoom room) {
                throw new ExceptionInInitializerError("once");
            }
        };
        GenerationCache flights = new GenerationCache(failing, settings, stats);
        for (int attempt = 0; attempt < 2; attempt++) {
            CompletableFuture<Generation> answer = flights.generate("v7", prompt("shoes", 2), LONG, new RequestRoom());
            assertTrue(answer.isCompletedExceptionally());
        }
        assertEquals("the second is a call of its own", 0, stats.snapshot().coalesced());
    }

    public void testGenerate_whenServerTellsNoNumbersOfItems_thenTheyAreUnknown() throws Exception {
        Generation generation = ask("v7", prompt("unsized", 3), LONG).get();
        assertEquals(3, generation.size());
        assertEquals(0, generation.items(2));
    }

    public void testGenerate_whenAsked_thenEveryOptionReachesTheServer() throws Exception {
        UserContext user = new UserContext("f", "25-34", List.of("v7/3/9/1"), List.of("B01", "B02"));
        ask("v8", new Prompt("أحذية 👟", 3, 40, user, false), LONG).get();
        GenerateRequest request = server.requests().get(0);
        assertEquals("v8", request.getCodebook());
        assertEquals(3, request.getK());
        assertEquals(40, request.getBeamWidth());
        assertEquals("أحذية 👟", request.getQueries(0).getText());
        assertTrue(request.getQueries(0).getWithoutMemory());
        assertEquals("f", request.getQueries(0).getUser().getGender());
        assertEquals("25-34", request.getQueries(0).getUser().getAgeBand());
        assertEquals(List.of("v7/3/9/1"), request.getQueries(0).getUser().getRecentSidsList());
        assertEquals(List.of("B01", "B02"), request.getQueries(0).getUser().getRecentItemsList());
    }

    public void testGenerate_whenNoServer_thenUnavailableAndTheEndpointIsToldToOperatorsAlone() {
        server.close();
        GenerationException e = failure(ask("v7", prompt("shoes", 3), LONG));
        assertEquals(Kind.UNAVAILABLE, e.kind());
        assertEquals(RestStatus.SERVICE_UNAVAILABLE, e.status());
        assertThat(e.getMessage(), containsString("the inference server cannot be reached. [on_failure] can let"));
        assertThat(ExceptionsHelper.stackTrace(e), not(containsString(String.valueOf(server.port()))));
        EndpointSnapshot seen = stats.snapshot().endpoints().get(0);
        assertEquals(server.endpoint(), seen.address());
        assertThat(seen.lastFailure(), containsString("refused"));
    }

    public void testGenerate_whenServerComesBack_thenAnswersSoon() throws Exception {
        assertEquals(1, ask("v7", prompt("shoes", 1), LONG).get().size());
        int port = server.port();
        server.close();
        assertEquals(Kind.UNAVAILABLE, failure(ask("v7", prompt("shoes", 1), LONG)).kind());
        server = new TestInferenceServer(port, InsecureServerCredentials.create(), "v7");
        assertBusy(() -> {
            CompletableFuture<Generation> answer = ask("v7", prompt("shoes", 1), LONG);
            assertNull(answer.handle((generation, failure) -> failure).get());
        }, 10, TimeUnit.SECONDS);
    }

    public void testGenerate_whenSlow_thenTimeoutNamesTheLimit() {
        GenerationException e = failure(ask("v7", prompt("slow", 3), SHORT));
        assertEquals(Kind.TIMEOUT, e.kind());
        assertEquals(RestStatus.SERVICE_UNAVAILABLE, e.status());
        assertThat(e.getMessage(), containsString("gave no answer within [50ms]"));
    }

    public void testGenerate_whenCodebookNotHeld_thenMessageNamesItAndThoseHeld() {
        GenerationException e = failure(ask("v9", prompt("shoes", 3), LONG));
        assertEquals(Kind.CODEBOOK_NOT_HELD, e.kind());
        assertThat(e.getMessage(), containsString("does not hold codebook [v9]"));
        assertThat(e.getMessage(), containsString("v8"));
    }

    public void testGenerate_whenRefused_thenBadRequestWithTheServersWords() {
        GenerationException e = failure(ask("v7", prompt("refuse", 3), LONG));
        assertEquals(Kind.INVALID_REQUEST, e.kind());
        assertEquals(RestStatus.BAD_REQUEST, e.status());
        assertThat(e.getMessage(), containsString("queries[0].text: not today"));
    }

    public void testGenerate_whenServerBusy_thenTooManyRequests() {
        GenerationException e = failure(ask("v7", prompt("busy", 3), LONG));
        assertEquals(Kind.OVERLOAD, e.kind());
        assertEquals(RestStatus.TOO_MANY_REQUESTS, e.status());
    }

    public void testGenerate_whenReplyIsOfAnotherCodebook_thenFailsInsteadOfRecallingTheWrongSids() {
        GenerationException e = failure(ask("v7", prompt("broken", 3), LONG));
        assertEquals(Kind.SERVER_ERROR, e.kind());
        assertThat(e.getMessage(), containsString("asked for codebook [v7], it answered with [v0]"));
    }

    public void testRead_whenReplyBreaksTheContract_thenThrows() {
        Ask ask = new Ask(Caller.CLAUSE, "v7", LONG, Origin.UNKNOWN);
        GenerateResponse.Builder reply = GenerateResponse.newBuilder().setCodebook("v7");
        Generated two = Generated.newBuilder().addAllCodes(List.of(1, 2, 3, 4, 5, 6)).addAllScores(List.of(-1f, -2f)).build();
        assertEquals(2, GenerateBatches.read(reply.clone().addResults(two).build(), ask, 1, 2).get(0).generation().size());
        for (GenerateResponse bad : List.of(
            reply.clone().build(),
            reply.clone().addResults(two).addResults(two).build(),
            reply.clone().addResults(two.toBuilder().addCodes(7)).build(),
            reply.clone().addResults(two.toBuilder().setCodes(0, -1)).build(),
            reply.clone().addResults(two.toBuilder().addItems(7)).build(),
            reply.clone().addResults(two.toBuilder().addItems(7).addItems(-1)).build(),
            reply.clone().addResults(two.toBuilder().setScores(0, Float.NaN)).build(),
            reply.clone().addResults(two.toBuilder().setScores(0, Float.POSITIVE_INFINITY)).build()
        )) {
            expectThrows(IllegalArgumentException.class, () -> GenerateBatches.read(bad, ask, 1, 2));
        }
        expectThrows(IllegalArgumentException.class, () -> GenerateBatches.read(reply.clone().addResults(two).build(), ask, 1, 1));
    }

    public void testGenerate_whenInFlightCapReached_thenOverloadAndRoomAfterwards() throws Exception {
        clusterSettings.applySettings(
            Settings.builder().put("genrecall.endpoint", server.endpoint()).put("genrecall.max_in_flight", 1).build()
        );
        CompletableFuture<Generation> first = ask("v7", prompt("slow", 1), TimeValue.timeValueSeconds(2));
        GenerationException e = failure(ask("v7", prompt("shoes", 1), LONG));
        assertEquals(Kind.OVERLOAD, e.kind());
        assertThat(e.getMessage(), containsString("[genrecall.max_in_flight]"));
        assertEquals(Kind.TIMEOUT, failure(first).kind());
        assertEquals(1, ask("v7", prompt("shoes", 1), LONG).get().size());
    }

    public void testCache_whenAskedAgain_thenOneCall() throws Exception {
        Generation first = cached("v7", prompt("shoes", 5), LONG).get();
        Generation known = cached("v7", prompt("shoes", 5), SHORT).get();
        assertEquals(first, known);
        assertEquals(TestInferenceServer.items(2), known.items(2));
        assertEquals(1, server.requests().size());
        assertEquals(1, stats.snapshot().cacheHits());
    }

    public void testCache_whenAnythingDiffers_thenAnotherCall() throws Exception {
        UserContext user = new UserContext("f", null, List.of(), List.of());
        cached("v7", prompt("shoes", 5), LONG).get();
        cached("v8", prompt("shoes", 5), LONG).get();
        cached("v7", prompt("shoe", 5), LONG).get();
        cached("v7", prompt("shoes", 6), LONG).get();
        cached("v7", new Prompt("shoes", 5, 9, UserContext.ANONYMOUS), LONG).get();
        cached("v7", new Prompt("shoes", 5, 0, user), LONG).get();
        cached("v7", new Prompt("shoes", 5, 0, user, false), LONG).get();
        assertEquals(7, server.requests().size());
    }

    public void testCache_whenSizeIsZero_thenEveryQuestionIsACall() throws Exception {
        clusterSettings.applySettings(Settings.builder().put("genrecall.endpoint", server.endpoint()).put("genrecall.cache.size", "0b").build());
        cache.clear();
        cached("v7", prompt("shoes", 5), LONG).get();
        cached("v7", prompt("shoes", 5), LONG).get();
        assertEquals(2, server.requests().size());
    }

    public void testCache_whenAnswerIsOld_thenAsksAgain() throws Exception {
        clusterSettings.applySettings(Settings.builder().put("genrecall.endpoint", server.endpoint()).put("genrecall.cache.ttl", "1ms").build());
        cache.clear();
        cached("v7", prompt("shoes", 5), LONG).get();
        Thread.sleep(50);
        cached("v7", prompt("shoes", 5), LONG).get();
        assertEquals(2, server.requests().size());
    }

    public void testCache_whenCallFails_thenNotKept() {
        failure(cached("v7", prompt("busy", 5), LONG));
        failure(cached("v7", prompt("busy", 5), LONG));
        assertEquals(2, server.requests().size());
    }

    public void testCache_whenEqualQuestionsAreUnderWay_thenOneCallForAll() throws Exception {
        TimeValue limit = TimeValue.timeValueSeconds(2);
        CompletableFuture<Generation> first = cached("v7", prompt("slow", 5), limit);
        CompletableFuture<Generation> second = cached("v7", prompt("slow", 5), limit);
        assertSame(first, second);
        assertEquals(Kind.TIMEOUT, failure(second).kind());
        assertEquals(1, stats.snapshot().coalesced());
        assertEquals(1, stats.snapshot().generate().count());
    }

    public void testCache_whenAnotherModelAnswers_thenWhatTheFirstAnsweredIsNotUsed() throws Exception {
        cached("v7", prompt("shoes", 5), LONG).get();
        cached("v7", prompt("boots", 5), LONG).get();
        server.model("newer");
        cached("v7", prompt("lamps", 5), LONG).get();
        cached("v7", prompt("shoes", 5), LONG).get();
        assertEquals(4, server.requests().size());
        cached("v7", prompt("lamps", 5), LONG).get();
        assertEquals(4, server.requests().size());
    }

    public void testCache_whenFullOfBytes_thenTheOldestGoes() throws Exception {
        clusterSettings.applySettings(Settings.builder().put("genrecall.endpoint", server.endpoint()).put("genrecall.cache.size", "4kb").build());
        cache.clear();
        cached("v7", prompt("shoes", 5), LONG).get();
        cached("v7", prompt("shoes", 5), LONG).get();
        assertEquals("it fits", 1, server.requests().size());
        cached("v7", prompt("boots".repeat(190), 5), LONG).get(); // about 2 kB each
        cached("v7", prompt("lamps".repeat(190), 5), LONG).get();
        cached("v7", prompt("shoes", 5), LONG).get();
        assertEquals(4, server.requests().size());
    }

    public void testBatches_whenQuestionsComeTogetherWhileACallIsUnderWay_thenTheyShareOneAndFailAlone() throws Exception {
        batchWindow("100ms");
        CompletableFuture<Generation> first = ask("v7", prompt("held back", 2), LONG);
        assertBusy(() -> assertEquals("at once", 1, server.requests().size()));
        CompletableFuture<Generation> shoes = ask("v7", prompt("shoes", 2), LONG);
        CompletableFuture<Generation> none = ask("v7", prompt("none", 2), LONG);
        CompletableFuture<Generation> wider = ask("v7", prompt("shoes", 3), LONG);
        assertEquals(2, shoes.get().size());
        assertEquals("each has its own", 0, none.get().size());
        assertEquals("of another k, in a call of its own", 3, wider.get().size());
        assertEquals(List.of(1, 1, 2), server.requests().stream().map(GenerateRequest::getQueriesCount).sorted().toList());
        assertEquals(1, stats.snapshot().batched());

        CompletableFuture<Generation> refused = ask("v7", prompt("refuse", 2), LONG);
        CompletableFuture<Generation> boots = ask("v7", prompt("boots", 2), LONG);
        assertEquals(2, boots.get().size());
        assertEquals(Kind.INVALID_REQUEST, failure(refused).kind());
        server.release();
        assertEquals(2, first.get().size());
    }

    public void testBatches_whenThereAreManyQuestions_thenNoCallIsTooLarge() throws Exception {
        batchWindow("100ms");
        CompletableFuture<Generation> first = ask("v7", prompt("held back", 2), LONG);
        List<CompletableFuture<Generation>> others = new ArrayList<>();
        for (int i = 0; i < GenerateBatches.MAX_QUERIES + 8; i++) {
            others.add(ask("v7", prompt("shoes " + i, 2), LONG));
        }
        for (CompletableFuture<Generation> other : others) {
            assertEquals(2, other.get().size());
        }
        List<Integer> sizes = server.requests().stream().map(GenerateRequest::getQueriesCount).sorted().toList();
        assertEquals(GenerateBatches.MAX_QUERIES + 9, sizes.stream().mapToInt(Integer::intValue).sum());
        assertEquals(GenerateBatches.MAX_QUERIES, (int) sizes.get(sizes.size() - 1));
        server.release();
        first.get();
    }

    private void batchWindow(String window) {
        clusterSettings.applySettings(Settings.builder().put("genrecall.endpoint", server.endpoint()).put("genrecall.batch_window", window).build());
    }

    public void testGenerate_whenOneRequestAsksMuch_thenOthersFindRoom() throws Exception {
        clusterSettings.applySettings(Settings.builder().put("genrecall.endpoint", server.endpoint()).put("genrecall.max_in_flight", 4).put("genrecall.batch_window", "0ms").build());
        RequestRoom greedy = new RequestRoom();
        List<CompletableFuture<Answer>> taken = new ArrayList<>();
        for (int i = 0; i < 4; i++) {
            taken.add(client.generate("v7", prompt("held back " + i, 1), LONG, greedy));
        }
        assertEquals(2, taken.stream().filter(CompletableFuture::isCompletedExceptionally).count());
        assertEquals(1, ask("v7", prompt("shoes", 1), LONG).get().size());
        server.release();
        taken.get(0).get();
        taken.get(1).get();
        assertBusy(() -> assertEquals(0, greedy.questions.get()));
    }

    private static Prompt prompt(String text, int k) {
        return new Prompt(text, k, 0, UserContext.ANONYMOUS);
    }

    private static GenerationException failure(CompletableFuture<Generation> answer) {
        ExecutionException e = expectThrows(ExecutionException.class, answer::get);
        return (GenerationException) e.getCause();
    }
}
