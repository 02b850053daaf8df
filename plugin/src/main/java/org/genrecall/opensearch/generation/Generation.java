package org.genrecall.opensearch.generation;

import org.opensearch.core.ParseField;
import org.opensearch.core.common.io.stream.StreamInput;
import org.opensearch.core.common.io.stream.StreamOutput;
import org.opensearch.core.common.io.stream.Writeable;
import org.opensearch.core.xcontent.XContentBuilder;

import java.io.IOException;
import java.util.Arrays;

/**
 * SIDs of one codebook with their probabilities and how many items the codebook gave each, in the order they came, likeliest
 * first. The arrays are never changed once handed over.
 */
public final class Generation implements Writeable {

    public static final ParseField SID = new ParseField("sid");
    public static final ParseField SCORE = new ParseField("score");
    public static final ParseField ITEMS = new ParseField("items");

    private final int[] codes;
    private final float[] probabilities;
    private final int[] items;

    /**
     * @param codes         3 x n, SID after SID
     * @param probabilities n, each finite and not negative, as Lucene wants its scores
     * @param items         n, 0 where it is not known
     */
    public Generation(int[] codes, float[] probabilities, int[] items) {
        if (codes.length != 3 * probabilities.length || items.length != probabilities.length) {
            throw new IllegalArgumentException(
                codes.length + " codes and " + items.length + " numbers of items do not fit " + probabilities.length + " probabilities"
            );
        }
        for (float probability : probabilities) {
            if (Float.isFinite(probability) == false || probability < 0) {
                throw new IllegalArgumentException("[" + probability + "] is not a probability: it must be finite and not negative");
            }
        }
        for (int code : codes) {
            if (code < 0) {
                throw new IllegalArgumentException("[" + Integer.toUnsignedString(code) + "] is not a code: it must be below 2^31");
            }
        }
        for (int number : items) {
            if (number < 0) {
                throw new IllegalArgumentException(
                    "[" + Integer.toUnsignedString(number) + "] is not a number of items: it must be below 2^31"
                );
            }
        }
        this.codes = codes;
        this.probabilities = probabilities;
        this.items = items;
    }

    public Generation(StreamInput in) throws IOException {
        this(in.readVIntArray(), in.readFloatArray(), in.readVIntArray());
    }

    @Override
    public void writeTo(StreamOutput out) throws IOException {
        writeWithoutItems(out);
        out.writeVIntArray(items);
    }

    /** The form of releases that know no numbers of items. */
    public static Generation readWithoutItems(StreamInput in) throws IOException {
        int[] codes = in.readVIntArray();
        float[] probabilities = in.readFloatArray();
        return new Generation(codes, probabilities, new int[probabilities.length]);
    }

    public void writeWithoutItems(StreamOutput out) throws IOException {
        out.writeVIntArray(codes);
        out.writeFloatArray(probabilities);
    }

    /** The same SIDs, of unknown numbers of items. */
    public Generation withoutItems() {
        return new Generation(codes, probabilities, new int[items.length]);
    }

    public int size() {
        return probabilities.length;
    }

    /** About how much memory it takes. */
    long bytes() {
        return 100 + 20L * size();
    }

    public float probability(int rank) {
        return probabilities[rank];
    }

    /** Items that the codebook gave the SID; 0: not known. */
    public int items(int rank) {
        return items[rank];
    }

    public String term(String codebook, int rank) {
        return Sid.term(codebook, codes[3 * rank], codes[3 * rank + 1], codes[3 * rank + 2]);
    }

    /**
     * Adds {@code {"sid": ..., "score": ..., "items": ...}} for each SID to the array that is open, without the number of items
     * where it is not known: the form in which a clause takes {@code sids}.
     */
    public void addTo(XContentBuilder array, String codebook) throws IOException {
        for (int rank = 0; rank < size(); rank++) {
            array.startObject();
            array.field(SID.getPreferredName(), term(codebook, rank));
            array.field(SCORE.getPreferredName(), probability(rank));
            if (items[rank] > 0) {
                array.field(ITEMS.getPreferredName(), items[rank]);
            }
            array.endObject();
        }
    }

    @Override
    public boolean equals(Object other) {
        return other instanceof Generation that
            && Arrays.equals(codes, that.codes)
            && Arrays.equals(probabilities, that.probabilities)
            && Arrays.equals(items, that.items);
    }

    @Override
    public int hashCode() {
        return 31 * (31 * Arrays.hashCode(codes) + Arrays.hashCode(probabilities)) + Arrays.hashCode(items);
    }
}
