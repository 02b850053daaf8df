"""Simulated sessions as User Behavior Insights 1.3: a row of `ubi_queries` and the rows of `ubi_events` that follow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from genrecall.data.writers import json_lines, timestamp
from genrecall.progress import OnProgress

START = datetime(2025, 1, 1, tzinfo=UTC)
READING_S = 4  # seconds spent on each item
SESSIONS_PER_CLIENT = 4


class Session(NamedTuple):
    query: dict[str, Any]
    events: list[dict[str, Any]]


class SessionRecorder:
    """Numbers sessions, draws their clients and times, and returns them as UBI records.

    sessions: how many there will be, of which the number of clients follows.
    """

    def __init__(self, sessions: int, days: int, random: np.random.Generator) -> None:
        self.sessions = sessions
        self.random = random
        self.clients = max(1, sessions // SESSIONS_PER_CLIENT)
        self.seconds = days * 86_400
        self.number = 0

    def record(self, text: str, items: list[str], clicked: np.ndarray, bought: np.ndarray) -> Session:
        """One search. items: as shown; clicked, bought: bool [s]."""
        self.number += 1
        start = START + timedelta(milliseconds=int(self.random.integers(self.seconds * 1000)))
        session = {
            "query_id": f"s{self.number:08}",
            "client_id": f"c{int(self.random.integers(self.clients)):07}",
            "application": "simulated",
        }
        query = {
            **session,
            "user_query": text,
            "timestamp": timestamp(start),
            "object_id_field": "item_id",
            "query_response_hit_ids": items,
        }
        events = [
            {
                **session,
                "action_name": action,
                "timestamp": timestamp(start + timedelta(seconds=READING_S * (int(rank) + 1 + delay))),
                "user_query": text,
                "event_attributes": {
                    "object": {"object_id": items[rank], "object_id_field": "item_id"},
                    "position": {"ordinal": int(rank) + 1},
                },
            }
            for action, mask, delay in (("click", clicked, 0), ("purchase", bought, len(items)))
            for rank in np.flatnonzero(mask)
        ]
        return Session(query, events)

    def write(self, sessions: Iterable[Session], folder: Path, progress: OnProgress) -> dict[str, int]:
        """Write ubi_queries.jsonl.gz and ubi_events.jsonl.gz; return the numbers of sessions, clicks and purchases."""
        actions = Counter({"click": 0, "purchase": 0})
        with (
            json_lines(folder / "ubi_queries.jsonl.gz") as write_query,
            json_lines(folder / "ubi_events.jsonl.gz") as write_event,
        ):
            for session in sessions:
                write_query(session.query)
                for event in session.events:
                    write_event(event)
                    actions[event["action_name"]] += 1
                progress("logs", self.number, self.sessions)
        return {"sessions": self.number, "clicks": actions["click"], "purchases": actions["purchase"]}
