package org.genrecall.opensearch;

import io.grpc.InsecureChannelCredentials;

import org.genrecall.opensearch.generation.Formats;
import org.genrecall.opensearch.generation.IndexCodebooks;
import org.genrecall.opensearch.generation.InferenceServer;
import org.genrecall.opensearch.generation.PluginPool;
import org.genrecall.opensearch.stats.GenerationStats;
import org.opensearch.Version;
import org.opensearch.cluster.ClusterState;
import org.opensearch.cluster.metadata.AliasMetadata;
import org.opensearch.cluster.metadata.IndexMetadata;
import org.opensearch.cluster.metadata.IndexNameExpressionResolver;
import org.opensearch.cluster.metadata.Metadata;
import org.opensearch.cluster.node.DiscoveryNode;
import org.opensearch.cluster.node.DiscoveryNodes;
import org.opensearch.cluster.service.ClusterService;
import org.opensearch.common.CheckedRunnable;
import org.opensearch.common.settings.ClusterSettings;
import org.opensearch.common.settings.Settings;
import org.opensearch.test.ClusterServiceUtils;
import org.opensearch.test.OpenSearchTestCase;
import org.opensearch.threadpool.TestThreadPool;
import org.opensearch.threadpool.ThreadPool;
import org.junit.After;

import java.util.HashSet;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.TimeUnit;

/** What the plugin's parts need of a node, without one: a cluster state, threads, and a real server that holds v7 and v8. */
public abstract class PluginNodeTestCase extends OpenSearchTestCase {

    protected static final int POOL_SIZE = 2;
    protected static final int POOL_QUEUE = 32;

    protected TestInferenceServer server;
    protected ThreadPool threadPool;
    protected ClusterService clusterService;
    protected GenrecallSettings values;
    protected InferenceServer inference;
    protected IndexCodebooks indexCodebooks;
    protected GenerationStats stats;

    protected void startNode(String name, Settings more, Metadata.Builder metadata) throws Exception {
        server = new TestInferenceServer("v7", "v8");
        Settings settings = Settings.builder()
            .put("node.name", name)
            .put("genrecall.endpoint", server.endpoint())
            .put("thread_pool.genrecall.size", POOL_SIZE)
            .put("thread_pool.genrecall.queue_size", POOL_QUEUE)
            .put(more)
            .build();
        threadPool = new TestThreadPool(name, settings, new GenrecallPlugin().getExecutorBuilders(settings).get(0));
        clusterService = ClusterServiceUtils.createClusterService(threadPool);
        ClusterServiceUtils.setState(clusterService, ClusterState.builder(clusterService.state()).metadata(metadata).build());
        joinNodes(Formats.nodeSettings());
        values = new GenrecallSettings(settings, new ClusterSettings(settings, new HashSet<>(GenrecallSettings.all())));
        inference = new InferenceServer(values, InsecureChannelCredentials.create(), threadPool.generic());
        stats = new GenerationStats(inference::endpoints);
        indexCodebooks = new IndexCodebooks(clusterService, new IndexNameExpressionResolver(threadPool.getThreadContext()));
    }

    /** The cluster consists of a data node for each settings, named node-0 and so on, the first of which is this one. */
    protected void joinNodes(Settings... each) {
        DiscoveryNodes.Builder nodes = DiscoveryNodes.builder();
        for (int i = 0; i < each.length; i++) {
            Settings settings = Settings.builder().put("node.name", "node-" + i).put(each[i]).build();
            nodes.add(DiscoveryNode.createLocal(settings, buildNewFakeTransportAddress(), "node-" + i));
        }
        nodes.localNodeId("node-0").clusterManagerNodeId("node-0");
        ClusterServiceUtils.setState(clusterService, ClusterState.builder(clusterService.state()).nodes(nodes).build());
    }

    @After
    public void stopNode() {
        inference.close();
        clusterService.close();
        server.close();
        ThreadPool.terminate(threadPool, 10, TimeUnit.SECONDS);
    }

    /** Runs {@code test} while every thread of the plugin's pool is busy and its queue is full. */
    protected void withFullPool(CheckedRunnable<Exception> test) throws Exception {
        ExecutorService pool = threadPool.executor(PluginPool.NAME);
        CountDownLatch busy = new CountDownLatch(POOL_SIZE);
        CountDownLatch release = new CountDownLatch(1);
        try {
            for (int i = 0; i < POOL_SIZE; i++) {
                pool.execute(() -> {
                    busy.countDown();
                    awaitQuietly(release);
                });
            }
            assertTrue(busy.await(10, TimeUnit.SECONDS));
            for (int i = 0; i < POOL_QUEUE; i++) {
                pool.execute(() -> {});
            }
            test.run();
        } finally {
            release.countDown();
        }
    }

    private static void awaitQuietly(CountDownLatch latch) {
        try {
            latch.await();
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
    }

    protected static IndexMetadata index(String name, String mapping, AliasMetadata.Builder... aliases) throws Exception {
        IndexMetadata.Builder index = IndexMetadata.builder(name)
            .settings(settings(Version.CURRENT).put("index.number_of_shards", 1).put("index.number_of_replicas", 0).put("index.uuid", name))
            .putMapping(mapping);
        for (AliasMetadata.Builder alias : aliases) {
            index.putAlias(alias);
        }
        return index.build();
    }
}
