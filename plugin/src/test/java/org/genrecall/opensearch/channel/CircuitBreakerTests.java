package org.genrecall.opensearch.channel;

import io.grpc.Status;

import org.opensearch.test.OpenSearchTestCase;

import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;

/** By a clock that the test sets. */
public class CircuitBreakerTests extends OpenSearchTestCase {

    private static final long SECOND = TimeUnit.SECONDS.toNanos(1);

    private final AtomicLong now = new AtomicLong(randomLong());
    private final CircuitBreaker breaker = new CircuitBreaker("10.0.0.1:50051", now::get);

    private void ended(Status status, long nanos, int times) {
        for (int i = 0; i < times; i++) {
            breaker.ended(status, nanos);
        }
    }

    private void assertCircuit(String state) {
        assertEquals(state, breaker.snapshot().circuit());
    }

    public void testAdmits_whenCallsInARowAreNotAnswered_thenOpenAndOneCallTriesAfterEachLongerPause() {
        ended(Status.UNAVAILABLE, 0, CircuitBreaker.FAILURES - 1);
        assertTrue(breaker.admits());
        ended(Status.DEADLINE_EXCEEDED, SECOND, 1);
        assertCircuit("open");
        assertFalse(breaker.admits());
        for (int pause : new int[] { 1, 2, 4, 8, 16, 30, 30 }) {
            now.addAndGet(pause * SECOND - 1);
            assertFalse(breaker.admits());
            now.incrementAndGet();
            assertTrue("the one that tries", breaker.admits());
            assertCircuit("half_open");
            assertFalse("no other", breaker.admits());
            ended(Status.UNAVAILABLE.withDescription("gone"), 0, 1);
            ended(Status.UNAVAILABLE.withDescription("gone"), 0, 5); // those that were under way before
            assertCircuit("open");
        }
        assertEquals("gone", breaker.snapshot().lastFailure());
        now.addAndGet(30 * SECOND);
        assertTrue(breaker.admits());
        ended(Status.OK, 0, 1);
        assertCircuit("closed");
        assertTrue(breaker.admits() && breaker.admits());
    }

    public void testAdmits_whenTheTrySaysNothing_thenTheNextPauseEndsWithAnotherTry() {
        ended(Status.UNAVAILABLE, 0, CircuitBreaker.FAILURES);
        now.addAndGet(SECOND);
        assertTrue(breaker.admits());
        ended(Status.CANCELLED, SECOND, 1);
        assertFalse(breaker.admits());
        now.addAndGet(SECOND);
        assertTrue(breaker.admits());
    }

    public void testEnded_whenAnErrorIsAnAnswer_thenItStaysClosed() {
        for (Status answer : new Status[] {
            Status.INVALID_ARGUMENT,
            Status.FAILED_PRECONDITION,
            Status.RESOURCE_EXHAUSTED,
            Status.INTERNAL,
            Status.UNIMPLEMENTED }) {
            ended(answer, 0, 10);
            assertCircuit("closed");
        }
        ended(Status.UNAVAILABLE, 0, 2);
        ended(Status.INVALID_ARGUMENT, 0, 1);
        ended(Status.UNAVAILABLE, 0, 2);
        assertCircuit("closed");
    }

    public void testEnded_whenTheCallerWaitsLessThanAnswersTake_thenItStaysClosed() {
        ended(Status.DEADLINE_EXCEEDED, SECOND / 20, 10);
        assertCircuit("closed");
        ended(Status.OK, SECOND, 20);
        ended(Status.DEADLINE_EXCEEDED, SECOND, 10);
        assertCircuit("closed");
        ended(Status.DEADLINE_EXCEEDED, 3 * SECOND, CircuitBreaker.FAILURES);
        assertCircuit("open");
    }
}
