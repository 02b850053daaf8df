"""What a migration does to the two indices: clone one, keep mappings alike, stop writes, announce the next codebook."""

from __future__ import annotations

import time
from collections.abc import Callable

from opensearchpy import OpenSearch
from opensearchpy.exceptions import RequestError

from genrecall.config.opensearch import OpenSearchSection
from genrecall.errors import UserError
from genrecall.opensearch import reason_of
from index_mappings.index_settings import LOADING, put_settings, settings_of
from index_mappings.meta import IndexMeta, read_mapping, read_meta
from index_mappings.status import status

HEALTH = ("red", "yellow", "green")
UNIQUE = ("uuid", "creation_date", "provided_name", "version", "blocks", "resize")  # settings that are not copied


def clone_index(client: OpenSearch, source: str, target: str, meta: IndexMeta) -> None:
    """Create `target` empty, with the mapping and settings of `source` (users' additions included), naming `meta`.

    Replicas and refreshes are off until it is filled.
    """
    mapping = read_mapping(client, source)
    mapping["_meta"] = {**mapping.get("_meta", {}), "genrecall": vars(meta)}
    settings = {name: value for name, value in settings_of(client, source).items() if name not in UNIQUE}
    settings.get("routing", {}).get("allocation", {}).pop("initial_recovery", None)  # of an index that was resized
    try:
        client.indices.create(index=target, body={"mappings": mapping, "settings": {"index": {**settings, **LOADING}}})
    except RequestError as error:  # the response to our own request may have been lost, and the request repeated
        if error.error != "resource_already_exists_exception" or read_meta(client, target) != meta:
            raise


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


def delete_old(client: OpenSearch, section: OpenSearchSection, previous: str) -> list[str]:
    """Delete the indices of this alias except the one that serves, `previous`, and the newest others to be kept."""
    others = [one.index for one in status(client, section) if not one.aliased and one.index != previous]
    created = {index: int(settings_of(client, index)["creation_date"]) for index in others}
    beyond = sorted(others, key=lambda index: -created[index])[section.refresh.keep - 1 :]
    if beyond:
        delete_index(client, ",".join(beyond))
    return beyond
