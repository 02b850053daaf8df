package org.genrecall.opensearch.ingest;

import org.apache.logging.log4j.LogManager;
import org.apache.logging.log4j.Logger;
import org.genrecall.opensearch.generation.GenerationException;
import org.genrecall.v1.Item;
import org.opensearch.common.Nullable;
import org.opensearch.common.hash.MurmurHash3;
import org.opensearch.common.unit.TimeValue;
import org.opensearch.core.action.ActionListener;
import org.opensearch.ingest.AbstractBatchingProcessor;
import org.opensearch.ingest.IngestDocument;
import org.opensearch.ingest.IngestDocumentWrapper;

import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Objects;
import java.util.function.BiConsumer;
import java.util.function.Consumer;

/** Gives each document the SID that the server makes of its title, brand and category. A document that fails fails alone. */
public final class SidProcessor extends AbstractBatchingProcessor {

    public static final String TYPE = "sid";

    private static final Logger logger = LogManager.getLogger(SidProcessor.class);

    /**
     * @param codebook     null: the one that the document's index names
     * @param skipExisting whether a document keeps a SID that it brings of the same text, which {@code hashField} tells
     * @param timeout      null: the cluster's
     */
    record Options(
        @Nullable String codebook,
        ItemFields fields,
        String targetField,
        boolean skipExisting,
        String hashField,
        boolean ignoreMissing,
        @Nullable TimeValue timeout,
        int batchSize
    ) {}

    private final Options options;
    private final EncodeService service;

    SidProcessor(String tag, String description, Options options, EncodeService service) {
        super(tag, description, options.batchSize());
        this.options = options;
        this.service = service;
    }

    Options options() {
        return options;
    }

    @Override
    public String getType() {
        return TYPE;
    }

    @Override
    public IngestDocument execute(IngestDocument document) {
        throw new UnsupportedOperationException("[sid] waits for a server: it is executed with a handler");
    }

    @Override
    public void execute(IngestDocument document, BiConsumer<IngestDocument, Exception> handler) {
        subBatchExecute(List.of(new IngestDocumentWrapper(0, 0, document, null)), done -> {
            Exception failure = done.get(0).getException();
            handler.accept(failure == null ? document : null, failure);
        });
    }

    @Override
    protected void subBatchExecute(List<IngestDocumentWrapper> documents, Consumer<List<IngestDocumentWrapper>> handler) {
        List<Step> steps = documents.stream().map(this::step).toList();
        List<Encoding> encodings = steps.stream().map(Step::encoding).filter(Objects::nonNull).toList();
        service.encode(encodings, options.timeout(), ActionListener.notifyOnce(new ActionListener<>() {
            @Override
            public void onResponse(Void nothing) {
                tell(steps.stream().map(SidProcessor.this::finish).toList());
            }

            @Override
            public void onFailure(Exception e) {
                tell(steps.stream().map(step -> step.encoding() == null ? finish(step) : failed(step.document(), e)).toList());
            }

            private void tell(List<IngestDocumentWrapper> done) {
                try {
                    handler.accept(done);
                } catch (RuntimeException e) { // whoever calls this has told its listener, and hears no more of it
                    logger.error("the pipeline failed after [sid]", e);
                    throw e;
                }
            }
        }));
    }

    /** A document and what is asked for it; nothing is where it failed, keeps its SID, or is let through without one. */
    private record Step(IngestDocumentWrapper document, @Nullable Encoding encoding, @Nullable Exception failure) {}

    private Step step(IngestDocumentWrapper wrapper) {
        try {
            IngestDocument document = wrapper.getIngestDocument();
            Item item = options.fields().read(document);
            if (item != null) {
                String codebook = codebook(document);
                boolean keeps = options.skipExisting() && keepsSid(document, codebook, item);
                return new Step(wrapper, keeps ? null : new Encoding(codebook, item), null);
            }
            return new Step(wrapper, null, options.ignoreMissing() ? null : options.fields().missing());
        } catch (Exception e) {
            return new Step(wrapper, null, e);
        }
    }

    private boolean keepsSid(IngestDocument document, String codebook, Item item) {
        Object sid = document.getFieldValue(options.targetField(), Object.class, true);
        return sid instanceof String term
            && term.startsWith(codebook + "/")
            && hash(item).equals(document.getFieldValue(options.hashField(), Object.class, true));
    }

    /** Of what a SID is made of. */
    private static String hash(Item item) {
        byte[] text = item.toBuilder().clearItemId().build().toByteArray();
        MurmurHash3.Hash128 hash = MurmurHash3.hash128(text, 0, text.length, 0, new MurmurHash3.Hash128());
        return String.format(Locale.ROOT, "%016x%016x", hash.h1, hash.h2);
    }

    private String codebook(IngestDocument document) {
        return options.codebook() != null
            ? options.codebook()
            : service.codebook((String) document.getSourceAndMetadata().get(IngestDocument.Metadata.INDEX.getFieldName()));
    }

    private IngestDocumentWrapper finish(Step step) {
        if (step.failure() != null) {
            return failed(step.document(), step.failure());
        }
        if (step.encoding() != null) {
            try {
                IngestDocument document = step.document().getIngestDocument();
                document.setFieldValue(options.targetField(), step.encoding().term());
                if (options.skipExisting()) {
                    document.setFieldValue(options.hashField(), hash(step.encoding().item()));
                }
                service.stats().encoded();
            } catch (Exception e) {
                return failed(step.document(), e);
            }
        }
        return step.document();
    }

    /** A wrapper of its own: the one that came in is what the pipeline goes on with under {@code ignore_failure}. */
    private IngestDocumentWrapper failed(IngestDocumentWrapper document, Exception e) {
        Exception told = e;
        if (e instanceof GenerationException failure) {
            service.stats().encode().failed(failure.kind());
            told = failure.asInnermost();
        }
        return new IngestDocumentWrapper(document.getSlot(), document.getChildSlot(), document.getIngestDocument(), told);
    }
}
