package org.genrecall.opensearch.stats;

import java.util.List;
import java.util.concurrent.atomic.LongAdder;
import java.util.function.Supplier;

/** Counters of one node since it started, safe to call from any thread. */
public final class GenerationStats {

    private final LongAdder asked = new LongAdder();
    private final LongAdder cacheHits = new LongAdder();
    private final LongAdder coalesced = new LongAdder();
    private final LongAdder batched = new LongAdder();
    private final LongAdder fellBack = new LongAdder();
    private final CallCounters generate = new CallCounters();
    private final LongAdder encoded = new LongAdder();
    private final CallCounters encode = new CallCounters();
    private final Supplier<List<EndpointSnapshot>> endpoints;

    /** @param endpoints how the addresses of the inference server fare now */
    public GenerationStats(Supplier<List<EndpointSnapshot>> endpoints) {
        this.endpoints = endpoints;
    }

    /** A clause, or a dry run, asks for SIDs. */
    public void asked() {
        asked.increment();
    }

    public void cacheHit() {
        cacheHits.increment();
    }

    /** A question joined an equal one under way. */
    public void coalesced() {
        coalesced.increment();
    }

    /** A question joined others in a call. */
    public void batched() {
        batched.increment();
    }

    /** A clause became what its {@code on_failure} says. */
    public void fellBack() {
        fellBack.increment();
    }

    /** Calls for clauses and dry runs, and those that got no SIDs. */
    public CallCounters generate() {
        return generate;
    }

    /** A document got its SID. */
    public void encoded() {
        encoded.increment();
    }

    /** Calls for documents, and the documents that got no SID. */
    public CallCounters encode() {
        return encode;
    }

    public StatsSnapshot snapshot() {
        return new StatsSnapshot(
            asked.sum(),
            cacheHits.sum(),
            coalesced.sum(),
            batched.sum(),
            fellBack.sum(),
            generate.snapshot(),
            encoded.sum(),
            encode.snapshot(),
            endpoints.get()
        );
    }
}
