package org.genrecall.opensearch.stats;

import org.genrecall.opensearch.generation.Formats;
import org.genrecall.opensearch.generation.GenerationException.Kind;
import org.opensearch.common.io.stream.BytesStreamOutput;
import org.opensearch.common.xcontent.XContentHelper;
import org.opensearch.common.xcontent.XContentType;
import org.opensearch.core.common.bytes.BytesReference;
import org.opensearch.core.xcontent.MediaTypeRegistry;
import org.opensearch.core.xcontent.ToXContent;
import org.opensearch.core.xcontent.XContentBuilder;
import org.opensearch.test.OpenSearchTestCase;

import java.util.List;
import java.util.Map;

/** What the statistics count, on the wire and in JSON. */
public class StatsSnapshotTests extends OpenSearchTestCase {

    public void testStream_whenReadBack_thenTheSameJson() throws Exception {
        StatsSnapshot before = some().snapshot();
        assertEquals(json(before), json(streamed(before, Formats.NUMBERED_STATS)));
    }

    public void testStream_whenANodeIsOlder_thenTheFirstFormWhichEveryNodeReads() throws Exception {
        StatsSnapshot before = some().snapshot();
        for (int format : new int[] { 0, Formats.PLAIN, Formats.ORDERED }) {
            StatsSnapshot first = streamed(before, format);
            assertEquals(before.asked(), first.asked());
            assertEquals(before.encode().count(), first.encode().count());
            assertEquals("not in it", 0, first.fellBack());
            assertEquals(List.of(), first.endpoints());
        }
    }

    private static StatsSnapshot streamed(StatsSnapshot snapshot, int format) throws Exception {
        try (BytesStreamOutput out = new BytesStreamOutput()) {
            snapshot.writeTo(out, format);
            try (var in = out.bytes().streamInput()) {
                StatsSnapshot read = StatsSnapshot.read(in);
                assertEquals("all was read", -1, in.read());
                return read;
            }
        }
    }

    public void testPercentiles_whenCallsAreCounted_thenWithinTheirRanges() {
        CallCounters calls = new CallCounters();
        assertEquals(0, calls.snapshot().percentile(99), 0);
        for (int call = 0; call < 98; call++) {
            calls.called(15_000_000); // from 10 to 20 ms
        }
        calls.called(300_000_000);
        calls.called(300_000_000);
        assertEquals(10 + 10 * 50 / 98.0, calls.snapshot().percentile(50), 1e-9);
        assertEquals(350, calls.snapshot().percentile(99), 1e-9);
        calls = new CallCounters();
        calls.called(9_000_000_000L);
        assertEquals("beyond the last bound", 5_000, calls.snapshot().percentile(50), 0);
    }

    public void testToXContent_whenBothKinds_thenEachHasItsOwnFailuresAndCalls() throws Exception {
        Map<?, ?> json = json(some().snapshot());
        Map<?, ?> ingest = (Map<?, ?>) json.get("ingest");
        assertEquals(1, json.get("asked"));
        assertEquals(1, ((Map<?, ?>) json.get("failures")).get("timeout"));
        assertEquals(0, ((Map<?, ?>) json.get("failures")).get("no_codebook"));
        assertEquals(1, ((Map<?, ?>) ((Map<?, ?>) json.get("calls")).get("latency_ms")).get("le_5"));
        assertEquals(2, ingest.get("encoded"));
        assertEquals(1, ((Map<?, ?>) ingest.get("failures")).get("no_codebook"));
        assertEquals(1, ((Map<?, ?>) ((Map<?, ?>) ingest.get("calls")).get("latency_ms")).get("more"));
    }

    private static GenerationStats some() {
        GenerationStats stats = new GenerationStats(() -> List.of(new EndpointSnapshot("10.0.0.1:50051", "ready", "closed", 1, 0, null)));
        stats.asked();
        stats.fellBack();
        stats.generate().called(3_000_000);
        stats.generate().failed(Kind.TIMEOUT);
        stats.encoded();
        stats.encoded();
        stats.encode().called(9_000_000_000L);
        stats.encode().failed(Kind.NO_CODEBOOK);
        return stats;
    }

    private static Map<String, Object> json(StatsSnapshot snapshot) throws Exception {
        try (XContentBuilder builder = XContentType.JSON.contentBuilder().startObject()) {
            snapshot.toXContent(builder, ToXContent.EMPTY_PARAMS).endObject();
            return XContentHelper.convertToMap(BytesReference.bytes(builder), false, MediaTypeRegistry.JSON).v2();
        }
    }
}
