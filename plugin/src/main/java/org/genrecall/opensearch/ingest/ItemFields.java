package org.genrecall.opensearch.ingest;

import org.genrecall.opensearch.generation.Caller;
import org.genrecall.opensearch.generation.GenerationException;
import org.genrecall.opensearch.generation.GenerationException.Kind;
import org.genrecall.v1.Item;
import org.opensearch.common.Nullable;
import org.opensearch.ingest.IngestDocument;

import java.util.List;

/** Where a document keeps what its SID is made of. What the server would refuse is refused here, before it meets its neighbours. */
record ItemFields(String title, String brand, String category) {

    /**
     * @return null where the document has no title
     * @throws GenerationException naming the field that cannot be read
     */
    @Nullable
    Item read(IngestDocument document) {
        String named = text(document, title);
        if (named.codePoints().allMatch(c -> Character.isWhitespace(c) || Character.isSpaceChar(c))) {
            return null;
        }
        Item.Builder item = Item.newBuilder().setTitle(named).setBrand(text(document, brand));
        addCategory(item, document);
        if (document.getSourceAndMetadata().get(IngestDocument.Metadata.ID.getFieldName()) instanceof String id) {
            item.setItemId(id);
        }
        return item.build();
    }

    private String text(IngestDocument document, String field) {
        Object value = document.getFieldValue(field, Object.class, true);
        if (value == null) {
            return "";
        }
        if (value instanceof String text) {
            checkLength(field, length(text));
            return text;
        }
        throw refused(field, "is not text: write a string");
    }

    private void addCategory(Item.Builder item, IngestDocument document) {
        Object value = document.getFieldValue(category, Object.class, true);
        if (value == null) {
            return;
        }
        int chars = 0;
        for (Object name : value instanceof List<?> names ? names : List.of(value)) {
            if (name instanceof String text) {
                item.addCategory(text);
                chars += length(text) + 1; // as the server counts
            } else if (name != null) {
                throw refused(category, "is neither text nor a list of texts: write the names of the path, from general to specific");
            }
        }
        checkLength(category, chars);
    }

    /** In characters as the server counts them. */
    private static int length(String text) {
        return text.codePointCount(0, text.length());
    }

    private static void checkLength(String field, int chars) {
        if (chars > EncodeClient.MAX_ITEM_CHARS) {
            throw refused(field, "has " + chars + " characters: shorten it to " + EncodeClient.MAX_ITEM_CHARS + " or less");
        }
    }

    private static GenerationException refused(String field, String why) {
        return new GenerationException(Caller.PROCESSOR, Kind.INVALID_REQUEST, "field [" + field + "] " + why, null);
    }

    GenerationException missing() {
        return refused(title, "is missing or empty: a SID needs a title; [ignore_missing] lets such documents be indexed without SID");
    }
}
