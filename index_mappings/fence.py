"""A name of an index that only the present holder of a lease knows: what others send to it is refused.

A job that was suspended in the middle of a request may wake up when its successor has finished and the shop has written
newer documents; its batch would overwrite them. So a job writes to a hidden alias named after its lease, with
`require_alias`, and who takes over, or ends, removes that alias: the cluster then refuses the late batch. Neither does
such a batch create an index that was deleted.
"""

from __future__ import annotations

from typing import Any

from opensearchpy import OpenSearch

PREFIX = ".genrecall-writes-"
PARAMS = {"require_alias": "true"}


def open_for(client: OpenSearch, index: str, token: str) -> str:
    """Make `index` known under a name of `token`, and no longer under those of other tokens; returns the name."""
    name = PREFIX + token
    added = {"add": {"index": index, "alias": name, "is_hidden": True}}
    client.indices.update_aliases(body={"actions": [*closing(client, index, but=name), added]})
    return name


def close(client: OpenSearch, index: str) -> None:
    """Remove all such names."""
    if actions := closing(client, index):
        client.indices.update_aliases(body={"actions": actions})


def closing(client: OpenSearch, index: str, but: str | None = None) -> list[dict[str, Any]]:
    """The actions of `_aliases` that remove all such names of `index` except one."""
    names = client.indices.get_alias(index=index)[index]["aliases"]
    return [{"remove": {"index": index, "alias": name}} for name in names if name.startswith(PREFIX) and name != but]
