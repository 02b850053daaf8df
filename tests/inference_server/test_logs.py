"""What the log tells of calls, and what it never tells."""

import asyncio
import json
import logging
import re

import pytest

from inference_server.telemetry import logs
from inference_server.telemetry.logs import ACCESS, JsonFormatter, TextFormatter, event
from tests.inference_server.serving import SIDS, ThreeSids, refusal, request, score_request, served

REQUEST_ID = (("x-request-id", "abc-1"),)


@pytest.fixture
def lines():
    """What is logged, formatted both ways: (text, JSON) of each event."""
    found = []

    class Keep(logging.Handler):
        def emit(self, record):
            found.append((TextFormatter().format(record), json.loads(JsonFormatter().format(record))))

    handler, log = Keep(), logging.getLogger("inference_server")
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    yield found
    log.removeHandler(handler)
    log.setLevel(level)


def test_an_event_is_one_line_whatever_its_values_are(lines):
    log = logging.getLogger("inference_server.test")
    event(log, logging.INFO, "seen", n=3, ms=1.26, empty="", hostile='a b="c"\nINFO forged', none=None)
    text, entry = lines[0]
    assert re.fullmatch(r'\S+ \S+ INFO seen n=3 ms=1\.3 empty="" hostile="a b=.*forged" none=None', text)
    assert "\n" not in text
    assert (entry["event"], entry["level"], entry["n"], entry["hostile"]) == ("seen", "INFO", 3, 'a b="c"\nINFO forged')


def test_a_traceback_stays_with_its_event(lines):
    try:
        raise RuntimeError("boom")
    except RuntimeError as error:
        event(logging.getLogger("inference_server.test"), logging.ERROR, "failed", error)
    text, entry = lines[0]
    assert text.splitlines()[0].endswith("ERROR failed")
    assert "RuntimeError: boom" in text
    assert "RuntimeError: boom" in entry["traceback"]


def test_each_call_leaves_a_line_with_its_status_times_and_request_id_but_no_text(lines):
    async def main():
        async with served(ThreeSids()) as (stub, *_):
            await stub.Generate(request("red shoes", k=2), metadata=REQUEST_ID)
            await stub.Score(score_request(SIDS[0], text="red shoes"))
            await refusal(stub.Generate(request("red shoes", k=5000)))

    asyncio.run(main())
    generated, scored, refused = [entry for _, entry in lines if "code" in entry]
    assert (generated["event"], generated["code"], generated["request_id"]) == ("generate", "OK", "abc-1")
    assert (generated["codebook"], generated["queries"], generated["k"]) == ("v1", 1, 2)
    assert 0 < generated["compute_ms"] <= generated["total_ms"]
    assert (scored["event"], scored["sids"]) == ("score", 1)
    assert (refused["event"], refused["code"]) == ("generate", "INVALID_ARGUMENT")
    assert "request_id" not in refused
    assert not any("red shoes" in text for text, _ in lines)


def test_texts_are_logged_where_the_operator_says_so(lines):
    async def main():
        async with served(ThreeSids(), log_queries=True) as (stub, *_):
            await stub.Generate(request("red shoes", "lamp"))

    asyncio.run(main())
    assert [entry["texts"] for _, entry in lines if "code" in entry] == [["red shoes", "lamp"]]


def test_calls_are_logged_only_where_asked_for():
    root, ours = logging.getLogger(), logging.getLogger("inference_server")
    before = root.handlers[:], root.level, ours.level, ACCESS.level
    try:
        logs.configure("text", verbose=False)
        assert ours.isEnabledFor(logging.INFO)
        assert not ACCESS.isEnabledFor(logging.INFO)
        logs.configure("json", verbose=True)
        assert ACCESS.isEnabledFor(logging.INFO)
        assert [type(handler.formatter) for handler in root.handlers] == [JsonFormatter]
    finally:
        root.handlers[:], root.level, ours.level, ACCESS.level = before
