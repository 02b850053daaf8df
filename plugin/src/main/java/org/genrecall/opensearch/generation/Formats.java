package org.genrecall.opensearch.generation;

import org.opensearch.cluster.node.DiscoveryNode;
import org.opensearch.cluster.service.ClusterService;
import org.opensearch.common.settings.Settings;

import java.util.List;
import java.util.stream.StreamSupport;

/**
 * What the nodes of the cluster read. The transport tells no version of a plugin, so each node says it by an attribute, which all
 * nodes see in the cluster state. A node reads every earlier format, and is sent none that it does not read.
 */
public final class Formats {

    /** Clauses: SIDs, scored by their probability. */
    public static final int PLAIN = 1;
    /** Clauses with {@code order_within}, and the numbers of items that it needs. */
    public static final int ORDERED = 2;
    /** Statistics that say their format. */
    public static final int NUMBERED_STATS = 3;
    /** Clauses with {@code memory} set to false. */
    public static final int WITHOUT_MEMORY = 4;
    private static final int NEWEST = WITHOUT_MEMORY;

    public static final String ATTRIBUTE = "genrecall_clause_format";

    private final ClusterService clusterService;

    public Formats(ClusterService clusterService) {
        this.clusterService = clusterService;
    }

    /** By which this node says what it reads. */
    public static Settings nodeSettings() {
        return Settings.builder().put("node.attr." + ATTRIBUTE, NEWEST).build();
    }

    /** What every node reads. */
    public int oldest() {
        return StreamSupport.stream(clusterService.state().nodes().spliterator(), false).mapToInt(Formats::read).min().orElse(PLAIN);
    }

    /** @throws IllegalArgumentException where a node that may be sent the clause does not read {@link #ORDERED} */
    public void checkOrdered() {
        List<String> older = StreamSupport.stream(clusterService.state().nodes().spliterator(), false)
            .filter(node -> node.isDataNode() && read(node) < ORDERED)
            .map(DiscoveryNode::getName)
            .sorted()
            .toList();
        if (older.isEmpty() == false) {
            throw new IllegalArgumentException(
                "[generative] order_within is not known to the genrecall plugin of nodes " + older
                    + ": install this release on every data node, or leave order_within out until then"
            );
        }
    }

    private static int read(DiscoveryNode node) {
        return Integer.parseInt(node.getAttributes().getOrDefault(ATTRIBUTE, "0"));
    }
}
