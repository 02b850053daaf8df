package org.genrecall.opensearch.generation;

import org.opensearch.core.ParseField;
import org.opensearch.core.common.io.stream.StreamInput;
import org.opensearch.core.common.io.stream.StreamOutput;
import org.opensearch.core.common.io.stream.Writeable;
import org.opensearch.core.xcontent.XContentBuilder;

import java.io.IOException;
import java.util.Arrays;

/**
 * SIDs of one codebook with their probabilities, in the order they came, likeliest first. The arrays are never changed
 * once handed over.
 */
public final class Generation implements Writeable {

    public static final ParseField SID = new ParseField("sid");
    public static final ParseField SCORE = new ParseField("score");

    private final int[] codes;
    private final float[] probabilities;

    /**
     * @param codes         3 x n, SID after SID
     * @param probabilities n, each finite and not negative, as Lucene wants its scores
     */
    public Generation(int[] codes, float[] probabilities) {
        if (codes.length != 3 * probabilities.length) {
            throw new IllegalArgumentException(codes.length + " codes do not fit " + probabilities.length + " probabilities");
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
        this.codes = codes;
        this.probabilities = probabilities;
    }

    public Generation(StreamInput in) throws IOException {
        this(in.readVIntArray(), in.readFloatArray());
    }

    @Override
    public void writeTo(StreamOutput out) throws IOException {
        out.writeVIntArray(codes);
        out.writeFloatArray(probabilities);
    }

    public int size() {
        return probabilities.length;
    }

    public float probability(int rank) {
        return probabilities[rank];
    }

    public String term(String codebook, int rank) {
        return Sid.term(codebook, codes[3 * rank], codes[3 * rank + 1], codes[3 * rank + 2]);
    }

    /** Adds {@code {"sid": ..., "score": ...}} for each SID to the array that is open: the form in which a clause takes {@code sids}. */
    public void addTo(XContentBuilder array, String codebook) throws IOException {
        for (int rank = 0; rank < size(); rank++) {
            array.startObject();
            array.field(SID.getPreferredName(), term(codebook, rank));
            array.field(SCORE.getPreferredName(), probability(rank));
            array.endObject();
        }
    }

    @Override
    public boolean equals(Object other) {
        return other instanceof Generation that
            && Arrays.equals(codes, that.codes)
            && Arrays.equals(probabilities, that.probabilities);
    }

    @Override
    public int hashCode() {
        return 31 * Arrays.hashCode(codes) + Arrays.hashCode(probabilities);
    }
}
