"""The scheduler on a real event loop with its real thread, and workloads whose answers and pace the test decides."""

import asyncio
import threading
from contextlib import asynccontextmanager

import pytest

from inference_server.batching.batcher import BatchSettings, QueueFull
from inference_server.batching.scheduler import DeadlineExceeded, Scheduler, ShuttingDown, WorkItem
from inference_server.engines.base import DeviceLost


class Doubler:
    """Answers twice each number once `gate` is open; remembers its batches."""

    def __init__(self, answer=lambda payloads: [2 * payload for payload in payloads]):
        self.answer = answer
        self.gate = threading.Event()
        self.gate.set()
        self.running = threading.Event()
        self.batches: list[list[int]] = []

    def run(self, payloads):
        self.batches.append(list(payloads))
        self.running.set()
        assert self.gate.wait(5)
        return self.answer(payloads)


class Notes:
    """An observer that keeps what it hears."""

    def __init__(self):
        self.batches, self.reasons = [], []

    def on_batch(self, workload, count, tokens, padded_tokens, seconds):
        self.batches.append((workload, count, tokens, padded_tokens, seconds))

    def on_dropped(self, reason):
        self.reasons.append(reason)


def run(main):
    """A call that is never answered is a failure, not a test that hangs."""
    asyncio.run(asyncio.wait_for(main(), 10))


def work_items(*numbers, length=8):
    return [WorkItem(number, length) for number in numbers]


@asynccontextmanager
async def scheduler(observer=None, **settings):
    made = Scheduler(BatchSettings(**settings), observer=observer)
    yield made
    await made.close()


def submitted(made, workload, *numbers, in_s=None):
    """A call under way, admitted by the time the next one is; `in_s` seconds to its deadline."""
    deadline = None if in_s is None else asyncio.get_running_loop().time() + in_s
    return asyncio.create_task(made.submit(workload, work_items(*numbers), deadline))


@asynccontextmanager
async def busy(made, workload):
    """The workload holds the compute thread with a call of its own (payload 0) until the block ends."""
    workload.gate.clear()
    first = submitted(made, workload, 0)
    try:
        assert await asyncio.to_thread(workload.running.wait, 5)
        yield first
    finally:
        workload.gate.set()
    await first


def test_results_come_back_in_the_order_of_the_jobs_whatever_batches_they_ran_in():
    async def main():
        workload = Doubler()
        async with scheduler(max_batch=3) as made:
            done = await made.submit(
                workload, [WorkItem(n, length) for n, length in enumerate([100, 8, 30, 8, 8, 600, 8])]
            )
        assert done.results == [0, 2, 4, 6, 8, 10, 12]
        assert workload.batches == [[0, 2, 1], [3, 4, 6], [5]]
        assert done.batch_sizes == [3, 3, 1]

    run(main)


def test_a_call_without_jobs_is_answered_at_once():
    async def main():
        workload = Doubler()
        async with scheduler() as made:
            assert (await made.submit(workload, [])).results == []
        assert workload.batches == []

    run(main)


def test_calls_that_arrive_together_share_a_batch_and_so_do_those_that_wait():
    async def main():
        workload = Doubler()
        async with scheduler() as made:
            await asyncio.gather(*(submitted(made, workload, n) for n in (1, 2, 3)))
            async with busy(made, workload):
                waiting = [submitted(made, workload, n, n + 1) for n in (10, 20)]
                await asyncio.sleep(0.05)
            assert [(await call).results for call in waiting] == [[20, 22], [40, 42]]
        assert workload.batches == [[1, 2, 3], [0], [10, 20, 11, 21]]

    run(main)


def test_one_batch_runs_at_a_time_whatever_its_workload():
    async def main():
        workloads = Doubler(), Doubler()
        async with scheduler() as made:
            async with busy(made, workloads[0]):
                other = submitted(made, workloads[1], 5)
                await asyncio.sleep(0.05)
                assert workloads[1].batches == []
            assert (await other).results == [10]

    run(main)


def test_the_time_of_a_call_is_waiting_and_computing():
    async def main():
        workload, now = Doubler(), [0.0]
        made = Scheduler(BatchSettings(), clock=lambda: now[0])
        async with busy(made, workload) as first:
            now[0] = 1.0
            second = submitted(made, workload, 1)
            await asyncio.sleep(0)
            now[0] = 3.0
        first, second = await first, await second
        await made.close()
        assert (first.queue_ms, first.compute_ms) == (0, 3000)
        assert (second.queue_ms, second.compute_ms) == (2000, 0)

    run(main)


def test_a_call_beyond_max_pending_is_refused_whole_and_what_runs_counts():
    async def main():
        workload, notes = Doubler(), Notes()
        async with scheduler(notes, max_pending=3) as made:
            async with busy(made, workload):
                second = submitted(made, workload, 1)
                await asyncio.sleep(0)
                with pytest.raises(QueueFull):
                    await made.submit(workload, work_items(2, 3))
                assert made.pending == 2
                third = submitted(made, workload, 4)
                await asyncio.sleep(0)
                assert made.pending == 3
            await asyncio.gather(second, third)
            assert made.pending == 0
        assert workload.batches == [[0], [1, 4]]
        assert notes.reasons == ["refused"]

    run(main)


