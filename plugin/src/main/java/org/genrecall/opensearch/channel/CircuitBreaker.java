package org.genrecall.opensearch.channel;

import io.grpc.ConnectivityState;
import io.grpc.ConnectivityStateInfo;
import io.grpc.Status;

import org.apache.logging.log4j.LogManager;
import org.apache.logging.log4j.Logger;
import org.genrecall.opensearch.stats.EndpointSnapshot;

import java.util.Locale;
import java.util.concurrent.TimeUnit;
import java.util.function.LongSupplier;

/**
 * How one address fares. After {@link #FAILURES} calls in a row that it did not answer it is left alone for a while; then one
 * call may try it, and decides. What a server does answer, if only an error, is an answer: no request can take it from others.
 */
final class CircuitBreaker {

    private static final Logger logger = LogManager.getLogger(CircuitBreaker.class);

    static final int FAILURES = 3;
    static final long FIRST_PAUSE_NANOS = TimeUnit.SECONDS.toNanos(1);
    private static final long LONGEST_PAUSE_NANOS = TimeUnit.SECONDS.toNanos(30);
    /** A shorter wait tells nothing of a server: it is what somebody wanted. */
    private static final long LEAST_WAIT_NANOS = TimeUnit.MILLISECONDS.toNanos(100);

    private final String address;
    private final LongSupplier nanoTime;
    private ConnectivityStateInfo connection = ConnectivityStateInfo.forNonError(ConnectivityState.IDLE);
    private int failuresInRow;
    private long pauseNanos;
    private long nextTry;
    private boolean trying;
    private double usualNanos;
    private long answered;
    private long failed;
    private String lastFailure;

    CircuitBreaker(String address, LongSupplier nanoTime) {
        this.address = address;
        this.nanoTime = nanoTime;
    }

    /** Whether a call may go there; of an open circuit one may after each pause, which is then the try. */
    synchronized boolean admits() {
        if (failuresInRow < FAILURES) {
            return true;
        }
        long now = nanoTime.getAsLong();
        if (now - nextTry < 0) {
            return false;
        }
        trying = true;
        nextTry = now + pauseNanos;
        return true;
    }

    /** A call that was sent there ended after so many nanoseconds. */
    synchronized void ended(Status status, long nanos) {
        switch (status.getCode()) {
            case UNAVAILABLE -> failed(status);
            case DEADLINE_EXCEEDED -> {
                if (nanos >= LEAST_WAIT_NANOS && nanos >= 2 * usualNanos) {
                    failed(status);
                }
            }
            case CANCELLED -> {} // the caller left
            default -> {
                answered++;
                usualNanos += status.isOk() ? (nanos - usualNanos) / Math.min(answered, 16) : 0;
                answered();
            }
        }
    }

    private void failed(Status status) {
        failed++;
        lastFailure = String.valueOf(status.getDescription());
        if (++failuresInRow == FAILURES) {
            pauseNanos = FIRST_PAUSE_NANOS;
            logger.warn("inference server [{}] did not answer [{}] calls in a row and is left alone for now: {}", address, FAILURES, lastFailure);
        } else if (trying) {
            pauseNanos = Math.min(2 * pauseNanos, LONGEST_PAUSE_NANOS);
        } else {
            return;
        }
        trying = false;
        nextTry = nanoTime.getAsLong() + pauseNanos;
    }

    private void answered() {
        if (failuresInRow >= FAILURES) {
            logger.info("inference server [{}] answers again", address);
        }
        failuresInRow = 0;
        trying = false;
    }

    synchronized void connection(ConnectivityStateInfo state) {
        connection = state;
        if (state.getStatus().isOk() == false) {
            lastFailure = describe(state.getStatus());
        }
    }

    synchronized EndpointSnapshot snapshot() {
        String circuit = failuresInRow < FAILURES ? "closed" : trying ? "half_open" : "open";
        String connected = connection.getState().name().toLowerCase(Locale.ROOT);
        return new EndpointSnapshot(address, connected, circuit, answered, failed, lastFailure);
    }

    /** With what the connection failed of. */
    static String describe(Status status) {
        String cause = status.getCause() == null ? null : status.getCause().getMessage();
        if (status.getDescription() == null) {
            return cause == null ? status.getCode().toString() : cause;
        }
        return cause == null ? status.getDescription() : status.getDescription() + " (" + cause + ")";
    }
}
