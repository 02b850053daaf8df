package org.genrecall.opensearch.ingest;

import org.opensearch.OpenSearchParseException;
import org.opensearch.common.unit.TimeValue;
import org.opensearch.ingest.ConfigurationUtils;
import org.opensearch.ingest.Processor;
import org.opensearch.test.OpenSearchTestCase;

import java.util.HashMap;
import java.util.List;
import java.util.Map;

import static org.hamcrest.Matchers.containsString;

/** Options as a pipeline reads them. */
public class SidProcessorFactoryTests extends OpenSearchTestCase {

    private static final Map<String, Processor.Factory> FACTORIES = Map.of(SidProcessor.TYPE, new SidProcessorFactory(() -> null));

    private static SidProcessor create(Map<String, Object> options) throws Exception {
        return (SidProcessor) ConfigurationUtils.readProcessor(FACTORIES, null, SidProcessor.TYPE, new HashMap<>(options));
    }

    public void testCreate_whenNoOptions_thenDefaults() throws Exception {
        SidProcessor.Options expected = new SidProcessor.Options(null, new ItemFields("title", "brand", "category"), "sid", false, "sid_hash", false, null, 64);
        SidProcessor processor = create(Map.of());
        assertEquals(expected, processor.options());
        assertEquals("sid", processor.getType());
        assertNull(processor.getTag());
    }

    public void testCreate_whenEveryOption_thenEachIsTaken() throws Exception {
        SidProcessor processor = create(
            Map.ofEntries(
                Map.entry("codebook", "v7"),
                Map.entry("target_field", "ids.sid"),
                Map.entry("title_field", "name"),
                Map.entry("brand_field", "maker"),
                Map.entry("category_field", "path"),
                Map.entry("timeout", "5s"),
                Map.entry("batch_size", 256),
                Map.entry("skip_existing", true),
                Map.entry("hash_field", "ids.text"),
                Map.entry("ignore_missing", true),
                Map.entry("tag", "a"),
                Map.entry("description", "b")
            )
        );
        SidProcessor.Options expected = new SidProcessor.Options(
            "v7",
            new ItemFields("name", "maker", "path"),
            "ids.sid",
            true,
            "ids.text",
            true,
            TimeValue.timeValueSeconds(5),
            256
        );
        assertEquals(expected, processor.options());
        assertEquals("a", processor.getTag());
        assertEquals("b", processor.getDescription());
    }

    public void testCreate_whenOptionIsWrong_thenMessageNamesOptionValueAndRemedy() {
        assertRefused("codebook", "v7/1", "[codebook] [v7/1] is not a valid name");
        assertRefused("timeout", "soon", "[timeout] [soon] is not a duration: write a number and a unit");
        assertRefused("timeout", "0ms", "[timeout] [0ms] is out of range: choose 1ms to 10m");
        assertRefused("timeout", "11m", "[timeout] [11m] is out of range");
        assertRefused("batch_size", 0, "[batch_size]");
        assertRefused("batch_size", 257, "[batch_size] [257] is too large: choose 1 to 256");
        assertRefused("batch_size", "many", "[batch_size]");
        assertRefused("ignore_missing", "perhaps", "[ignore_missing]");
        assertRefused("title_field", List.of("a"), "[title_field]");
        assertRefused("title_fields", "title", "doesn't support one or more provided configuration parameters [title_fields]");
    }

    private static void assertRefused(String option, Object value, String message) {
        OpenSearchParseException e = expectThrows(OpenSearchParseException.class, () -> create(Map.of(option, value)));
        assertThat(e.getMessage(), containsString(message));
    }
}
