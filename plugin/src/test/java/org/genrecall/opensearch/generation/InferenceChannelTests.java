package org.genrecall.opensearch.generation;

import io.grpc.InsecureChannelCredentials;
import io.grpc.InsecureServerCredentials;
import io.grpc.Metadata;

import com.carrotsearch.randomizedtesting.annotations.ThreadLeakFilters;

import org.genrecall.opensearch.GenrecallSettings;
import org.genrecall.opensearch.GrpcThreads;
import org.genrecall.opensearch.TestInferenceServer;
import org.genrecall.opensearch.generation.GenerationException.Kind;
import org.genrecall.opensearch.stats.EndpointSnapshot;
import org.genrecall.opensearch.stats.GenerationStats;
import org.opensearch.common.settings.ClusterSettings;
import org.opensearch.common.settings.Settings;
import org.opensearch.common.unit.TimeValue;
import org.opensearch.tasks.Task;
import org.opensearch.test.OpenSearchTestCase;
import org.opensearch.threadpool.TestThreadPool;
import org.opensearch.threadpool.ThreadPool;
import org.junit.After;
import org.junit.Before;

import java.net.InetAddress;
import java.net.ServerSocket;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;

import static org.hamcrest.Matchers.greaterThan;
import static org.hamcrest.Matchers.lessThan;
import static org.hamcrest.Matchers.lessThanOrEqualTo;

/** Two real servers on loopback, one of which fares badly. */
@ThreadLeakFilters(filters = GrpcThreads.class)
public class InferenceChannelTests extends OpenSearchTestCase {

    private static final TimeValue LONG = TimeValue.timeValueSeconds(20);
    private static final TimeValue SHORT = TimeValue.timeValueMillis(500);

    private final AtomicInteger asked = new AtomicInteger();
    private final List<AutoCloseable> opened = new ArrayList<>();
    private ThreadPool threads;
    private TestInferenceServer good;
    private TestInferenceServer bad;
    private GenerationStats stats;
    private GenerationClient client;

    @Before
    public void startServers() throws Exception {
        threads = new TestThreadPool("channel");
        good = new TestInferenceServer("v7");
        bad = new TestInferenceServer("v7");
    }

    @After
    public void stopServers() throws Exception {
        for (AutoCloseable each : opened) {
            each.close();
        }
        good.close();
        bad.close();
        ThreadPool.terminate(threads, 10, TimeUnit.SECONDS);
    }

    private void connect(String... endpoints) {
        Settings at = Settings.builder().putList("genrecall.endpoint", endpoints).put("genrecall.batch_window", "0ms").build();
        GenrecallSettings settings = new GenrecallSettings(at, new ClusterSettings(at, new HashSet<>(GenrecallSettings.all())));
        InferenceServer inference = new InferenceServer(settings, InsecureChannelCredentials.create(), Runnable::run);
        opened.add(inference);
        stats = new GenerationStats(inference::endpoints);
        client = new GenerationClient(inference, settings, stats, new PluginPool(threads));
    }

    /** The kind of what failed; null where it was answered. */
    private Kind ask(TimeValue timeout) throws Exception {
        Prompt prompt = new Prompt("question " + asked.incrementAndGet(), 2, 0, UserContext.ANONYMOUS);
        CompletableFuture<?> answer = client.generate("v7", prompt, timeout, new RequestRoom());
        try {
            answer.get();
            return null;
        } catch (ExecutionException e) {
            return ((GenerationException) e.getCause()).kind();
        }
    }

    private void assertAnswered(int times) throws Exception {
        for (int i = 0; i < times; i++) {
            assertNull(ask(LONG));
        }
    }

    /** Until each server has been asked. */
    private void assertBothAreAsked() throws Exception {
        int before = bad.requests().size();
        int others = good.requests().size();
        assertBusy(() -> {
            assertAnswered(2);
            assertThat(bad.requests().size(), greaterThan(before));
            assertThat(good.requests().size(), greaterThan(others));
        }, 20, TimeUnit.SECONDS);
    }

    private EndpointSnapshot seen(TestInferenceServer server) {
        return stats.snapshot().endpoints().stream().filter(at -> at.address().endsWith(":" + server.port())).findFirst().orElseThrow();
    }

    public void testCalls_whenSeveralEndpoints_thenEachGetsItsShare() throws Exception {
        connect(good.endpoint(), bad.endpoint());
        assertBothAreAsked();
        int before = bad.requests().size();
        assertAnswered(20);
        assertEquals(before + 10, bad.requests().size());
    }

