package org.genrecall.opensearch.generation;

/** On whose behalf the inference server is asked: what a message begins with, and what it advises. */
public enum Caller {
    CLAUSE(
        "generative",
        "does not hold codebook [%s]: %s. Load its bundle into the server, or search an index whose codebook it holds",
        "Raise [timeout] in the clause or the cluster setting [genrecall.timeout], or give the server more room",
        "[on_failure] can let the search go on without it"
    ),
    PROCESSOR(
        "sid",
        "cannot encode for codebook [%s]: %s. Load its bundle into the server, or write to an index whose codebook it holds",
        "Send smaller bulks, raise [timeout] of the processor or the cluster setting [genrecall.ingest.timeout], or give the server more room",
        "[ignore_failure] lets documents be indexed without SID"
    );

    private final String label;
    private final String lacksCodebook;
    final String moreTime;
    final String withoutServer;

    Caller(String label, String lacksCodebook, String moreTime, String withoutServer) {
        this.label = label;
        this.lacksCodebook = lacksCodebook;
        this.moreTime = moreTime;
        this.withoutServer = withoutServer;
    }

    String prefix() {
        return "[" + label + "] ";
    }

    String lacks(String codebook, String said) {
        return lacksCodebook.formatted(codebook, said);
    }
}
