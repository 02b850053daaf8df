package org.genrecall.opensearch;

import io.grpc.ChannelCredentials;

import org.apache.lucene.util.SetOnce;
import org.genrecall.opensearch.dryrun.GenerateAction;
import org.genrecall.opensearch.dryrun.RestGenerateAction;
import org.genrecall.opensearch.generation.Formats;
import org.genrecall.opensearch.generation.GenerationService;
import org.genrecall.opensearch.generation.IndexCodebooks;
import org.genrecall.opensearch.generation.InferenceCredentials;
import org.genrecall.opensearch.generation.InferenceServer;
import org.genrecall.opensearch.generation.Origin;
import org.genrecall.opensearch.generation.PluginPool;
import org.genrecall.opensearch.ingest.EncodeService;
import org.genrecall.opensearch.ingest.SidProcessor;
import org.genrecall.opensearch.ingest.SidProcessorFactory;
import org.genrecall.opensearch.query.EvidenceOption;
import org.genrecall.opensearch.query.EvidencePhase;
import org.genrecall.opensearch.query.GenerativeQueryBuilder;
import org.genrecall.opensearch.stats.GenerationStats;
import org.genrecall.opensearch.stats.NodesStatsAction;
import org.genrecall.opensearch.stats.RestStatsAction;
import org.opensearch.action.ActionRequest;
import org.opensearch.cluster.metadata.IndexNameExpressionResolver;
import org.opensearch.cluster.node.DiscoveryNodes;
import org.opensearch.cluster.service.ClusterService;
import org.opensearch.common.settings.ClusterSettings;
import org.opensearch.common.settings.IndexScopedSettings;
import org.opensearch.common.settings.Setting;
import org.opensearch.common.settings.Settings;
import org.opensearch.common.settings.SettingsFilter;
import org.opensearch.core.action.ActionResponse;
import org.opensearch.core.common.io.stream.NamedWriteableRegistry;
import org.opensearch.core.xcontent.NamedXContentRegistry;
import org.opensearch.env.Environment;
import org.opensearch.env.NodeEnvironment;
import org.opensearch.ingest.Processor;
import org.opensearch.plugins.ActionPlugin;
import org.opensearch.plugins.IngestPlugin;
import org.opensearch.plugins.Plugin;
import org.opensearch.plugins.ReloadablePlugin;
import org.opensearch.plugins.SearchPlugin;
import org.opensearch.repositories.RepositoriesService;
import org.opensearch.rest.RestController;
import org.opensearch.rest.RestHandler;
import org.opensearch.rest.RestHeaderDefinition;
import org.opensearch.script.ScriptService;
import org.opensearch.search.fetch.FetchSubPhase;
import org.opensearch.threadpool.ExecutorBuilder;
import org.opensearch.threadpool.FixedExecutorBuilder;
import org.opensearch.threadpool.ThreadPool;
import org.opensearch.transport.client.Client;
import org.opensearch.watcher.ResourceWatcherService;

import java.io.IOException;
import java.nio.file.Path;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.function.Supplier;

/** Wires the parts together. Parsers and readers reach the service through the plugin that registers them. */
public final class GenrecallPlugin extends Plugin implements SearchPlugin, ActionPlugin, IngestPlugin, ReloadablePlugin {

    private final SetOnce<InferenceServer> server = new SetOnce<>();
    private final SetOnce<GenerationService> service = new SetOnce<>();
    private final SetOnce<EncodeService> encoding = new SetOnce<>();
    private Path configFolder;

    @Override
    public List<QuerySpec<?>> getQueries() {
        return List.of(
            new QuerySpec<>(
                GenerativeQueryBuilder.NAME,
                in -> new GenerativeQueryBuilder(in, service::get),
                parser -> GenerativeQueryBuilder.fromXContent(parser, service::get)
            )
        );
    }

    @Override
    public List<SearchExtSpec<?>> getSearchExts() {
        return List.of(new SearchExtSpec<>(EvidenceOption.NAME, EvidenceOption::new, EvidenceOption::fromXContent));
    }

    @Override
    public List<FetchSubPhase> getFetchSubPhases(FetchPhaseConstructionContext context) {
        return List.of(new EvidencePhase());
    }

    @Override
    public Settings additionalSettings() {
        return Formats.nodeSettings();
    }

    @Override
    public Map<String, Processor.Factory> getProcessors(Processor.Parameters parameters) {
        return Map.of(SidProcessor.TYPE, new SidProcessorFactory(encoding::get));
    }

    /** Beside {@code X-Opaque-Id}, which OpenSearch passes on itself. */
    @Override
    public Collection<RestHeaderDefinition> getRestHeaders() {
        return List.of(new RestHeaderDefinition(Origin.TRACEPARENT, false));
    }

    @Override
    public List<ActionHandler<? extends ActionRequest, ? extends ActionResponse>> getActions() {
        return List.of(
            new ActionHandler<>(NodesStatsAction.TYPE, NodesStatsAction.class),
            new ActionHandler<>(GenerateAction.TYPE, GenerateAction.class)
        );
    }

    @Override
    public List<RestHandler> getRestHandlers(
        Settings settings,
        RestController restController,
        ClusterSettings clusterSettings,
        IndexScopedSettings indexScopedSettings,
        SettingsFilter settingsFilter,
        IndexNameExpressionResolver indexNameExpressionResolver,
        Supplier<DiscoveryNodes> nodesInCluster
    ) {
        return List.of(new RestStatsAction(), new RestGenerateAction());
    }

    @Override
    public List<Setting<?>> getSettings() {
        return GenrecallSettings.all();
    }

    @Override
    public List<ExecutorBuilder<?>> getExecutorBuilders(Settings settings) {
        String name = PluginPool.NAME;
        return List.of(new FixedExecutorBuilder(settings, name, 4, 1_000, "thread_pool." + name));
    }

    @Override
    public Collection<Object> createComponents(
        Client client,
        ClusterService clusterService,
        ThreadPool threadPool,
        ResourceWatcherService resourceWatcherService,
        ScriptService scriptService,
        NamedXContentRegistry xContentRegistry,
        Environment environment,
        NodeEnvironment nodeEnvironment,
        NamedWriteableRegistry namedWriteableRegistry,
        IndexNameExpressionResolver indexNameExpressionResolver,
        Supplier<RepositoriesService> repositoriesService
    ) {
        GenrecallSettings settings = new GenrecallSettings(environment.settings(), clusterService.getClusterSettings());
        configFolder = environment.configDir();
        ChannelCredentials credentials = InferenceCredentials.of(environment.settings(), configFolder);
        server.set(new InferenceServer(settings, credentials, threadPool.generic()));
        GenerationStats stats = new GenerationStats(server.get()::endpoints);
        Formats formats = new Formats(clusterService);
        IndexCodebooks indexCodebooks = new IndexCodebooks(clusterService, indexNameExpressionResolver);
        PluginPool pool = new PluginPool(threadPool);
        service.set(new GenerationService(settings, server.get(), indexCodebooks, formats, pool, stats));
        encoding.set(new EncodeService(settings, server.get(), indexCodebooks, pool, stats));
        return List.of(service.get(), stats, formats);
    }

    /** By {@code _nodes/reload_secure_settings}: the key, and the certificates in their files. */
    @Override
    public void reload(Settings settings) {
        server.get().use(InferenceCredentials.of(settings, configFolder));
    }

    @Override
    public void close() throws IOException {
        if (server.get() != null) {
            server.get().close();
        }
    }
}
