"""Times count from when a call was due, whoever is to blame for the delay."""

from datetime import UTC, datetime, timedelta

import pytest

from benchmarks.load import summary

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
RATE = 100  # a call every 10 ms


def call(number, late_ms=0.0, taken_ms=5.0, status="OK"):
    """As ghz tells of it: the end, and the time from the sending."""
    end = BEGAN + timedelta(milliseconds=number * 10 + late_ms + taken_ms)
    return {"timestamp": end.isoformat().replace("+00:00", "Z"), "latency": round(taken_ms * 1e6), "status": status}


def test_a_load_generator_that_comes_late_hides_nothing():
    paused = [call(n, late_ms=max(0.0, 120.0 - n * 10) if n >= 7 else 0.0) for n in range(20)]  # from 70 to 120 ms
    found = summary(paused, RATE, 0)
    assert found["p50_ms"] == pytest.approx(5, abs=0.1)
    assert found["p99_ms"] == pytest.approx(55, abs=3)
    assert found["sent_late_p99_ms"] == pytest.approx(50, abs=3)


def test_latency_is_of_ok_replies_and_shares_are_of_all_calls():
    calls = [call(n) for n in range(8)]
    calls += [call(8, taken_ms=500.0, status="DeadlineExceeded"), call(9, taken_ms=1.0, status="ResourceExhausted")]
    found = summary(calls, RATE, 0)
    assert found["p99_ms"] == pytest.approx(5, abs=0.1)
    assert found["shares"] == {"DEADLINE_EXCEEDED": 0.1, "OK": 0.8, "RESOURCE_EXHAUSTED": 0.1}
    assert found["ok_per_s"] == pytest.approx(80)


def test_the_warm_up_is_not_counted():
    calls = [call(n, taken_ms=80.0 if n < 10 else 5.0) for n in range(30)]
    found = summary(calls, RATE, 0.1)
    assert (found["calls"], found["p99_ms"]) == (20, pytest.approx(5, abs=0.1))


def test_without_an_ok_reply_there_is_no_latency():
    found = summary([call(n, status="Unavailable") for n in range(5)], RATE, 0)
    assert (found["p99_ms"], found["ok_per_s"], found["shares"]) == (None, 0, {"Unavailable": 1.0})
