package org.genrecall.opensearch.ingest;

import org.opensearch.test.OpenSearchTestCase;

import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;

public class TurnsTests extends OpenSearchTestCase {

    public void testTake_whenAllTurnsAreTaken_thenTheNextInOrderWhenOneIsOver() {
        Turns turns = new Turns(() -> 2);
        List<Integer> ran = new ArrayList<>();
        for (int i = 0; i < 5; i++) {
            int each = i;
            turns.take(() -> ran.add(each));
        }
        assertEquals(List.of(0, 1), ran);
        turns.giveBack();
        assertEquals(List.of(0, 1, 2), ran);
        turns.giveBack();
        turns.giveBack();
        assertEquals(List.of(0, 1, 2, 3, 4), ran);
    }

    public void testTake_whenManyAreOverAtOnce_thenNoCallInsideACall() {
        Turns turns = new Turns(() -> 1);
        AtomicInteger ran = new AtomicInteger();
        turns.take(() -> {});
        for (int i = 0; i < 100_000; i++) {
            turns.take(() -> {
                ran.incrementAndGet();
                turns.giveBack();
            });
        }
        turns.giveBack();
        assertEquals(100_000, ran.get());
    }

    public void testTake_whenATaskThrows_thenTheOthersStillRun() {
        Turns turns = new Turns(() -> 1);
        turns.take(() -> {
            turns.giveBack();
            throw new IllegalStateException("on purpose");
        });
        AtomicInteger ran = new AtomicInteger();
        turns.take(ran::incrementAndGet);
        assertEquals(1, ran.get());
    }

    public void testTake_whenMoreAreAllowed_thenTheyComeInWithTheNextThatLeaves() {
        AtomicInteger most = new AtomicInteger(1);
        Turns turns = new Turns(most::get);
        AtomicInteger ran = new AtomicInteger();
        for (int i = 0; i < 4; i++) {
            turns.take(ran::incrementAndGet);
        }
        most.set(3);
        turns.giveBack();
        assertEquals(4, ran.get());
    }

    public void testTake_whenManyThreads_thenAllRunAndNeverMoreThanAllowed() throws Exception {
        Turns turns = new Turns(() -> 3);
        AtomicInteger inside = new AtomicInteger();
        AtomicInteger most = new AtomicInteger();
        CountDownLatch all = new CountDownLatch(4_000);
        ExecutorService threads = Executors.newFixedThreadPool(4);
        ExecutorService answers = Executors.newFixedThreadPool(4);
        try {
            for (int i = 0; i < 4_000; i++) {
                threads.execute(() -> turns.take(() -> {
                    most.accumulateAndGet(inside.incrementAndGet(), Math::max);
                    answers.execute(() -> {
                        inside.decrementAndGet();
                        turns.giveBack();
                        all.countDown();
                    });
                }));
            }
            assertTrue(all.await(30, TimeUnit.SECONDS));
            assertTrue("at once: " + most, most.get() <= 3);
        } finally {
            terminate(threads, answers);
        }
    }
}
