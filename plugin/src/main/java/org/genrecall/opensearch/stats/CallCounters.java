package org.genrecall.opensearch.stats;

import org.genrecall.opensearch.generation.GenerationException.Kind;

import java.util.Arrays;
import java.util.concurrent.atomic.AtomicLongArray;
import java.util.concurrent.atomic.LongAdder;

/** Counters of the calls of one kind, and of what was left without SIDs, safe to use from any thread. */
public final class CallCounters {

    private final LongAdder calls = new LongAdder();
    private final LongAdder callMicros = new LongAdder();
    private final AtomicLongArray callsByLatency = new AtomicLongArray(CallsSnapshot.LATENCY_BOUNDS_MS.length + 1);
    private final AtomicLongArray failures = new AtomicLongArray(Kind.values().length);

    /** A call to the server ended, well or not. */
    public void called(long nanos) {
        long micros = nanos / 1_000;
        int found = Arrays.binarySearch(CallsSnapshot.LATENCY_BOUNDS_MS, (micros + 999) / 1_000);
        callsByLatency.incrementAndGet(found >= 0 ? found : -found - 1);
        calls.increment();
        callMicros.add(micros);
    }

    /** Something that asked got no SIDs: a clause, a dry run, a document. */
    public void failed(Kind kind) {
        failures.incrementAndGet(kind.ordinal());
    }

    CallsSnapshot snapshot() {
        return new CallsSnapshot(calls.sum(), callMicros.sum(), values(callsByLatency), values(failures));
    }

    private static long[] values(AtomicLongArray counters) {
        long[] values = new long[counters.length()];
        Arrays.setAll(values, counters::get);
        return values;
    }
}
