package org.genrecall.opensearch.ingest;

import io.grpc.Metadata;
import io.grpc.Status;

import org.genrecall.opensearch.generation.Ask;
import org.genrecall.opensearch.generation.InferenceServer;
import org.genrecall.opensearch.generation.Sid;
import org.genrecall.opensearch.stats.GenerationStats;
import org.genrecall.v1.EncodeRequest;
import org.genrecall.v1.EncodeResponse;
import org.genrecall.v1.GenerativeRecallGrpc;
import org.genrecall.v1.Item;
import org.opensearch.common.unit.TimeValue;

import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;

/** One {@code Encode} call: items to terms. What goes wrong is in the future. */
final class EncodeClient {

    /** What a server takes unless its configuration says otherwise ({@code server.max_items} and the like). */
    static final int MAX_ITEMS = 256;
    static final int MAX_ITEM_CHARS = 20_000;
    /** A little below {@code server.max_request_bytes}. */
    static final int MAX_ITEMS_BYTES = 1_000_000;

    private static final Metadata.Key<String> PUSHBACK = Metadata.Key.of("grpc-retry-pushback-ms", Metadata.ASCII_STRING_MARSHALLER);

    private final InferenceServer server;
    private final GenerationStats stats;

    EncodeClient(InferenceServer server, GenerationStats stats) {
        this.server = server;
        this.stats = stats;
    }

    /** The terms of the items' SIDs, in their order. */
    CompletableFuture<List<String>> encode(Ask ask, List<Item> items) {
        return server.call(
            GenerativeRecallGrpc.getEncodeMethod(),
            EncodeRequest.newBuilder().setCodebook(ask.codebook()).addAllItems(items).build(),
            ask,
            response -> read(response, ask, items.size()),
            stats.encode()::called
        );
    }

    static List<String> read(EncodeResponse response, Ask ask, int items) {
        ask.check(response.getCodebook());
        List<Integer> codes = response.getCodesList();
        if (codes.size() != 3 * items) {
            throw new IllegalArgumentException("asked for " + items + " SIDs of 3 codes, it answered with " + codes.size() + " codes");
        }
        List<String> terms = new ArrayList<>(items);
        for (int i = 0; i < codes.size(); i += 3) {
            terms.add(Sid.term(ask.codebook(), code(codes.get(i)), code(codes.get(i + 1)), code(codes.get(i + 2))));
        }
        return terms;
    }

    private static int code(int code) {
        if (code < 0) {
            throw new IllegalArgumentException("[" + Integer.toUnsignedString(code) + "] is not a code: it must be below 2^31");
        }
        return code;
    }

    /** How long a server that turned a call away wants to be left alone; null: it does not want to be asked again. */
    static TimeValue pushback(Throwable failure) {
        Metadata trailers = Status.trailersFromThrowable(failure);
        String millis = trailers == null ? null : trailers.get(PUSHBACK);
        return millis != null && millis.matches("\\d{1,7}") ? TimeValue.timeValueMillis(Long.parseLong(millis)) : null;
    }
}
