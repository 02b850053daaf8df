package org.genrecall.opensearch.ingest;

import org.genrecall.opensearch.generation.GenerationException;
import org.genrecall.opensearch.generation.GenerationException.Kind;
import org.genrecall.v1.Item;
import org.opensearch.index.VersionType;
import org.opensearch.ingest.IngestDocument;
import org.opensearch.test.OpenSearchTestCase;

import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

import static org.hamcrest.Matchers.containsString;

/** From a document to the item that the server reads. */
public class ItemFieldsTests extends OpenSearchTestCase {

    private static final ItemFields FIELDS = new ItemFields("title", "brand", "category");

    private static IngestDocument document(Map<String, Object> source) {
        return new IngestDocument("products", "d1", null, null, VersionType.INTERNAL, new HashMap<>(source));
    }

    private static Item read(String field, Object value) {
        Map<String, Object> source = new HashMap<>(Map.of("title", "Red shoes"));
        source.put(field, value);
        return FIELDS.read(document(source));
    }

    private static void assertRefused(String field, Object value, String message) {
        GenerationException e = expectThrows(GenerationException.class, () -> read(field, value));
        assertEquals(Kind.INVALID_REQUEST, e.kind());
        assertThat(e.getMessage(), containsString("[sid] field [" + field + "] " + message));
    }

    public void testRead_whenAllThere_thenItem() {
        Item item = FIELDS.read(document(Map.of("title", "Red shoes", "brand", "Acme", "category", List.of("Shoes", "Running"))));
        Item expected = Item.newBuilder()
            .setItemId("d1")
            .setTitle("Red shoes")
            .setBrand("Acme")
            .addCategory("Shoes")
            .addCategory("Running")
            .build();
        assertEquals(expected, item);
    }

    public void testRead_whenBrandOrCategoryIsMissingOrNull_thenLeftOut() {
        assertEquals("", read("brand", null).getBrand());
        assertEquals(0, read("category", null).getCategoryCount());
        assertEquals(List.of("Shoes"), read("category", Arrays.asList("Shoes", null)).getCategoryList());
        assertEquals(0, read("other", 1).getCategoryCount());
    }

    public void testRead_whenCategoryIsText_thenAPathOfOneName() {
        assertEquals(List.of("Shoes > Running"), read("category", "Shoes > Running").getCategoryList());
    }

    public void testRead_whenFieldsAreInsideObjects_thenFound() {
        ItemFields nested = new ItemFields("product.name", "product.maker.name", "product.path");
        Map<String, Object> product = Map.of("name", "Red shoes", "maker", Map.of("name", "Acme"));
        Item item = nested.read(document(Map.of("product", product)));
        assertEquals("Red shoes", item.getTitle());
        assertEquals("Acme", item.getBrand());
    }

    public void testRead_whenNoTitle_thenNothing() {
        for (Object none : new Object[] { null, "", "  \t", "\u00a0\u2003" }) {
            assertNull(read("title", none));
        }
        assertNull(FIELDS.read(document(Map.of("brand", "Acme"))));
    }

    public void testRead_whenOfAnotherType_thenItsTextsAndNoWriteFails() {
        assertEquals("1984", read("title", 1984).getTitle());
        assertEquals("Red shoes 12.5", read("title", List.of("Red shoes", 12.5)).getTitle());
        assertEquals("Acme true", read("brand", List.of("Acme", true)).getBrand());
        assertEquals("", read("brand", Map.of("name", "Acme")).getBrand());
        assertEquals(List.of("3"), read("category", 3).getCategoryList());
        assertEquals(
            List.of("Shoes", "3", "Running"),
            read("category", List.of("Shoes", 3, List.of("Running"), Map.of("a", "b"))).getCategoryList()
        );
        assertNull("no text at all is no title", read("title", Map.of("de", "Rote Schuhe")));
    }

    public void testRead_whenLongerThanTheServerTakes_thenRefused() {
        String most = "👟".repeat(EncodeClient.MAX_ITEM_CHARS);
        assertEquals(most, read("title", most).getTitle());
        assertRefused("title", most + "a", "has 20001 characters: shorten it to 20000 or less");
        assertRefused("brand", most + "a", "has 20001 characters");
        assertRefused("category", most, "has 20001 characters");
        assertRefused("category", List.of("a".repeat(9_999), "b".repeat(10_000)), "has 20001 characters");
    }
}
