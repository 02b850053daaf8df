"""The batcher by its rules, on a clock that the test moves: what enters, what leaves, in which order and company."""

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from inference_server.batching.batcher import Batcher, BatchSettings, QueueEntry, QueueFull


def entries(call, *lengths, workload="a", cost=1.0, deadline=None, arrived=0.0, client=None):
    return [
        QueueEntry(workload, length, call, (call, i), arrived, deadline, cost, client=client)
        for i, length in enumerate(lengths)
    ]


def payloads(batch):
    return [entry.payload for entry in batch.entries]


def run_all(batcher, now=0.0, seconds=1.0):
    """The batches that leave one after another, each taking `seconds`."""
    batches = []
    while (batch := batcher.next(now, idle=True).batch) is not None:
        batches.append(batch)
        assert len(batches) < 1000, "entries that ran wait still"
        now += seconds
        batcher.done(batch, seconds)
    return batches


# Admission


def test_a_call_is_admitted_whole_or_refused_whole():
    batcher = Batcher(BatchSettings(max_pending=4))
    batcher.add(entries("a", 8, 8, 8))
    with pytest.raises(QueueFull):
        batcher.add(entries("b", 8, 8))
    batcher.add(entries("c", 8))
    assert batcher.pending == 4
    assert {call for batch in run_all(batcher) for call, _ in payloads(batch)} == {"a", "c"}


def test_what_runs_counts_as_pending_until_it_is_done():
    batcher = Batcher(BatchSettings(max_pending=2))
    batcher.add(entries("a", 8, 8))
    batch = batcher.next(0, idle=True).batch
    with pytest.raises(QueueFull):
        batcher.add(entries("b", 8))
    batcher.done(batch, 1)
    batcher.add(entries("b", 8))
    assert batcher.pending == 1


@pytest.mark.parametrize("cost", [0, -1, float("nan"), float("inf")])
def test_a_cost_that_does_not_move_the_order_on_is_an_error(cost):
    with pytest.raises(ValueError, match="cost must be above 0"):
        Batcher(BatchSettings()).add(entries("a", 8, cost=cost))


# The shape of a batch


@pytest.mark.parametrize(("length", "padded"), [(0, 16), (16, 16), (17, 32), (64, 64), (65, 128), (129, 192)])
def test_lengths_round_up_to_a_bucket_and_beyond_the_last_to_its_multiples(length, padded):
    assert BatchSettings(buckets=(16, 32, 64)).padded(length) == padded


def test_a_batch_fills_from_its_heads_bucket_then_from_shorter_ones_and_never_from_longer_ones():
    batcher = Batcher(BatchSettings(max_batch=5))
    for call, length in enumerate([30, 10, 60, 70, 50, 12, 32, 31]):
        batcher.add(entries(call, length))
    batch = batcher.next(0, idle=True).batch
    assert [entry.length for entry in batch.entries] == [30, 32, 31, 10, 12]
    assert (batch.padded_length, batch.tokens, batch.padded_tokens) == (32, 115, 160)
    assert [entry.length for entry in batcher.next(0, idle=True).batch.entries] == [60, 50]


def test_the_token_budget_counts_padding_and_an_entry_larger_than_it_runs_alone():
    batcher = Batcher(BatchSettings(max_batch_tokens=100, buckets=(16, 32, 64)))
    batcher.add(entries("a", 17, 17, 17, 17, 400, 5))
    shapes = [(batch.padded_length, len(batch.entries)) for batch in run_all(batcher)]
    assert shapes == [(32, 3), (32, 2), (448, 1)]


def test_what_is_computed_beside_the_prompt_counts_too():
    batcher = Batcher(BatchSettings(max_batch=4, max_batch_tokens=100, buckets=(16, 32)))
    for workload, rows in (("narrow", 9), ("wide", 34), ("widest", 500)):
        batcher.add([QueueEntry(workload, 16, workload, n, 0.0, rows=rows) for n in range(5)])
    sizes = [(batch.workload, len(batch.entries)) for batch in run_all(batcher)]
    assert [size for name, size in sizes if name == "narrow"] == [4, 1]
    assert [size for name, size in sizes if name == "wide"] == [2, 2, 1]
    assert [size for name, size in sizes if name == "widest"] == [1] * 5