def test_a_call_that_expires_while_it_waits_is_told_while_the_compute_is_busy_and_never_runs():
    async def main():
        workload, notes = Doubler(), Notes()
        async with scheduler(notes) as made:
            async with busy(made, workload):
                expired = submitted(made, workload, 1, 2, in_s=0.05)
                patient = submitted(made, workload, 3, in_s=60)
                with pytest.raises(DeadlineExceeded):
                    await asyncio.wait_for(expired, 5)
            assert (await patient).results == [6]
        assert workload.batches == [[0], [3]]
        assert notes.reasons == ["expired"]

    run(main)


def test_a_cancelled_call_takes_back_what_waits_and_leaves_others_alone():
    async def main():
        workload, notes = Doubler(), Notes()
        async with scheduler(notes) as made:
            async with busy(made, workload):
                cancelled, other = submitted(made, workload, 1, 2), submitted(made, workload, 3)
                await asyncio.sleep(0)
                cancelled.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await cancelled
                assert made.pending == 2
            assert (await other).results == [6]
        assert workload.batches == [[0], [3]]
        assert notes.reasons == ["cancelled"]

    run(main)


def test_a_call_cancelled_while_it_runs_does_not_disturb_those_in_its_batch():
    async def main():
        workload = Doubler()
        workload.gate.clear()
        async with scheduler(max_batch=2) as made:
            cancelled, other = submitted(made, workload, 1, 2, 3), submitted(made, workload, 4)
            assert await asyncio.to_thread(workload.running.wait, 10)
            cancelled.cancel()
            await asyncio.sleep(0.05)
            workload.gate.set()
            assert (await other).results == [8]
            assert cancelled.cancelled()
            assert (await made.submit(workload, work_items(5))).results == [10]
        assert workload.batches == [[1, 4], [5]]

    run(main)


@pytest.mark.parametrize(
    ("raised", "reaches"), [(ValueError("broken"), ValueError), (StopIteration("broken"), RuntimeError)]
)
def test_what_a_workload_raises_reaches_every_call_of_that_batch_and_nobody_else(raised, reaches):
    def answer(payloads):
        if 1 in payloads:
            raise raised
        return payloads

    async def main():
        workload = Doubler(answer)
        async with scheduler(max_batch=2) as made:
            calls = [submitted(made, workload, *numbers) for numbers in [(1, 10), (2,), (3,)]]
            first, second, third = await asyncio.gather(*calls, return_exceptions=True)
            assert (type(first), type(second)) == (reaches, reaches)
            assert third.results == [3]
            assert made.pending == 0
            assert (await made.submit(workload, work_items(4))).results == [4]
        assert workload.batches == [[1, 2], [3], [4]]

    run(main)


def test_a_workload_that_answers_too_few_is_an_error_of_its_batch():
    async def main():
        async with scheduler() as made:
            with pytest.raises(RuntimeError, match="returned 1 results for 2 payloads"):
                await made.submit(Doubler(lambda payloads: payloads[:1]), work_items(1, 2))

    run(main)


@pytest.mark.parametrize("fails", [False, True])
def test_the_pace_is_learned_from_what_succeeds_and_forgotten_where_an_engine_may_have_been_swapped(fails):
    now = [0.0]

    def slow_at_zero(payloads):
        if 0 in payloads:
            now[0] += 10
            if fails:
                raise ValueError
        return payloads

    async def main():
        made, workload = Scheduler(BatchSettings(), clock=lambda: now[0]), Doubler(slow_at_zero)

        async def in_a_hurry():
            calls = made.submit(workload, work_items(1), now[0] + 5), made.submit(workload, work_items(2), now[0] + 60)
            first, second = await asyncio.gather(*calls, return_exceptions=True)
            assert second.results == [2]
            return first

        await asyncio.gather(made.submit(workload, work_items(0)), return_exceptions=True)
        assert isinstance(await in_a_hurry(), DeadlineExceeded) != fails
        await asyncio.gather(made.submit(workload, work_items(0)), return_exceptions=True)
        await made.between_batches(lambda: None)
        assert (await in_a_hurry()).results == [1]
        await made.close()

    run(main)


def test_a_batch_lingers_for_company_until_it_is_full_or_the_time_is_up():
    async def main():
        workload = Doubler()
        async with scheduler(max_delay_s=60, max_batch=2) as made:
            first = submitted(made, workload, 1)
            await asyncio.sleep(0.05)
            assert workload.batches == []
            await asyncio.gather(first, submitted(made, workload, 2))
        async with scheduler(max_delay_s=0.05) as made:
            await made.submit(workload, work_items(3))
        assert workload.batches == [[1, 2], [3]]

    run(main)


