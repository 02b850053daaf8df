package org.genrecall.opensearch.generation;

import org.opensearch.test.OpenSearchTestCase;

public class SidTests extends OpenSearchTestCase {

    public void testParse_whenTerm_thenCodebookAndCodes() {
        assertEquals(new Sid("v7", 12, 40, 733), Sid.parse("v7/12/40/733"));
        assertEquals(new Sid("shop-2.b_1", 0, 0, 0), Sid.parse("shop-2.b_1/0/0/0"));
    }

    public void testTerm_whenParsedAgain_thenEqual() {
        Sid sid = new Sid(randomAlphaOfLengthBetween(1, 64), randomInt(Integer.MAX_VALUE), randomInt(1000), randomInt(1000));
        assertEquals(sid, Sid.parse(sid.term()));
    }

    public void testParse_whenNoTerm_thenMessageNamesItAndTheForm() {
        for (String term : new String[] {
            "",
            "v7",
            "v7/1/2",
            "v7/1/2/3/4",
            "v7/01/2/3",
            "v7/-1/2/3",
            "v7/1/2/9999999999",
            "v7/1/2/x",
            "/1/2/3",
            "v 7/1/2/3",
            "a".repeat(65) + "/1/2/3" }) {
            IllegalArgumentException e = expectThrows(IllegalArgumentException.class, () -> Sid.parse(term));
            assertEquals("[" + term + "] is not a SID term: write CODEBOOK/c1/c2/c3, such as v7/12/40/733", e.getMessage());
        }
    }
}
