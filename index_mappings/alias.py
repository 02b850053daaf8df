"""The alias that searches go to: which index it points to, and pointing it to another."""

from __future__ import annotations

from typing import Any

from opensearchpy import OpenSearch

from genrecall.errors import UserError


def aliased(client: OpenSearch, alias: str) -> list[str]:
    """The indices that the alias points to; empty where it does not exist yet."""
    if not client.indices.exists_alias(name=alias):
        return []
    return sorted(client.indices.get_alias(name=alias))


def serving(client: OpenSearch, alias: str) -> str:
    """The index behind the alias; UserError where there is none or several."""
    found = aliased(client, alias)
    if len(found) != 1:
        raise UserError(
            f"alias {alias!r} points to {', '.join(found) or 'nothing'}, but has to point to one index: fill a first "
            "one by `genrecall index load`"
        )
    return found[0]


def point_alias(client: OpenSearch, alias: str, index: str) -> list[str]:
    """Point the alias to `index` alone, atomically; returns the indices it pointed to before.

    A filter or a routing of the alias stays with it.
    """
    before = aliased(client, alias)
    own = client.indices.get_alias(name=alias)[before[0]]["aliases"][alias] if before else {}
    actions: list[dict[str, Any]] = [{"remove": {"index": old, "alias": alias}} for old in before if old != index]
    actions.append({"add": {**own, "index": index, "alias": alias}})
    client.indices.update_aliases(body={"actions": actions})
    return before