    public void testCalls_whenAServerIsAboutToStop_thenItIsNotAskedUntilItServesAgain() throws Exception {
        connect(good.endpoint(), bad.endpoint());
        assertBothAreAsked();
        bad.serving(false);
        assertBusy(() -> {
            int before = bad.requests().size();
            assertAnswered(10);
            assertEquals(before, bad.requests().size());
        });
        bad.serving(true);
        assertBothAreAsked();
    }

    public void testCalls_whenTheOnlyServerIsAboutToStop_thenTheyFailAtOnce() throws Exception {
        connect(bad.endpoint());
        assertAnswered(1);
        bad.serving(false);
        assertBusy(() -> assertEquals(Kind.UNAVAILABLE, ask(LONG)));
    }

    public void testCalls_whenAServerStopsAnswering_thenSomeWaitForItAndNoMoreUntilItDoes() throws Exception {
        connect(good.endpoint(), bad.endpoint());
        assertBothAreAsked();
        assertBusy(() -> { // until answers are quick, so that half a second is long
            long started = System.nanoTime();
            assertAnswered(2);
            assertThat(System.nanoTime() - started, lessThan(TimeUnit.MILLISECONDS.toNanos(50)));
        });
        bad.mute(true);
        int failed = 0;
        for (int i = 0; i < 20; i++) {
            failed += ask(SHORT) == null ? 0 : 1;
        }
        assertThat("three, and the one that tries after a pause", failed, lessThanOrEqualTo(5));
        assertNotEquals("closed", seen(bad).circuit());
        assertEquals("ready", seen(bad).connection());
        assertEquals("closed", seen(good).circuit());
        bad.mute(false);
        assertBothAreAsked();
        assertEquals("closed", seen(bad).circuit());
    }

    public void testCalls_whenTheOnlyServerStopsAnswering_thenTheyFailAtOnceUntilItDoes() throws Exception {
        connect(bad.endpoint());
        assertAnswered(20);
        bad.mute(true);
        assertBusy(() -> assertEquals(Kind.UNAVAILABLE, ask(SHORT))); // and no timeout
        bad.mute(false);
        assertBusy(() -> assertNull(ask(LONG)), 20, TimeUnit.SECONDS);
    }

    public void testCalls_whenAnAddressSwallowsWhatIsSent_thenOneWaitsForItAndNoMore() throws Exception {
        try (ServerSocket silent = new ServerSocket(0, 50, InetAddress.getLoopbackAddress())) {
            connect("127.0.0.1:" + silent.getLocalPort());
            long started = System.nanoTime();
            assertEquals("in about a second", Kind.UNAVAILABLE, ask(LONG));
            assertThat(System.nanoTime() - started, lessThan(LONG.nanos() / 2));
            started = System.nanoTime();
            for (int i = 0; i < 5; i++) {
                assertEquals(Kind.UNAVAILABLE, ask(LONG));
            }
            assertThat("at once", System.nanoTime() - started, lessThan(TimeUnit.MILLISECONDS.toNanos(900)));
        }
    }

    public void testCalls_whenAServerIsKilled_thenTheOtherAnswersAllAndItsPlaceIsTakenAgain() throws Exception {
        connect(good.endpoint(), bad.endpoint());
        assertBothAreAsked();
        int port = bad.port();
        bad.close();
        assertAnswered(10);
        bad = new TestInferenceServer(port, InsecureServerCredentials.create(), "v7");
        assertBothAreAsked();
    }

    public void testCalls_whenANameIsUnknown_thenTheOthersAnswer() throws Exception {
        connect("no-such-host.invalid:50051", "localhost:" + good.port());
        assertAnswered(5);
    }

    public void testCalls_whenASearchHasAnIdAndATrace_thenTheServerIsToldThem() throws Exception {
        connect(good.endpoint());
        String trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        try (var ignored = threads.getThreadContext().stashContext()) {
            threads.getThreadContext().putHeader(Task.X_OPAQUE_ID, "basket \u00e9 7");
            threads.getThreadContext().putHeader(Origin.TRACEPARENT, trace);
            assertAnswered(1);
        }
        Metadata last = good.headers().get(good.headers().size() - 1);
        assertEquals("basket ? 7", last.get(Metadata.Key.of("x-request-id", Metadata.ASCII_STRING_MARSHALLER)));
        assertEquals(trace, last.get(Metadata.Key.of("traceparent", Metadata.ASCII_STRING_MARSHALLER)));
        assertAnswered(1);
        assertNull(
            good.headers().get(good.headers().size() - 1).get(Metadata.Key.of("x-request-id", Metadata.ASCII_STRING_MARSHALLER))
        );
    }
}