def test_workloads_do_not_mix():
    batcher = Batcher(BatchSettings())
    batcher.add(entries("x", 8, 8, workload=("v1", 50)))
    batcher.add(entries("y", 8, 8, workload=("v1", 100)))
    assert [(batch.workload, len(batch.entries)) for batch in run_all(batcher)] == [(("v1", 50), 2), (("v1", 100), 2)]


# Who leaves without running


def test_a_cancelled_call_leaves_with_all_that_waits_of_it():
    batcher = Batcher(BatchSettings())
    for call in "abc":
        batcher.add(entries(call, 8, 100))
    assert {entry.payload for entry in batcher.cancel("b")} == {("b", 0), ("b", 1)}
    assert batcher.cancel("b") == []
    assert {call for batch in run_all(batcher) for call, _ in payloads(batch)} == {"a", "c"}


def test_an_entry_is_reported_as_expired_once_whether_or_not_the_compute_is_idle():
    batcher = Batcher(BatchSettings())
    batcher.add(entries("a", 8, deadline=5))
    batcher.add(entries("b", 8, deadline=7))
    batcher.add(entries("c", 8))
    assert batcher.next(4, idle=False).again_at == 5
    step = batcher.next(5, idle=False)
    assert [entry.call for entry in step.expired] == ["a"]
    assert step.again_at == 7
    step = batcher.next(8, idle=True)
    assert [entry.call for entry in step.expired] == ["b"]
    assert [entry.call for entry in step.batch.entries] == ["c"]
    assert step.again_at == math.inf


def test_what_would_end_too_late_gives_way_to_what_can_still_be_in_time():
    batcher = Batcher(BatchSettings())
    batcher.add(entries("a", 8))
    run_all(batcher, seconds=2)
    batcher.add(entries("late", 8, deadline=11))
    batcher.add(entries("early", 8, deadline=12))
    step = batcher.next(10, idle=True)
    assert [entry.call for entry in step.expired] == ["late"]
    assert [entry.call for entry in step.batch.entries] == ["early"]


def test_one_slow_batch_does_not_shut_the_door_to_everybody_in_a_hurry():
    batcher = Batcher(BatchSettings())
    batcher.add(entries("warmup", 8))
    run_all(batcher, seconds=60)
    answered = []
    for call in range(20):
        batcher.add(entries(call, 8, deadline=100 + call + 0.5))
        answered += [entry.call for batch in run_all(batcher, 100 + call, 0.1) for entry in batch.entries]
    assert answered == list(range(20))


def test_under_overload_what_runs_is_still_in_time():
    """Twice as many calls as the compute can take: in plain order all of them would end just too late."""
    batcher = Batcher(BatchSettings(max_batch=4))
    seconds, in_time, ran = 1.0, 0, 0
    for now in range(100):
        for call in range(8):
            batcher.add(entries((now, call), 8, arrived=now, deadline=now + 5.5))
        batch = batcher.next(now, idle=True).batch
        batcher.done(batch, seconds)
        ran += len(batch.entries)
        in_time += sum(entry.deadline >= now + seconds for entry in batch.entries)
    assert ran == 400
    assert in_time == ran


# When a batch leaves


def test_without_linger_an_idle_compute_takes_what_is_there():
    batcher = Batcher(BatchSettings())
    assert batcher.next(0, idle=True).again_at == math.inf
    batcher.add(entries("a", 8))
    assert batcher.next(0, idle=False).batch is None
    assert payloads(batcher.next(0, idle=True).batch) == [("a", 0)]


def test_a_batch_lingers_for_company_until_the_oldest_has_waited_enough():
    batcher = Batcher(BatchSettings(max_delay_s=2))
    batcher.add(entries("a", 8, arrived=10))
    batcher.add(entries("b", 8, arrived=11))
    step = batcher.next(11, idle=True)
    assert (step.batch, step.again_at) == (None, 12)
    assert len(batcher.next(12, idle=True).batch.entries) == 2


def test_a_full_batch_does_not_linger():
    batcher = Batcher(BatchSettings(max_delay_s=2, max_batch=3))
    batcher.add(entries("a", 8, 8, 8))
    assert len(batcher.next(0, idle=True).batch.entries) == 3
    batcher = Batcher(BatchSettings(max_delay_s=2, max_batch_tokens=40, buckets=(16,)))
    batcher.add(entries("a", 8, 8))
    assert len(batcher.next(0, idle=True).batch.entries) == 2


