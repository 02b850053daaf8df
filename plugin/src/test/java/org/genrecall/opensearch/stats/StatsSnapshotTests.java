package org.genrecall.opensearch.stats;

import org.genrecall.opensearch.generation.GenerationException.Kind;
import org.opensearch.common.io.stream.BytesStreamOutput;
import org.opensearch.common.xcontent.XContentHelper;
import org.opensearch.common.xcontent.XContentType;
import org.opensearch.core.common.bytes.BytesReference;
import org.opensearch.core.xcontent.MediaTypeRegistry;
import org.opensearch.core.xcontent.ToXContent;
import org.opensearch.core.xcontent.XContentBuilder;
import org.opensearch.test.OpenSearchTestCase;

import java.util.Map;

/** What the statistics count, on the wire and in JSON. */
public class StatsSnapshotTests extends OpenSearchTestCase {

    public void testStream_whenReadBack_thenTheSameJson() throws Exception {
        StatsSnapshot before = some().snapshot();
        try (BytesStreamOutput out = new BytesStreamOutput()) {
            before.writeTo(out);
            try (var in = out.bytes().streamInput()) {
                assertEquals(json(before), json(new StatsSnapshot(in)));
                assertEquals("all was read", -1, in.read());
            }
        }
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
        GenerationStats stats = new GenerationStats();
        stats.asked();
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
