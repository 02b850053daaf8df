"""Reading and changing the settings of an index."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opensearchpy import OpenSearch

LOADING = {"refresh_interval": "-1", "number_of_replicas": 0}  # while an index is filled


def settings_of(client: OpenSearch, index: str) -> dict[str, Any]:
    settings: dict[str, Any] = client.indices.get_settings(index=index)[index]["settings"]["index"]
    return settings


def put_settings(client: OpenSearch, index: str, settings: Mapping[str, object]) -> None:
    client.indices.put_settings(index=index, body={"index": dict(settings)})


def uuid_of(client: OpenSearch, index: str) -> str:
    """Tells an index from another one of the same name."""
    return str(settings_of(client, index)["uuid"])