def test_a_function_between_batches_runs_on_the_compute_thread_while_no_batch_does():
    async def main():
        workload, order = Doubler(), []
        gate = threading.Event()

        def swap():
            order.append((threading.current_thread().name, len(workload.batches)))
            assert gate.wait(10)
            return "swapped"

        async with scheduler() as made:
            async with busy(made, workload):
                swapping = asyncio.create_task(made.between_batches(swap))
                waiting, cancelled = submitted(made, workload, 1), submitted(made, workload, 2)
                await asyncio.sleep(0.05)
                assert order == []
            await asyncio.sleep(0.05)
            cancelled.cancel()
            await asyncio.sleep(0.05)
            gate.set()
            assert await swapping == "swapped"
            assert (await waiting).results == [2]
        assert workload.batches == [[0], [1]]
        assert order == [("compute_0", 1)]

    run(main)


def test_a_function_that_fails_between_batches_tells_its_owner_and_the_scheduler_goes_on():
    async def main():
        async with scheduler() as made:
            with pytest.raises(ZeroDivisionError):
                await made.between_batches(lambda: 1 / 0)
            assert (await made.submit(Doubler(), work_items(1))).results == [2]

    run(main)


def test_a_drain_refuses_new_calls_and_finishes_what_was_accepted():
    async def main():
        workload, notes = Doubler(), Notes()
        async with scheduler(notes) as made:
            async with busy(made, workload):
                waiting = submitted(made, workload, 1)
                await asyncio.sleep(0)
                draining = asyncio.create_task(made.drain())
                await asyncio.sleep(0.05)
                with pytest.raises(ShuttingDown):
                    await made.submit(workload, work_items(2))
                with pytest.raises(ShuttingDown):
                    await made.between_batches(lambda: None)
                assert not draining.done()
            await draining
            assert made.pending == 0
            assert (await waiting).results == [2]
        assert workload.batches == [[0], [1]]
        assert notes.reasons == ["stopped"]

    run(main)


def test_a_drain_ends_when_the_last_call_that_waits_is_cancelled():
    async def main():
        workload = Doubler()
        async with scheduler(max_delay_s=60) as made:
            waiting = submitted(made, workload, 1)
            await asyncio.sleep(0.01)
            draining = asyncio.create_task(made.drain())
            await asyncio.sleep(0.01)
            waiting.cancel()
            await asyncio.wait_for(draining, 5)
        assert workload.batches == []

    run(main)


def test_a_close_drops_what_waits_and_finishes_what_runs():
    async def main():
        workload = Doubler()
        made = Scheduler(BatchSettings())
        async with busy(made, workload) as first:
            waiting = submitted(made, workload, 1)
            await asyncio.sleep(0)
            closing = asyncio.create_task(made.close())
            with pytest.raises(ShuttingDown):
                await asyncio.wait_for(waiting, 5)
            assert not closing.done()
        assert (await first).results == [0]
        await closing
        await made.close()
        with pytest.raises(ShuttingDown):
            await made.submit(workload, work_items(2))
        assert workload.batches == [[0]]
        assert "compute_0" not in {thread.name for thread in threading.enumerate()}

    run(main)


def test_an_observer_hears_of_every_batch():
    def answer(payloads):
        if 3 in payloads:
            raise ValueError
        return payloads

    async def main():
        workload, notes = Doubler(answer), Notes()
        async with scheduler(notes) as made:
            await made.submit(workload, work_items(1, 2, length=20))
            with pytest.raises(ValueError):
                await made.submit(workload, work_items(3))
        assert [heard[:4] for heard in notes.batches] == [(workload, 2, 40, 64), (workload, 1, 8, 16)]
        assert all(seconds >= 0 for *_, seconds in notes.batches)
        assert notes.reasons == []

    run(main)


def test_hundreds_of_calls_that_come_and_go_each_get_their_own_answer():
    async def main():
        workload = Doubler()
        async with scheduler(max_pending=10_000, max_batch=7) as made:
            calls = [
                asyncio.create_task(made.submit(workload, work_items(*range(n, n + n % 5 + 1)))) for n in range(300)
            ]
            await asyncio.sleep(0.002)
            for call in calls[::3]:
                call.cancel()
            answers = await asyncio.gather(*calls, return_exceptions=True)
            assert made.pending == 0
        for n, answer in enumerate(answers):
            if not isinstance(answer, asyncio.CancelledError):
                assert answer.results == [2 * number for number in range(n, n + n % 5 + 1)]
            else:
                assert n % 3 == 0
        assert max(map(len, workload.batches)) <= 7

    run(main)


def test_a_lost_device_is_noticed_and_an_ordinary_failure_is_none():
    async def main():
        def fail(payloads):
            raise DeviceLost("gone") if payloads == [2] else RuntimeError("no")

        async with scheduler() as made:
            for number, error in ((1, RuntimeError), (2, DeviceLost)):
                assert not made.broken.is_set()
                with pytest.raises(error):
                    await made.submit(Doubler(fail), work_items(number))
            assert made.broken.is_set()
            assert made.reason == "the device is lost: gone"

    run(main)
