package org.genrecall.opensearch.dryrun;

import org.opensearch.core.xcontent.XContentParser;
import org.opensearch.rest.BaseRestHandler;
import org.opensearch.rest.RestRequest;
import org.opensearch.rest.action.RestToXContentListener;
import org.opensearch.transport.client.node.NodeClient;

import java.io.IOException;
import java.util.List;

/** {@code POST /_plugins/_genrecall/generate}. */
public final class RestGenerateAction extends BaseRestHandler {

    @Override
    public String getName() {
        return "genrecall_generate";
    }

    @Override
    public List<Route> routes() {
        return List.of(new Route(RestRequest.Method.POST, "/_plugins/_genrecall/generate"));
    }

    @Override
    protected RestChannelConsumer prepareRequest(RestRequest request, NodeClient client) throws IOException {
        try (XContentParser parser = request.contentParser()) {
            GenerateSidsRequest generate = GenerateSidsRequest.parse(parser);
            return channel -> client.execute(GenerateAction.TYPE, generate, new RestToXContentListener<>(channel));
        }
    }
}
