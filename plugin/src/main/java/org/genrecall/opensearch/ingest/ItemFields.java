package org.genrecall.opensearch.ingest;

import org.genrecall.opensearch.generation.Caller;
import org.genrecall.opensearch.generation.GenerationException;
import org.genrecall.opensearch.generation.GenerationException.Kind;
import org.genrecall.v1.Item;
import org.opensearch.common.Nullable;
import org.opensearch.ingest.IngestDocument;

import java.util.ArrayList;
import java.util.Collection;
import java.util.List;

/** Where a document keeps what its SID is made of. What the server would refuse is refused here, before it meets its neighbours. */
record ItemFields(String title, String brand, String category) {

    /**
     * @return null where the document has no title
     * @throws GenerationException naming the field that is too long
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
        List<String> texts = new ArrayList<>();
        collect(document.getFieldValue(field, Object.class, true), texts);
        String text = String.join(" ", texts);
        checkLength(field, length(text));
        return text;
    }

    private void addCategory(Item.Builder item, IngestDocument document) {
        List<String> names = new ArrayList<>();
        collect(document.getFieldValue(category, Object.class, true), names);
        checkLength(category, names.stream().mapToInt(name -> length(name) + 1).sum()); // as the server counts
        item.addAllCategory(names);
    }

    /** The texts of a value: numbers and truth values as they are written, lists one after the other, nothing of objects. */
    private static void collect(@Nullable Object value, List<String> texts) {
        if (value instanceof Collection<?> several) {
            several.forEach(each -> collect(each, texts));
        } else if (value instanceof CharSequence || value instanceof Number || value instanceof Boolean) {
            texts.add(value.toString());
        }
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
