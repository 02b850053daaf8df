package org.genrecall.opensearch.dryrun;

import org.genrecall.opensearch.generation.Generation;
import org.genrecall.opensearch.generation.GenerationService;
import org.opensearch.action.ActionType;
import org.opensearch.action.support.ActionFilters;
import org.opensearch.action.support.HandledTransportAction;
import org.opensearch.common.inject.Inject;
import org.opensearch.core.action.ActionListener;
import org.opensearch.core.action.ActionResponse;
import org.opensearch.core.common.io.stream.StreamInput;
import org.opensearch.core.common.io.stream.StreamOutput;
import org.opensearch.core.xcontent.ToXContentObject;
import org.opensearch.core.xcontent.XContentBuilder;
import org.opensearch.tasks.Task;
import org.opensearch.transport.TransportService;

import java.io.IOException;
import java.util.Map;
import java.util.SortedMap;
import java.util.TreeMap;

/** The SIDs that a clause would search for, without a search. */
public final class GenerateAction extends HandledTransportAction<GenerateSidsRequest, GenerateAction.Response> {

    public static final ActionType<Response> TYPE = new ActionType<>("indices:data/read/genrecall/generate", Response::new);

    private final GenerationService service;

    @Inject
    public GenerateAction(TransportService transportService, ActionFilters filters, GenerationService service) {
        super(TYPE.name(), transportService, filters, GenerateSidsRequest::new);
        this.service = service;
    }

    @Override
    protected void doExecute(Task task, GenerateSidsRequest request, ActionListener<Response> listener) {
        long started = System.nanoTime();
        service.checkLimits(request.prompt(), request.timeout());
        service.enter(request);
        service.generate(
            request,
            request.codebook(),
            request.prompt(),
            request.timeout(),
            ActionListener.map(listener, generations -> new Response((System.nanoTime() - started) / 1_000_000, generations))
        );
    }

    /** {@code {"took": 12, "codebooks": {"v7": {"sids": [{"sid": "v7/12/40/733", "score": 0.31, "items": 4}]}}}}. */
    public static final class Response extends ActionResponse implements ToXContentObject {
        private final long tookMillis;
        private final SortedMap<String, Generation> generations;

        Response(long tookMillis, SortedMap<String, Generation> generations) {
            this.tookMillis = tookMillis;
            this.generations = generations;
        }

        Response(StreamInput in) throws IOException {
            this(in.readVLong(), new TreeMap<>(in.readMap(StreamInput::readString, Generation::new)));
        }

        /** By codebook. */
        public SortedMap<String, Generation> generations() {
            return generations;
        }

        @Override
        public void writeTo(StreamOutput out) throws IOException {
            out.writeVLong(tookMillis);
            out.writeMap(generations, StreamOutput::writeString, (stream, generation) -> generation.writeTo(stream));
        }

        @Override
        public XContentBuilder toXContent(XContentBuilder builder, Params params) throws IOException {
            builder.startObject().field("took", tookMillis).startObject("codebooks");
            for (Map.Entry<String, Generation> entry : generations.entrySet()) {
                builder.startObject(entry.getKey()).startArray("sids");
                entry.getValue().addTo(builder, entry.getKey());
                builder.endArray().endObject();
            }
            return builder.endObject().endObject();
        }
    }
}
