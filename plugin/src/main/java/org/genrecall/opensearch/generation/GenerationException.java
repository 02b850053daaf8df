package org.genrecall.opensearch.generation;

import org.opensearch.OpenSearchException;
import org.opensearch.core.rest.RestStatus;

import java.util.Locale;
import java.util.concurrent.CompletionException;

/** Why there are no SIDs, for a clause or a document: the kind decides the HTTP status and the counter, the message says what to do. */
public final class GenerationException extends OpenSearchException {

    /** Order and names are part of the statistics. */
    public enum Kind {
        /** No connection to the server. */
        UNAVAILABLE(RestStatus.SERVICE_UNAVAILABLE),
        /** No answer in time. */
        TIMEOUT(RestStatus.SERVICE_UNAVAILABLE),
        /** Too many calls under way, here or there. */
        OVERLOAD(RestStatus.TOO_MANY_REQUESTS),
        /** The server lacks the codebook that the index names. */
        CODEBOOK_NOT_HELD(RestStatus.SERVICE_UNAVAILABLE),
        /** No index of the search names a codebook, or not the one that is written to. */
        NO_CODEBOOK(RestStatus.BAD_REQUEST),
        /** The server refuses the request as wrong, or would refuse the document. */
        INVALID_REQUEST(RestStatus.BAD_REQUEST),
        /** The server failed, or its reply breaks the contract. */
        SERVER_ERROR(RestStatus.SERVICE_UNAVAILABLE);

        private final RestStatus status;

        Kind(RestStatus status) {
            this.status = status;
        }

        public String key() {
            return name().toLowerCase(Locale.ROOT);
        }
    }

    private final Kind kind;

    public GenerationException(Caller caller, Kind kind, String message, Throwable cause) {
        this(kind, caller.prefix() + message, cause);
    }

    private GenerationException(Kind kind, String message, Throwable cause) {
        super(message, cause);
        this.kind = kind;
    }

    /** What failed as one of these: as it is, or as a failure of this node, an {@link Error} too. */
    public static GenerationException of(Caller caller, Throwable failure) {
        Throwable cause = failure instanceof CompletionException && failure.getCause() != null ? failure.getCause() : failure;
        return cause instanceof GenerationException known
            ? known
            : new GenerationException(caller, Kind.SERVER_ERROR, "this node failed: " + cause + ". Its log says more", cause);
    }

    /** The same with its cause set aside, for pipelines: what they tell {@code on_failure} is the message of the innermost cause. */
    public GenerationException asInnermost() {
        GenerationException innermost = new GenerationException(kind, getMessage(), null);
        if (getCause() != null) {
            innermost.addSuppressed(getCause());
        }
        return innermost;
    }

    public Kind kind() {
        return kind;
    }

    @Override
    public RestStatus status() {
        return kind.status;
    }
}