def test_a_batch_does_not_linger_past_the_slack_of_one_of_its_calls():
    batcher = Batcher(BatchSettings(max_delay_s=100))
    batcher.add(entries("unknown pace", 8, deadline=50))
    batcher.done(batcher.next(0, idle=True).batch, 4)
    batcher.add(entries("a", 8, arrived=10, deadline=30))
    assert batcher.next(10, idle=True).again_at == 30 - 2 * 4
    batcher.reset_service_times()
    assert batcher.next(10, idle=True).batch is not None


def test_a_failed_batch_says_nothing_about_the_pace():
    batcher = Batcher(BatchSettings(max_delay_s=100))
    for seconds in (4, None):
        batcher.add(entries("a", 8, deadline=1000, arrived=0))
        batcher.done(batcher.next(900, idle=True).batch, seconds)
    batcher.add(entries("b", 8, arrived=900, deadline=950))
    assert batcher.next(900, idle=True).again_at == 950 - 2 * 4


# Fairness


def test_a_large_call_and_small_ones_share_the_compute():
    batcher = Batcher(BatchSettings(max_batch=4))
    batcher.add(entries("large", *[8] * 256))
    ran, waits = [], []
    for now in range(200):
        batcher.add(entries(now, 8, arrived=now))
        batch = batcher.next(now, idle=True).batch
        batcher.done(batch, 1)
        ran += payloads(batch)
        waits += [now - entry.arrived for entry in batch.entries if entry.call != "large"]
    assert max(waits) <= 1
    assert sum(call == "large" for call, _ in ran) == 256


