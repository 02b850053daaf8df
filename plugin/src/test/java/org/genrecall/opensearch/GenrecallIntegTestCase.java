package org.genrecall.opensearch;

import org.genrecall.opensearch.stats.NodesStatsAction;
import org.opensearch.common.settings.Settings;
import org.opensearch.plugins.Plugin;
import org.opensearch.test.OpenSearchIntegTestCase;
import org.junit.After;
import org.junit.AfterClass;
import org.junit.BeforeClass;

import java.util.Collection;
import java.util.List;
import java.util.function.ToLongFunction;

import static org.opensearch.test.hamcrest.OpenSearchAssertions.assertAcked;

/** A cluster with the plugin that calls a real gRPC server, which holds codebooks v7 and v8. Settings are reset after each test. */
public abstract class GenrecallIntegTestCase extends OpenSearchIntegTestCase {

    protected static TestInferenceServer server;

    @BeforeClass
    public static void startServer() throws Exception {
        server = new TestInferenceServer("v7", "v8");
    }

    @AfterClass
    public static void stopServer() {
        server.close();
        server = null;
    }

    @Override
    protected Collection<Class<? extends Plugin>> nodePlugins() {
        return List.of(GenrecallPlugin.class);
    }

    @Override
    protected Settings nodeSettings(int nodeOrdinal) {
        return Settings.builder()
            .put(super.nodeSettings(nodeOrdinal))
            .put("genrecall.endpoint", server.endpoint())
            .put("genrecall.timeout", "20s")
            .build();
    }

    @After
    public void resetSettings() {
        client().admin().cluster().prepareUpdateSettings().setPersistentSettings(Settings.builder().putNull("genrecall.*")).get();
    }

    protected static void setting(String key, String value) {
        assertAcked(client().admin().cluster().prepareUpdateSettings().setPersistentSettings(Settings.builder().put(key, value)));
    }

    /** A figure of the plugin's statistics, summed over the nodes. */
    protected static long counted(ToLongFunction<NodesStatsAction.NodeStats> counter) {
        NodesStatsAction.Response stats = client().execute(NodesStatsAction.TYPE, new NodesStatsAction.Request()).actionGet();
        assertFalse(stats.hasFailures());
        return stats.getNodes().stream().mapToLong(counter).sum();
    }
}
