package org.genrecall.opensearch.ingest;

import org.genrecall.opensearch.generation.GenerationException;
import org.genrecall.v1.Item;

/** A document's way to its SID: what is asked, then what came of it. */
final class Encoding {

    private final String codebook;
    private final Item item;
    private volatile String term;
    private volatile GenerationException failure;

    Encoding(String codebook, Item item) {
        this.codebook = codebook;
        this.item = item;
    }

    String codebook() {
        return codebook;
    }

    Item item() {
        return item;
    }

    void succeed(String term) {
        this.term = term;
    }

    void fail(GenerationException failure) {
        this.failure = failure;
    }

    /** The SID's term; throws why there is none. */
    String term() {
        if (failure != null) {
            throw failure;
        }
        return term;
    }
}