def test_a_flood_of_small_calls_does_not_starve_a_large_one():
    """The door is never without small calls that come in as soon as there is room."""
    batcher = Batcher(BatchSettings(max_pending=40, max_batch=4))
    batcher.add(entries("large", *[8] * 20))
    for now in range(40 * 20 // 4):
        while batcher.pending < 40:
            batcher.add(entries(now, 8))
        batch = batcher.next(now, idle=True).batch
        batcher.done(batch, 1)
        if ("large", 19) in payloads(batch):
            return
    pytest.fail("the large call waits still")


def test_a_flood_in_one_workload_or_length_does_not_starve_the_others():
    batcher = Batcher(BatchSettings(max_batch=4))
    waiting = {"workload", "length"}
    batcher.add(entries("workload", 8, workload="b"))
    batcher.add(entries("length", 500))
    for now in range(4):
        batcher.add(entries(now, *[8] * 8))
        batch = batcher.next(now, idle=True).batch
        batcher.done(batch, 1)
        waiting -= {entry.call for entry in batch.entries}
    assert not waiting


def test_a_costly_call_yields_to_cheap_ones():
    batcher = Batcher(BatchSettings(max_batch=1))
    batcher.add(entries("scores", 8, 8, cost=100.0))
    for call in range(3):
        batcher.add(entries(call, 8, 8))
    calls = [entry.call for batch in run_all(batcher) for entry in batch.entries]
    assert calls == [0, 1, 2, 0, 1, 2, "scores", "scores"]


def test_what_rides_along_with_a_head_does_not_make_newcomers_wait():
    batcher = Batcher(BatchSettings())
    batcher.add(entries("large", *[8] * 32))
    batcher.add([QueueEntry(workload, 8, "other", None, 0.0) for workload in "bcde"])
    assert len(batcher.next(0, idle=True).batch.entries) == 32
    batcher.add(entries("new", 8, workload="z"))
    assert [batch.workload for batch in run_all(batcher)] == ["b", "c", "z", "d", "e"]


def ran(batcher):
    """The calls, in the order in which their entries run."""
    return [entry.call for batch in run_all(batcher) for entry in batch.entries]


def test_a_client_that_floods_makes_itself_wait_and_no_other():
    batcher = Batcher(BatchSettings(max_batch=1))
    for call in range(100):
        batcher.add(entries(call, 8, client="flood"))
    run_some = [batcher.next(0, idle=True).batch for _ in range(10)]
    for batch in run_some:
        batcher.done(batch, 1)
    batcher.add(entries("other", 8, client="other"))
    batcher.add(entries("later", 8, client="flood"))
    order = ran(batcher)
    assert order.index("other") <= 1
    assert order[-1] == "later"


def test_a_clients_single_query_does_not_wait_for_the_rest_of_its_large_call():
    batcher = Batcher(BatchSettings(max_batch=1))
    batcher.add(entries("large", *[8] * 50, client="a"))
    batcher.add(entries("single", 8, client="a"))
    assert ran(batcher).index("single") <= 2


def test_a_client_that_fills_the_queue_makes_room_for_another_up_to_an_equal_share():
    batcher = Batcher(BatchSettings(max_pending=8, max_batch=1))
    for call in range(8):
        assert batcher.add(entries(call, 8, client="flood")) == []
    with pytest.raises(QueueFull):
        batcher.add(entries("more", 8, client="flood"))
    with pytest.raises(QueueFull):
        batcher.add(entries("of nobody", 8))
    left = [batcher.add(entries(f"other {n}", 8, client="other")) for n in range(4)]
    assert [entry.call for one in left for entry in one] == [7, 6, 5, 4]
    with pytest.raises(QueueFull):
        batcher.add(entries("other 4", 8, client="other"))
    assert batcher.pending == 8
    assert sorted(map(str, ran(batcher))) == sorted(["0", "1", "2", "3", *(f"other {n}" for n in range(4))])


def test_a_client_that_left_is_forgotten():
    batcher = Batcher(BatchSettings())
    for call in range(50):
        batcher.add(entries(call, 8, client=f"client {call}"))
    run_all(batcher)
    assert not batcher._clients


# What is known of time


def seconds_of(fixed, each, count):
    return fixed + each * count


@given(
    st.floats(0, 5), st.floats(0.01, 5), st.lists(st.integers(1, 12), max_size=8), st.integers(0, 20), st.integers(1, 9)
)
def test_no_call_is_said_to_end_later_than_it_does_save_for_a_full_last_batch(fixed, each, known, waiting, count):
    """Whatever of a batch's time is fixed, and whatever its size was before: only the last batch may be smaller."""
    batcher = Batcher(BatchSettings(max_batch=4))

    def run(now):
        batch = batcher.next(now, idle=True).batch
        if batch is not None:
            now += seconds_of(fixed, each, len(batch.entries))
            batcher.done(batch, seconds_of(fixed, each, len(batch.entries)))
        return batch, now

    for number, size in enumerate(known):
        batcher.add(entries(number, *[8] * size, client="a"))
        run(0)
    if waiting:
        batcher.add(entries("waiting", *[8] * waiting, client="b"))
    promised = batcher.earliest_end(0, entries("new", 8, client="c")[0], count)
    call = entries("new", *[8] * count, client="c")
    batcher.add(call)
    left, now = set(call), 0.0
    while left:
        batch, now = run(now)
        left -= set(batch.entries)
    full = seconds_of(fixed, each, 4) if waiting + count > 4 else 0.0
    assert promised <= now + full + 1e-6


def test_a_call_behind_a_long_queue_is_known_to_end_late():
    batcher = Batcher(BatchSettings(max_batch=2))
    for call in range(2):
        batcher.add(entries(call, 8, 8, client="a"))
        batcher.done(batcher.next(0, idle=True).batch, 3)
    for call in range(10):
        batcher.add(entries(call, 8, client="a"))
    batch = batcher.next(0, idle=True).batch
    assert batcher.earliest_end(1, entries("new", 8, client="a")[0], 1) == 3 + 5 * 3
    assert batcher.earliest_end(1, entries("new", 8, client="b")[0], 1) < 3 + 2 * 3
    batcher.done(batch, 3)
    batcher.reset_service_times()
    assert batcher.earliest_end(1, entries("new", 8, client="a")[0], 1) == 1


ROWS = st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from([0.5, 1.0, 2.0, 5.0])), min_size=1, max_size=6)


@given(st.lists(st.one_of(ROWS, st.none()), min_size=1, max_size=20), st.integers(1, 4))
def test_the_order_bound_holds(events, max_batch):
    """An event is a call, by the workloads and costs of its entries, or None, the run of one batch."""
    batcher = Batcher(BatchSettings(max_batch=max_batch))
    batches, calls = [], {}

    def run():
        batches.append(batcher.next(0, idle=True).batch)
        batcher.done(batches[-1], 1)

    for number, rows in enumerate(events):
        if rows is not None:
            call = [QueueEntry(workload, 8, number, None, 0.0, None, cost) for workload, cost in rows]
            batcher.add(call)
            calls[number] = (len(batches), call)
        elif batcher.pending:
            run()
    while batcher.pending:
        run()

    turn = {entry: at for at, batch in enumerate(batches) for entry in batch.entries}
    heads = [batch.entries[0] for batch in batches]
    for number, (arrived, call) in calls.items():
        for entry, q in zip(call, itertools.accumulate(entry.cost for entry in call), strict=True):
            ahead = heads[arrived : turn[entry]]
            for other in calls.keys() - {number}:
                costs = [head.cost for head in ahead if head.call == other]
                assert sum(costs) <= q + max(costs, default=0) if other < number else sum(costs) < q


