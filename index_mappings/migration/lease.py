"""One job an alias: the lease that keeps a second one out, and how far the job has come.

Owns the index `.genrecall-jobs`, one document an alias. The cluster keeps it, not a machine's disk, so a job that was
killed is taken up from any machine. Every note is a compare-and-swap on the document (`if_seq_no`): a job that lost its
lease, having been frozen too long, fails at its next note and writes nothing more.

No clocks are compared. A holder beats every third of its lease; who finds another's lease watches it for as long as
that lease is, and takes it only if it did not beat. On the same machine a holder that no longer runs is known at once.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from opensearchpy import OpenSearch
from opensearchpy.exceptions import ConflictError, NotFoundError, RequestError, TransportError

from genrecall.errors import UserError

INDEX = ".genrecall-jobs"
_BODY = {
    "settings": {"index": {"hidden": True, "number_of_shards": 1, "auto_expand_replicas": "0-1"}},
    "mappings": {"dynamic": False},
}


class Job:
    """The job of `alias` as long as this process holds it; a context manager that gives the lease back.

    Attributes:
        state: what the last note said, of this process or of one that was killed; empty for an alias without a job.
    """

    def __init__(self, client: OpenSearch, alias: str, lease_s: float, document: Mapping[str, Any]) -> None:
        """Use `take`."""
        self.state: dict[str, Any] = dict(document.get("_source", {}).get("state", {}))
        self._client, self._alias, self._lease_s = client, alias, lease_s
        self._holder = {**_here(), "token": uuid.uuid4().hex, "lease_s": lease_s}
        self._at = (document.get("_seq_no"), document.get("_primary_term"))
        self._beats = 0
        self._lost: ConflictError | None = None
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._write(self._holder, self.state)
        self._beating = threading.Thread(target=self._beat, daemon=True)
        self._beating.start()

    @classmethod
    def take(
        cls,
        client: OpenSearch,
        alias: str,
        lease_s: float,
        tell: Callable[[str], None] = lambda line: None,
        wait: Callable[[float], None] = time.sleep,
    ) -> Job:
        """Raises UserError while another job of this alias runs."""
        _make_index(client)
        document = _read(client, alias)
        holder = document.get("_source", {}).get("holder")
        if holder and not _gone(holder):
            who = f"process {holder['pid']} on {holder['host']}"
            tell(f"a job of {alias!r} was begun by {who}: watching for {holder['lease_s']:g} s whether it still runs")
            wait(holder["lease_s"])
            seen, document = document, _read(client, alias)
            if document.get("_source", {}).get("holder") and _version(document) != _version(seen):
                raise UserError(
                    f"a job of {alias!r} is running already ({who}): wait for its end, or stop it and run this again"
                )
        try:
            return cls(client, alias, lease_s, document)
        except ConflictError:
            raise UserError(f"a job of {alias!r} was begun at the same moment elsewhere: wait for its end") from None

    @staticmethod
    def peek(client: OpenSearch, alias: str) -> dict[str, Any]:
        """The state of the last job of `alias`, running or not; empty where there was none."""
        state: dict[str, Any] = _read(client, alias).get("_source", {}).get("state", {})
        return state

    def __enter__(self) -> Job:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._beating.join()
        if self._lost:
            return
        try:
            self._write(None, self.state)
        except TransportError:
            if error is None:  # else the first failure is the one to tell; this costs the next job a look at our lease
                raise

    def note(self, **changes: Any) -> None:
        """Merge `changes` into the state and store it. UserError where another job holds the lease by now."""
        self._store({**self.state, **changes})

    def forget(self) -> None:
        """Store an empty state."""
        self._store({})

    def _store(self, state: dict[str, Any]) -> None:
        with self._lock:
            try:
                if self._lost:
                    raise self._lost
                self._write(self._holder, state)
            except ConflictError:
                raise UserError(
                    f"another process took over the job of {self._alias!r}, since this one did not report for "
                    f"{self._lease_s:g} s: nothing is lost, it goes on there"
                ) from None
            self.state = state

    def _beat(self) -> None:
        while not self._ended.wait(self._lease_s / 3):
            with self._lock:
                if self._ended.is_set():
                    return
                self._beats += 1
                try:
                    self._write(self._holder, self.state)
                except ConflictError:
                    return
                except TransportError:
                    pass  # the cluster is away for now; the next note tells, if it still is

    def _write(self, holder: Mapping[str, Any] | None, state: Mapping[str, Any]) -> None:
        body = {"alias": self._alias, "holder": holder, "beats": self._beats, "state": state}
        while True:
            seq_no, term = self._at
            guard = {"op_type": "create"} if seq_no is None else {"if_seq_no": seq_no, "if_primary_term": term}
            try:
                done = self._client.index(index=INDEX, id=self._alias, body=body, params=guard)
            except ConflictError as error:
                found = _read(self._client, self._alias)
                if found.get("_source") == json.loads(json.dumps(body)):  # ours, and its answer was lost on the way
                    self._at = _version(found)
                    return
                if (found.get("_source", {}).get("holder") or {}).get("token") != self._holder["token"]:
                    self._lost = error
                    raise
                self._at = _version(found)  # an earlier one of ours
            else:
                self._at = (done["_seq_no"], done["_primary_term"])
                return


def unfinished(state: Mapping[str, Any]) -> bool:
    """Whether the job that noted `state` has steps left."""
    return state.get("step") not in (None, "done")


def _read(client: OpenSearch, alias: str) -> dict[str, Any]:
    """The document of `alias`, empty where there is none."""
    try:
        found: dict[str, Any] = client.get(index=INDEX, id=alias)
    except NotFoundError:
        return {}
    return found


def _make_index(client: OpenSearch) -> None:
    if client.indices.exists(index=INDEX):
        return
    try:
        client.indices.create(index=INDEX, body=_BODY)
    except RequestError as error:  # by another job, at the same moment
        if error.error != "resource_already_exists_exception":
            raise


def _version(document: Mapping[str, Any]) -> tuple[Any, Any]:
    return document.get("_seq_no"), document.get("_primary_term")


def _here() -> dict[str, Any]:
    """This process, and the pid space in which its number means something."""
    return {"host": socket.gethostname(), "pid": os.getpid(), "space": _pid_space()}


def _pid_space() -> str | None:
    """Of this boot and container; None where the system does not tell."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return None


def _gone(holder: Mapping[str, Any]) -> bool:
    """Whether it is known that this holder ended: it ran here, and no process has its number now."""
    if holder["space"] is None or holder["space"] != _pid_space():
        return False
    try:
        os.kill(int(holder["pid"]), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return False
