package org.genrecall.opensearch.ingest;

import org.genrecall.opensearch.generation.Sid;
import org.opensearch.OpenSearchException;
import org.opensearch.common.Nullable;
import org.opensearch.common.unit.TimeValue;
import org.opensearch.ingest.AbstractBatchingProcessor;
import org.opensearch.ingest.Processor;

import java.util.Map;
import java.util.function.Supplier;

import static org.opensearch.ingest.ConfigurationUtils.newConfigurationException;
import static org.opensearch.ingest.ConfigurationUtils.readBooleanProperty;
import static org.opensearch.ingest.ConfigurationUtils.readOptionalStringProperty;
import static org.opensearch.ingest.ConfigurationUtils.readStringProperty;

/** Reads the options of the processor {@code sid}; those left over are refused by the pipeline. */
public final class SidProcessorFactory extends AbstractBatchingProcessor.Factory {

    static final int DEFAULT_BATCH_SIZE = 64;
    private static final TimeValue MAX_TIMEOUT = TimeValue.timeValueMinutes(10);

    private final Supplier<EncodeService> service;

    /** @param service there when the first pipeline is made, which is later than this factory */
    public SidProcessorFactory(Supplier<EncodeService> service) {
        super(SidProcessor.TYPE);
        this.service = service;
    }

    @Override
    public AbstractBatchingProcessor create(
        Map<String, Processor.Factory> factories,
        String tag,
        String description,
        Map<String, Object> config
    ) throws Exception {
        config.putIfAbsent(AbstractBatchingProcessor.BATCH_SIZE_FIELD, DEFAULT_BATCH_SIZE);
        return super.create(factories, tag, description, config);
    }

    @Override
    protected AbstractBatchingProcessor newProcessor(String tag, String description, int batchSize, Map<String, Object> config) {
        if (batchSize > EncodeClient.MAX_ITEMS) {
            String message = "[" + batchSize + "] is too large: choose 1 to " + EncodeClient.MAX_ITEMS;
            throw newConfigurationException(SidProcessor.TYPE, tag, AbstractBatchingProcessor.BATCH_SIZE_FIELD, message);
        }
        ItemFields fields = new ItemFields(
            readStringProperty(SidProcessor.TYPE, tag, config, "title_field", "title"),
            readStringProperty(SidProcessor.TYPE, tag, config, "brand_field", "brand"),
            readStringProperty(SidProcessor.TYPE, tag, config, "category_field", "category")
        );
        String target = readStringProperty(SidProcessor.TYPE, tag, config, "target_field", "sid");
        SidProcessor.Options options = new SidProcessor.Options(
            codebook(tag, config),
            fields,
            target,
            readBooleanProperty(SidProcessor.TYPE, tag, config, "skip_existing", false),
            readStringProperty(SidProcessor.TYPE, tag, config, "hash_field", target + "_hash"),
            readBooleanProperty(SidProcessor.TYPE, tag, config, "ignore_missing", false),
            timeout(tag, config),
            batchSize
        );
        return new SidProcessor(tag, description, options, service.get());
    }

    @Nullable
    private static String codebook(String tag, Map<String, Object> config) {
        String codebook = readOptionalStringProperty(SidProcessor.TYPE, tag, config, "codebook");
        if (codebook != null && Sid.isCodebook(codebook) == false) {
            throw refused(tag, "codebook", codebook, "is not a valid name: use 1 to 64 letters, digits, '.', '_' or '-', such as v7");
        }
        return codebook;
    }

    @Nullable
    private static TimeValue timeout(String tag, Map<String, Object> config) {
        String text = readOptionalStringProperty(SidProcessor.TYPE, tag, config, "timeout");
        if (text == null) {
            return null;
        }
        TimeValue timeout;
        try {
            timeout = TimeValue.parseTimeValue(text, "timeout");
        } catch (IllegalArgumentException e) {
            throw refused(tag, "timeout", text, "is not a duration: write a number and a unit, such as 10s");
        }
        if (timeout.millis() < 1 || timeout.compareTo(MAX_TIMEOUT) > 0) {
            throw refused(tag, "timeout", text, "is out of range: choose 1ms to " + MAX_TIMEOUT);
        }
        return timeout;
    }

    private static OpenSearchException refused(String tag, String option, String value, String why) {
        return newConfigurationException(SidProcessor.TYPE, tag, option, "[" + value + "] " + why);
    }
}