# Any sequence of events


class Events(RuleBasedStateMachine):
    """Calls come, leave and expire while batches run: every entry has one fate, and every batch keeps its bounds."""

    calls = Bundle("calls")

    @initialize(max_delay_s=st.sampled_from([0.0, 3.0]))
    def start(self, max_delay_s):
        self.settings = BatchSettings(
            max_pending=12, max_batch=3, max_batch_tokens=64, max_delay_s=max_delay_s, buckets=(8, 16, 32)
        )
        self.batcher = Batcher(self.settings)
        self.now = 0.0
        self.waiting = set()
        self.running = None
        self.numbers = itertools.count()

    @rule(
        target=calls,
        rows=st.lists(st.tuples(st.integers(0, 80), st.sampled_from("ab"), st.sampled_from([0.5, 1, 9])), max_size=6),
        patience=st.none() | st.integers(0, 12),
        client=st.none() | st.sampled_from("xyz"),
    )
    def arrives(self, rows, patience, client):
        call = next(self.numbers)
        deadline = None if patience is None else self.now + patience
        coming = [
            QueueEntry(workload, length, call, None, self.now, deadline, cost, client=client)
            for length, workload, cost in rows
        ]
        pending, room = self.batcher.pending, self.settings.max_pending - self.batcher.pending
        try:
            left = self.batcher.add(coming)
        except QueueFull:
            assert len(coming) > room
            assert self.batcher.pending == pending
            return call
        assert bool(left) == (len(coming) > room)
        assert client is not None or not left
        assert set(left) <= self.waiting
        self.waiting = self.waiting - set(left) | set(coming)
        return call

    @rule(call=calls)
    def client_leaves(self, call):
        gone = self.batcher.cancel(call)
        assert set(gone) == {entry for entry in self.waiting if entry.call == call}
        self.waiting -= set(gone)

    @rule(seconds=st.integers(1, 6))
    def time_passes(self, seconds):
        self.now += seconds

    @rule()
    def turn(self):
        step = self.batcher.next(self.now, idle=self.running is None)
        expired = step.expired
        assert len(set(expired)) == len(expired)
        assert set(expired) <= self.waiting
        assert all(entry.deadline is not None for entry in expired)
        self.waiting -= set(expired)
        assert all(entry.deadline is None or entry.deadline > self.now for entry in self.waiting)
        if step.batch is not None:
            assert self.running is None
            self.check(step.batch)
            self.waiting -= set(step.batch.entries)
            self.running = step.batch
        elif self.running is None and self.waiting:
            assert self.now < step.again_at <= min(entry.arrived for entry in self.waiting) + self.settings.max_delay_s
        assert step.again_at <= min((e.deadline for e in self.waiting if e.deadline is not None), default=math.inf)
        self.again = step.again_at

    @rule(seconds=st.none() | st.integers(1, 8))
    def batch_ends(self, seconds):
        if self.running is not None:
            self.now += seconds or 0
            self.batcher.done(self.running, seconds)
            self.running = None

    def check(self, batch):
        assert len(set(batch.entries)) == len(batch.entries) > 0
        assert set(batch.entries) <= self.waiting
        assert {entry.workload for entry in batch.entries} == {batch.workload}
        assert len(batch.entries) <= self.settings.max_batch
        assert batch.padded_tokens <= self.settings.max_batch_tokens or len(batch.entries) == 1
        assert max(entry.length for entry in batch.entries) <= batch.padded_length
        assert batch.entries[0] is min(self.waiting, key=lambda entry: entry.order)

    @invariant()
    def nothing_is_lost(self):
        if hasattr(self, "batcher"):
            running = 0 if self.running is None else len(self.running.entries)
            assert self.batcher.pending == len(self.waiting) + running <= self.settings.max_pending
            assert sum(client.entries for client in self.batcher._clients.values()) == len(self.waiting)

    def teardown(self):
        """Called again at the time it returned, the batcher leaves no entry behind."""
        for _ in range(3 * self.settings.max_pending):
            self.turn()
            if self.running is not None:
                self.batch_ends(1)
            elif self.waiting:
                self.now = self.again
        assert not self.waiting


Events.TestCase.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
TestEvents = Events.TestCase
