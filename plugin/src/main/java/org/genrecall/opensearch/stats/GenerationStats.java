package org.genrecall.opensearch.stats;

import org.genrecall.opensearch.generation.GenerationException.Kind;

import java.util.Arrays;
import java.util.concurrent.atomic.AtomicLongArray;
import java.util.concurrent.atomic.LongAdder;

/** Counters of one node since it started, safe to call from any thread. */
public final class GenerationStats {

    private final LongAdder asked = new LongAdder();
    private final LongAdder cacheHits = new LongAdder();
    private final LongAdder coalesced = new LongAdder();
    private final LongAdder calls = new LongAdder();
    private final LongAdder callMicros = new LongAdder();
    private final AtomicLongArray callsByLatency = new AtomicLongArray(StatsSnapshot.LATENCY_BOUNDS_MS.length + 1);
    private final AtomicLongArray failures = new AtomicLongArray(Kind.values().length);

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

    /** A call to the server ended, well or not. */
    public void called(long nanos) {
        long micros = nanos / 1_000;
        int found = Arrays.binarySearch(StatsSnapshot.LATENCY_BOUNDS_MS, (micros + 999) / 1_000);
        callsByLatency.incrementAndGet(found >= 0 ? found : -found - 1);
        calls.increment();
        callMicros.add(micros);
    }

    /** A clause, or a dry run, got no SIDs. */
    public void failed(Kind kind) {
        failures.incrementAndGet(kind.ordinal());
    }

    public StatsSnapshot snapshot() {
        return new StatsSnapshot(
            asked.sum(),
            cacheHits.sum(),
            coalesced.sum(),
            calls.sum(),
            callMicros.sum(),
            values(callsByLatency),
            values(failures)
        );
    }

    private static long[] values(AtomicLongArray counters) {
        long[] values = new long[counters.length()];
        Arrays.setAll(values, counters::get);
        return values;
    }
}
