"""One job per alias at a time: the lease that a create, load, refresh, rollback or sync holds, and how far each came.

Owns the index `.genrecall-jobs`, one document per alias. The cluster keeps it, not a machine's disk, so that a job that
was killed is resumed from any machine. Every note is a compare-and-swap on the document (`if_seq_no`): a job that lost
its lease, for instance because its process was suspended too long, fails at its next note and writes nothing more.

No clocks are compared. A holder renews its lease three times within `lease_s`; who finds another's lease watches it for
as long as that lease lasts, and takes it only if it was not renewed. On the same machine a holder whose process no
longer exists is known at once.
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
MAX_HISTORY = 100
_BODY = {
    "settings": {"index": {"hidden": True, "number_of_shards": 1, "auto_expand_replicas": "0-1"}},
    "mappings": {"dynamic": False},
}


class JobLease:
    """The lease of `alias` as long as this process holds it; a context manager that gives it back.

    Attributes:
        state: what the last migration (refresh or rollback) noted, in this process or an earlier one; may be empty.
        load: the same of the last load.
    """

    def __init__(self, client: OpenSearch, alias: str, lease_s: float, document: Mapping[str, Any]) -> None:
        """Use `take`."""
        source = document.get("_source", {})
        self.state: dict[str, Any] = dict(source.get("state", {}))
        self.load: dict[str, Any] = dict(source.get("load", {}))
        self._client, self._alias, self._lease_s = client, alias, lease_s
        self._holder = {**_this_process(), "token": uuid.uuid4().hex, "lease_s": lease_s}
        self._version = _version(document)
        self._renewals = 0
        self._lost: ConflictError | None = None
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._write(self._holder, self.state, self.load)
        self._renewing = threading.Thread(target=self._renew, daemon=True)
        self._renewing.start()

    @classmethod
    def take(
        cls,
        client: OpenSearch,
        alias: str,
        lease_s: float,
        message: Callable[[str], None] = lambda line: None,
        wait: Callable[[float], None] = time.sleep,
    ) -> JobLease:
        """Raises UserError while another job of this alias runs."""
        _make_index(client)
        document = _read(client, alias)
        holder = document.get("_source", {}).get("holder")
        if holder and not _has_ended(holder):
            who = f"process {holder['pid']} on {holder['host']}"
            message(
                f"a job of {alias!r} was begun by {who}: waiting {holder['lease_s']:g} s to see whether it still runs"
            )
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
    def peek(client: OpenSearch, alias: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """`state` and `load` of the last jobs of `alias`, running or not, without taking the lease."""
        source = _read(client, alias).get("_source", {})
        return source.get("state", {}), source.get("load", {})

    @property
    def token(self) -> str:
        """Of this lease alone."""
        return str(self._holder["token"])

    def __enter__(self) -> JobLease:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._renewing.join()
        if self._lost:
            return
        try:
            self._write(None, self.state, self.load)
        except TransportError:
            if error is None:  # else the first failure is the one to report; the next job then watches our lease
                raise

    def note(self, **changes: Any) -> None:
        """Merge `changes` into `state` and store it. UserError where another job holds the lease by now."""
        self._store({**self.state, **changes}, self.load)

    def note_load(self, load: Mapping[str, Any]) -> None:
        """Store `load`. Raises as `note`."""
        self._store(self.state, dict(load))

    def forget(self) -> None:
        """Store the `state` from before the migration (`before_it`)."""
        self._store(dict(self.state.get("before", {})), self.load)

    def _store(self, state: dict[str, Any], load: dict[str, Any]) -> None:
        with self._lock:
            try:
                if self._lost:
                    raise self._lost
                self._write(self._holder, state, load)
            except ConflictError:
                raise UserError(
                    f"another process took over the job of {self._alias!r}, since this one did not report for "
                    f"{self._lease_s:g} s: nothing is lost, it goes on there"
                ) from None
            self.state, self.load = state, load

    def _renew(self) -> None:
        while not self._ended.wait(self._lease_s / 3):
            with self._lock:
                if self._ended.is_set():
                    return
                self._renewals += 1
                try:
                    self._write(self._holder, self.state, self.load)
                except ConflictError:
                    return
                except TransportError:
                    pass  # the cluster does not answer for now; the next note fails, if it still does not

    def _write(self, holder: Mapping[str, Any] | None, state: Mapping[str, Any], load: Mapping[str, Any]) -> None:
        body = {"alias": self._alias, "holder": holder, "renewals": self._renewals, "state": state, "load": load}
        while True:
            seq_no, term = self._version
            guard = {"op_type": "create"} if seq_no is None else {"if_seq_no": seq_no, "if_primary_term": term}
            try:
                done = self._client.index(index=INDEX, id=self._alias, body=body, params=guard)
            except ConflictError as error:
                found = _read(self._client, self._alias)
                if found.get("_source") == json.loads(json.dumps(body)):  # ours, and its response was lost on the way
                    self._version = _version(found)
                    return
                if (found.get("_source", {}).get("holder") or {}).get("token") != self._holder["token"]:
                    self._lost = error
                    raise
                self._version = _version(found)  # an earlier one of ours
            else:
                self._version = _version(done)
                return


def unfinished(state: Mapping[str, Any]) -> bool:
    """Whether the migration that noted `state` has steps left."""
    return state.get("step") not in (None, "done")


def before_it(state: Mapping[str, Any]) -> dict[str, Any]:
    """What the next migration notes as `before`: the last one, and the indices that served earlier."""
    return {name: value for name, value in state.items() if name != "before"}


def with_predecessor(state: Mapping[str, Any], index: str, uuid: str) -> list[dict[str, str]]:
    """`history` of the state, with an index that no longer serves as its last: {index, uuid} each."""
    earlier = [one for one in state.get("history", []) if one["uuid"] != uuid]
    return [*earlier, {"index": index, "uuid": uuid}][-MAX_HISTORY:]


def refuse_unfinished(state: Mapping[str, Any], *indices: str) -> None:
    """UserError where an unfinished migration works with one of `indices`; without any, where there is one."""
    if unfinished(state) and (not indices or {*indices} & {state["source"], state["target"]}):
        raise UserError(
            f"the {state['kind']} to {state['target']!r} is unfinished (step {state['step']}): finish it by the "
            "command that began it, or give it up by `genrecall index refresh --abandon`"
        )


def _read(client: OpenSearch, alias: str) -> dict[str, Any]:
    """The document of `alias`, empty without one."""
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


def _this_process() -> dict[str, Any]:
    """Host, pid, and the pid namespace in which that number is valid."""
    return {"host": socket.gethostname(), "pid": os.getpid(), "space": _pid_namespace()}


def _pid_namespace() -> str | None:
    """Of this boot and container; None where the system does not say."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return None


def _has_ended(holder: Mapping[str, Any]) -> bool:
    """Whether this holder is known to have ended: it ran here, and no process has its number now."""
    if holder["space"] is None or holder["space"] != _pid_namespace():
        return False
    try:
        os.kill(int(holder["pid"]), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return False
