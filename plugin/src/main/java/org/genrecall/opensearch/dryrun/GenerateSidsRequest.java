package org.genrecall.opensearch.dryrun;

import org.genrecall.opensearch.generation.Prompt;
import org.genrecall.opensearch.generation.PromptDraft;
import org.opensearch.action.ActionRequest;
import org.opensearch.action.ActionRequestValidationException;
import org.opensearch.action.IndicesRequest;
import org.opensearch.action.support.IndicesOptions;
import org.opensearch.common.Nullable;
import org.opensearch.common.unit.TimeValue;
import org.opensearch.core.ParseField;
import org.opensearch.core.common.io.stream.StreamInput;
import org.opensearch.core.common.io.stream.StreamOutput;
import org.opensearch.core.xcontent.ObjectParser;
import org.opensearch.core.xcontent.XContentParser;

import java.io.IOException;
import java.util.List;

/** A prompt, and the indices or the codebook it is for. */
public final class GenerateSidsRequest extends ActionRequest implements IndicesRequest {

    private static final ParseField INDEX = new ParseField("index");

    private static final ObjectParser<Body, Void> BODY = new ObjectParser<>("generate", Body::new);
    static {
        PromptDraft.declare(BODY);
        BODY.declareStringArray((body, value) -> body.indices = value, INDEX);
    }

    private static final class Body extends PromptDraft {
        private List<String> indices = List.of();
    }

    private final String[] indices;
    private final String codebook;
    private final Prompt prompt;
    private final TimeValue timeout;

    private GenerateSidsRequest(String[] indices, String codebook, Prompt prompt, TimeValue timeout) {
        this.indices = indices;
        this.codebook = codebook;
        this.prompt = prompt;
        this.timeout = timeout;
    }

    GenerateSidsRequest(StreamInput in) throws IOException {
        super(in);
        this.indices = in.readStringArray();
        this.codebook = in.readOptionalString();
        Prompt read = new Prompt(in);
        this.timeout = in.readOptionalTimeValue();
        this.prompt = read.withMemory(in.readBoolean());
    }

    public static GenerateSidsRequest parse(XContentParser parser) throws IOException {
        Body body = BODY.parse(parser, null);
        if (body.indices.isEmpty() == (body.codebook() == null)) {
            throw new IllegalArgumentException("[generative] give one of index and codebook: the index that would be searched, or its codebook");
        }
        return new GenerateSidsRequest(body.indices.toArray(new String[0]), body.codebook(), body.prompt(), body.timeout());
    }

    @Override
    public void writeTo(StreamOutput out) throws IOException {
        super.writeTo(out);
        out.writeStringArray(indices);
        out.writeOptionalString(codebook);
        prompt.writeTo(out);
        out.writeOptionalTimeValue(timeout);
        out.writeBoolean(prompt.memory());
    }

    @Override
    public String[] indices() {
        return indices;
    }

    @Override
    public IndicesOptions indicesOptions() {
        return IndicesOptions.strictExpandOpenAndForbidClosed();
    }

    @Nullable
    String codebook() {
        return codebook;
    }

    Prompt prompt() {
        return prompt;
    }

    @Nullable
    TimeValue timeout() {
        return timeout;
    }

    @Override
    public ActionRequestValidationException validate() {
        return null; // done by the parser
    }
}
