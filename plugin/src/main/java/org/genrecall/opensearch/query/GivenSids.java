package org.genrecall.opensearch.query;

import org.genrecall.opensearch.generation.Generation;
import org.genrecall.opensearch.generation.Prompt;
import org.genrecall.opensearch.generation.Sid;
import org.opensearch.common.Nullable;
import org.opensearch.core.xcontent.ObjectParser;
import org.opensearch.core.xcontent.XContentParser;

import java.io.IOException;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.SortedMap;
import java.util.TreeMap;
import java.util.stream.IntStream;

/**
 * The {@code sids} of a clause: a term each, or an object of term, score, which is 1 where it is not told, and number of items.
 */
final class GivenSids {

    private GivenSids() {}

    /** One entry as it was written, unchecked. */
    static final class Entry {
        private static final ObjectParser<Entry, Void> PARSER = new ObjectParser<>("sids", Entry::new);
        static {
            PARSER.declareString((entry, value) -> entry.term = value, Generation.SID);
            PARSER.declareFloat((entry, value) -> entry.score = value, Generation.SCORE);
            PARSER.declareInt((entry, value) -> entry.items = value, Generation.ITEMS);
        }

        private String term;
        private float score = 1;
        @Nullable
        private Integer items;

        static Entry parse(XContentParser parser) throws IOException {
            if (parser.currentToken() == XContentParser.Token.START_OBJECT) {
                return PARSER.parse(parser, null);
            }
            Entry entry = new Entry();
            entry.term = parser.text();
            return entry;
        }

        private Sid sid() {
            if (term == null) {
                throw new IllegalArgumentException("[generative] sids: an entry has no sid: write {\"sid\": \"v7/12/40/733\", \"score\": 0.5}");
            }
            if (Float.isFinite(score) == false || score < 0) {
                throw new IllegalArgumentException(
                    "[generative] sids: score [" + score + "] of [" + term + "] is out of range: it must be finite and not negative"
                );
            }
            if (items != null && items < 1) {
                throw new IllegalArgumentException(
                    "[generative] sids: items [" + items + "] of [" + term + "] is out of range: give 1 or more, or leave it out"
                );
            }
            try {
                return Sid.parse(term);
            } catch (IllegalArgumentException e) {
                throw new IllegalArgumentException("[generative] sids: " + e.getMessage());
            }
        }
    }

    /**
     * The entries by codebook, each in the order given.
     *
     * @param codebook that of every entry; null: whatever their terms say
     */
    static SortedMap<String, Generation> byCodebook(List<Entry> entries, @Nullable String codebook) {
        if (entries.isEmpty() && codebook == null) {
            throw new IllegalArgumentException("[generative] sids is empty: give at least one, such as v7/12/40/733");
        }
        if (entries.size() > Prompt.MAX_K) {
            throw new IllegalArgumentException("[generative] sids has " + entries.size() + " entries: give " + Prompt.MAX_K + " or less");
        }
        SortedMap<String, Map<Sid, Entry>> found = new TreeMap<>();
        if (codebook != null) {
            found.put(codebook, new LinkedHashMap<>());
        }
        for (Entry entry : entries) {
            Sid sid = entry.sid();
            if (codebook != null && codebook.equals(sid.codebook()) == false) {
                throw new IllegalArgumentException(
                    "[generative] sids: [" + entry.term + "] is not of codebook [" + codebook + "]: leave codebook out to mix codebooks"
                );
            }
            if (found.computeIfAbsent(sid.codebook(), unused -> new LinkedHashMap<>()).put(sid, entry) != null) {
                throw new IllegalArgumentException("[generative] sids: [" + entry.term + "] is given twice: give it once");
            }
        }
        SortedMap<String, Generation> generations = new TreeMap<>();
        found.forEach((name, given) -> generations.put(name, generation(given)));
        return generations;
    }

    private static Generation generation(Map<Sid, Entry> given) {
        int[] codes = given.keySet().stream().flatMapToInt(sid -> IntStream.of(sid.c1(), sid.c2(), sid.c3())).toArray();
        float[] probabilities = new float[given.size()];
        int[] items = new int[given.size()];
        int rank = 0;
        for (Entry entry : given.values()) {
            probabilities[rank] = entry.score;
            items[rank++] = entry.items == null ? 0 : entry.items;
        }
        return new Generation(codes, probabilities, items);
    }
}
