package org.genrecall.opensearch.generation;

import org.opensearch.core.common.io.stream.StreamInput;
import org.opensearch.core.common.io.stream.StreamOutput;
import org.opensearch.core.common.io.stream.Writeable;

import java.io.IOException;

/**
 * What the model is asked for, whichever the codebook. Two equal prompts get the same SIDs, so it is a key too.
 *
 * @param k         SIDs wanted
 * @param beamWidth width of the beam search; 0: as wide as {@code k} needs
 * @param memory    whether what people wanted for the text before counts; written by who sends the prompt, see {@link Formats}
 */
public record Prompt(String text, int k, int beamWidth, UserContext user, boolean memory) implements Writeable {

    public static final int DEFAULT_K = 50;
    /** Lucene's default limit of clauses in a query. */
    public static final int MAX_K = 1024;

    public Prompt {
        if (k < 1 || k > MAX_K) {
            throw new IllegalArgumentException("[generative] k [" + k + "] is out of range: choose 1 to " + MAX_K);
        }
        if (beamWidth != 0 && beamWidth < k) {
            throw new IllegalArgumentException(
                "[generative] beam_width [" + beamWidth + "] is below k [" + k + "]: choose at least k, or 0 to let the server choose"
            );
        }
    }

    public Prompt(String text, int k, int beamWidth, UserContext user) {
        this(text, k, beamWidth, user, true);
    }

    public Prompt withMemory(boolean counts) {
        return new Prompt(text, k, beamWidth, user, counts);
    }

    public Prompt(StreamInput in) throws IOException {
        this(in.readString(), in.readVInt(), in.readVInt(), new UserContext(in));
    }

    @Override
    public void writeTo(StreamOutput out) throws IOException {
        out.writeString(text);
        out.writeVInt(k);
        out.writeVInt(beamWidth);
        user.writeTo(out);
    }

    /** Length in characters as the inference server counts them. */
    int length() {
        return text.codePointCount(0, text.length());
    }

    /** About how much memory it takes. */
    long bytes() {
        return 200 + 2L * text.length() + user.bytes();
    }
}
