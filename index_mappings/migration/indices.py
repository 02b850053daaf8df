"""What a migration does to the two indices: clone one, keep mappings alike, stop writes, announce the next codebook."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from typing import Any

from opensearchpy import OpenSearch
from opensearchpy.exceptions import RequestError

from genrecall.errors import UserError
from genrecall.opensearch import reason_of
from index_mappings import checks
from index_mappings.alias import aliases_of
from index_mappings.index_settings import LOADING, put_settings, settings_of, uuid_of
from index_mappings.meta import IndexMeta, read_mapping, read_meta

HEALTH = ("red", "yellow", "green")
PRIVATE = re.compile(r"private index setting \[([\w.]+)\]")
UNIQUE = ("uuid", "creation_date", "provided_name", "version", "blocks", "resize")  # settings that are not copied


def clone_index(client: OpenSearch, source: str, target: str, meta: IndexMeta) -> None:
    """Create `target` empty, with the mapping and settings of `source` (users' additions included), naming `meta`.

    Replicas and refreshes are off until it is filled. Settings that a user may not set, such as those of a restored
    index, are left out. UserError where templates make something else of it.
    """
    mapping = read_mapping(client, source)
    mapping["_meta"] = {**mapping.get("_meta", {}), "genrecall": meta.body}
    settings = {name: value for name, value in settings_of(client, source).items() if name not in UNIQUE}
    settings.get("routing", {}).get("allocation", {}).pop("initial_recovery", None)  # of an index that was resized
    body = {"mappings": mapping, "settings": {"index": {**settings, **LOADING}}}
    template = client.indices.simulate_index_template(name=target).get("template", {})
    checks.check_no_alias(client, target, template)
    while True:
        try:
            client.indices.create(index=target, body=body)
        except RequestError as error:
            private = set(PRIVATE.findall(str(error.info)))
            if private and all(_remove(body["settings"]["index"], name.split(".")[1:]) for name in private):
                continue
            # the response to our own request may have been lost, and the request repeated
            if error.error != "resource_already_exists_exception" or read_meta(client, target) != meta:
                raise
        break
    wanted = {"mappings": mapping, "settings": {"index": {"number_of_shards": settings["number_of_shards"]}}}
    try:
        checks.check_created(client, target, wanted)
    except UserError:
        delete_index(client, target)
        raise


def _remove(settings: dict[str, Any], path: list[str]) -> bool:
    """Remove a setting; whether it was there."""
    for at in range(1, len(path) + 1):  # names of settings may have dots
        name, rest = ".".join(path[:at]), path[at:]
        if name in settings:
            if not rest:
                del settings[name]
                return True
            return isinstance(settings[name], dict) and _remove(settings[name], rest)
    return False


def check_uuids(client: OpenSearch, state: Mapping[str, Any]) -> None:
    """UserError where an index of the migration was deleted or recreated meanwhile."""
    for index, uuid in state["uuids"].items():
        if not client.indices.exists(index=index) or uuid_of(client, index) != uuid:
            raise UserError(
                f"index {index!r} was deleted or recreated since the {state['kind']} began: give it up by "
                "`genrecall index refresh --abandon` and begin again"
            )


def delete_index(client: OpenSearch, index: str) -> None:
    """Delete an index, if it exists."""
    client.indices.delete(index=index, params={"ignore_unavailable": "true"})


def copy_new_fields(client: OpenSearch, source: str, target: str) -> None:
    """Add to `target` the fields that `source` gained since. UserError where it has one of another type."""
    properties = read_mapping(client, source).get("properties", {})
    if properties == read_mapping(client, target).get("properties", {}):
        return
    try:
        client.indices.put_mapping(index=target, body={"properties": properties})
    except RequestError as error:
        raise UserError(
            f"the mapping of {source!r} does not fit {target!r}: {reason_of(error.info)}. The alias was not moved; "
            "delete the new index with `genrecall index refresh --abandon` and begin again"
        ) from None


def await_health(
    client: OpenSearch, source: str, target: str, timeout_s: float, message: Callable[[str], None]
) -> None:
    """Wait until `target` has the health of `source`, so its replicas. UserError after `timeout_s`."""
    wanted = client.cluster.health(index=source)["status"]
    deadline, announced = time.monotonic() + timeout_s, False
    while HEALTH.index(client.cluster.health(index=target)["status"]) < HEALTH.index(wanted):
        if time.monotonic() > deadline:
            raise UserError(
                f"{target!r} is not {wanted} after {timeout_s:g} s (opensearch.refresh.replica_timeout_s): `GET "
                "_cluster/allocation/explain` says what its replicas wait for. The alias was not moved; run the same "
                "command again"
            )
        if not announced:
            message(f"waiting for the replicas of {target}")
            announced = True
        time.sleep(0.5)


def block_writes(client: OpenSearch, index: str, blocked: bool) -> None:
    """Block writes, waiting for those in flight, or allow them again."""
    if blocked:
        client.indices.add_block(index=index, block="write")
    else:
        put_settings(client, index, {"blocks.write": None})


def announce(client: OpenSearch, index: str, codebook: str | None) -> None:
    """Have clauses on `index` ask in `codebook` too, or no longer (None).

    A search that was planned for this index and arrives after the alias moved then brings SIDs of the next one too.
    """
    meta = read_mapping(client, index)["_meta"]
    ours = {name: value for name, value in meta["genrecall"].items() if name != "next"}
    wanted = ours if codebook is None else {**ours, "next": codebook}
    if wanted != meta["genrecall"]:
        client.indices.put_mapping(index=index, body={"_meta": {**meta, "genrecall": wanted}})


def removable(client: OpenSearch, state: Mapping[str, Any], serving: str, previous: str, keep: int) -> list[str]:
    """Indices that served before, beyond the newest `keep` of them (`previous` is one) and behind no alias now.

    Only those that the history of the lease names, by uuid: a loaded candidate or an index of others is never among
    them.
    """
    old = [one for one in state.get("history", []) if one["index"] not in (serving, previous)]
    there = [
        one["index"]
        for one in old
        if client.indices.exists(index=one["index"])
        and uuid_of(client, one["index"]) == one["uuid"]
        and not aliases_of(client, one["index"])
    ]
    return there[: max(0, len(there) - (keep - 1))]
