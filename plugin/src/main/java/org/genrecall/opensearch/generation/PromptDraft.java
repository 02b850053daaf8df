package org.genrecall.opensearch.generation;

import org.opensearch.common.Nullable;
import org.opensearch.common.unit.TimeValue;
import org.opensearch.core.ParseField;
import org.opensearch.core.xcontent.AbstractObjectParser;

import java.util.LinkedHashSet;
import java.util.Set;

/**
 * A question to the model as it was written in JSON, by the clause and by the dry run. Values are checked when asked for,
 * after parsing, since the object parser would bury a message thrown inside it.
 */
public class PromptDraft {

    public static final ParseField QUERY_TEXT = new ParseField("query_text");
    public static final ParseField CODEBOOK = new ParseField("codebook");
    public static final ParseField K = new ParseField("k");
    public static final ParseField BEAM_WIDTH = new ParseField("beam_width");
    public static final ParseField USER = new ParseField("user");
    public static final ParseField MEMORY = new ParseField("memory");
    public static final ParseField TIMEOUT = new ParseField("timeout");

    private static final TimeValue MAX_TIMEOUT = TimeValue.timeValueSeconds(60);

    private final Set<String> options = new LinkedHashSet<>();
    private String text;
    private String codebook;
    private int k = Prompt.DEFAULT_K;
    private int beamWidth = 0;
    private UserContext user = UserContext.ANONYMOUS;
    private boolean memory = true;
    private String timeout;

    public static <T extends PromptDraft> void declare(AbstractObjectParser<T, ?> parser) {
        parser.declareString((draft, value) -> ((PromptDraft) draft).text = value, QUERY_TEXT);
        parser.declareString((draft, value) -> ((PromptDraft) draft).codebook = value, CODEBOOK);
        parser.declareInt((draft, value) -> draft.option(K).k = value, K);
        parser.declareInt((draft, value) -> draft.option(BEAM_WIDTH).beamWidth = value, BEAM_WIDTH);
        parser.declareObject((draft, value) -> draft.option(USER).user = value, (json, unused) -> UserContext.parse(json), USER);
        parser.declareBoolean((draft, value) -> draft.option(MEMORY).memory = value, MEMORY);
        parser.declareString((draft, value) -> draft.option(TIMEOUT).timeout = value, TIMEOUT);
    }

    /** Notes that an option was given which means something for {@code query_text} only. */
    protected final PromptDraft option(ParseField field) {
        options.add(field.getPreferredName());
        return this;
    }

    public final Set<String> options() {
        return options;
    }

    public final boolean hasText() {
        return text != null;
    }

    /** @throws IllegalArgumentException naming the option, its value and the remedy; so do the others */
    public final Prompt prompt() {
        if (text == null) {
            throw new IllegalArgumentException("[generative] query_text is missing: give the words of the search");
        }
        return new Prompt(text, k, beamWidth, user.validate(), memory);
    }

    @Nullable
    public final String codebook() {
        if (codebook != null && Sid.isCodebook(codebook) == false) {
            throw new IllegalArgumentException(
                "[generative] codebook [" + codebook + "] is not a valid name: use 1 to 64 letters, digits, '.', '_' or '-', such as v7"
            );
        }
        return codebook;
    }

    @Nullable
    public final TimeValue timeout() {
        if (timeout == null) {
            return null;
        }
        TimeValue value;
        try {
            value = TimeValue.parseTimeValue(timeout, TIMEOUT.getPreferredName());
        } catch (IllegalArgumentException e) {
            throw new IllegalArgumentException("[generative] timeout [" + timeout + "] is not a duration: write a number and a unit, such as 40ms");
        }
        if (value.millis() < 1 || value.compareTo(MAX_TIMEOUT) > 0) {
            throw new IllegalArgumentException("[generative] timeout [" + timeout + "] is out of range: choose 1ms to " + MAX_TIMEOUT);
        }
        return value;
    }
}
