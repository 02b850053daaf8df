package org.genrecall.opensearch.stats;

import org.genrecall.opensearch.generation.Formats;
import org.opensearch.action.ActionType;
import org.opensearch.action.FailedNodeException;
import org.opensearch.action.support.ActionFilters;
import org.opensearch.action.support.nodes.BaseNodeResponse;
import org.opensearch.action.support.nodes.BaseNodesRequest;
import org.opensearch.action.support.nodes.BaseNodesResponse;
import org.opensearch.action.support.nodes.TransportNodesAction;
import org.opensearch.cluster.ClusterName;
import org.opensearch.cluster.node.DiscoveryNode;
import org.opensearch.cluster.service.ClusterService;
import org.opensearch.common.inject.Inject;
import org.opensearch.core.common.io.stream.StreamInput;
import org.opensearch.core.common.io.stream.StreamOutput;
import org.opensearch.core.xcontent.ToXContentFragment;
import org.opensearch.core.xcontent.XContentBuilder;
import org.opensearch.threadpool.ThreadPool;
import org.opensearch.transport.TransportRequest;
import org.opensearch.transport.TransportService;

import java.io.IOException;
import java.util.List;

/** Collects the counters of every node: any of them may coordinate a search. */
public final class NodesStatsAction extends TransportNodesAction<
    NodesStatsAction.Request,
    NodesStatsAction.Response,
    NodesStatsAction.NodeRequest,
    NodesStatsAction.NodeStats> {

    public static final ActionType<Response> TYPE = new ActionType<>("cluster:monitor/genrecall/stats", Response::new);

    private final GenerationStats stats;
    private final Formats formats;

    @Inject
    public NodesStatsAction(
        ThreadPool threadPool,
        ClusterService clusterService,
        TransportService transportService,
        ActionFilters filters,
        GenerationStats stats,
        Formats formats
    ) {
        super(
            TYPE.name(),
            threadPool,
            clusterService,
            transportService,
            filters,
            Request::new,
            NodeRequest::new,
            ThreadPool.Names.MANAGEMENT,
            NodeStats.class
        );
        this.stats = stats;
        this.formats = formats;
    }

    @Override
    protected Response newResponse(Request request, List<NodeStats> nodes, List<FailedNodeException> failures) {
        return new Response(clusterService.getClusterName(), nodes, failures);
    }

    @Override
    protected NodeRequest newNodeRequest(Request request) {
        return new NodeRequest();
    }

    @Override
    protected NodeStats newNodeResponse(StreamInput in) throws IOException {
        return new NodeStats(in);
    }

    @Override
    protected NodeStats nodeOperation(NodeRequest request) {
        return new NodeStats(clusterService.localNode(), stats.snapshot(), formats.oldest());
    }

    /** Asks all nodes. */
    public static final class Request extends BaseNodesRequest<Request> {
        public Request() {
            super(new String[0]);
        }

        Request(StreamInput in) throws IOException {
            super(in);
        }
    }

    /** Asks one node; there is nothing to say. */
    public static final class NodeRequest extends TransportRequest {
        NodeRequest() {}

        NodeRequest(StreamInput in) throws IOException {
            super(in);
        }
    }

    /** The counters of one node. */
    public static final class NodeStats extends BaseNodeResponse {
        private final StatsSnapshot snapshot;
        private final int format;

        NodeStats(DiscoveryNode node, StatsSnapshot snapshot, int format) {
            super(node);
            this.snapshot = snapshot;
            this.format = format;
        }

        NodeStats(StreamInput in) throws IOException {
            super(in);
            this.snapshot = StatsSnapshot.read(in);
            this.format = Formats.PLAIN;
        }

        @Override
        public void writeTo(StreamOutput out) throws IOException {
            super.writeTo(out);
            snapshot.writeTo(out, format);
        }

        public StatsSnapshot snapshot() {
            return snapshot;
        }
    }

    /** {@code {"nodes": {"ID": {"name": ..., counters}}}}. */
    public static final class Response extends BaseNodesResponse<NodeStats> implements ToXContentFragment {
        Response(ClusterName clusterName, List<NodeStats> nodes, List<FailedNodeException> failures) {
            super(clusterName, nodes, failures);
        }

        Response(StreamInput in) throws IOException {
            super(in);
        }

        @Override
        protected List<NodeStats> readNodesFrom(StreamInput in) throws IOException {
            return in.readList(NodeStats::new);
        }

        @Override
        protected void writeNodesTo(StreamOutput out, List<NodeStats> nodes) throws IOException {
            out.writeList(nodes);
        }

        @Override
        public XContentBuilder toXContent(XContentBuilder builder, Params params) throws IOException {
            builder.startObject("nodes");
            for (NodeStats node : getNodes()) {
                builder.startObject(node.getNode().getId()).field("name", node.getNode().getName());
                node.snapshot.toXContent(builder, params);
                builder.endObject();
            }
            return builder.endObject();
        }
    }
}
