package org.genrecall.opensearch.stats;

import org.opensearch.rest.BaseRestHandler;
import org.opensearch.rest.RestRequest;
import org.opensearch.rest.action.RestActions.NodesResponseRestListener;
import org.opensearch.transport.client.node.NodeClient;

import java.util.List;

/** {@code GET /_plugins/_genrecall/stats}. */
public final class RestStatsAction extends BaseRestHandler {

    @Override
    public String getName() {
        return "genrecall_stats";
    }

    @Override
    public List<Route> routes() {
        return List.of(new Route(RestRequest.Method.GET, "/_plugins/_genrecall/stats"));
    }

    @Override
    protected RestChannelConsumer prepareRequest(RestRequest request, NodeClient client) {
        return channel -> client.execute(
            NodesStatsAction.TYPE,
            new NodesStatsAction.Request(),
            new NodesResponseRestListener<>(channel)
        );
    }
}
