"""The alias that searches go to: which index it points to, and pointing it to another."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any

from opensearchpy import OpenSearch

from genrecall.errors import UserError
from index_mappings import fence


def aliased(client: OpenSearch, alias: str) -> list[str]:
    """The indices that the alias points to; empty where it does not exist yet."""
    if not client.indices.exists_alias(name=alias):
        return []
    return sorted(client.indices.get_alias(name=alias))


def aliases_of(client: OpenSearch, index: str) -> list[str]:
    """The aliases of an index, but for those of jobs."""
    names = client.indices.get_alias(index=index)[index]["aliases"]
    return sorted(name for name in names if not name.startswith(fence.PREFIX))


def check_alias_name(client: OpenSearch, alias: str) -> None:
    """UserError where the alias's name is that of an index or a data stream, with the way out."""
    if client.indices.exists_alias(name=alias) or not client.indices.exists(index=alias):
        return
    (index,) = names = list(client.indices.get(index=alias)) or [""]
    if names != [alias]:
        raise UserError(
            f"opensearch.index: {alias!r} is a data stream, whose documents cannot be changed, so they get no SIDs: "
            "choose another opensearch.index"
        )
    documents = client.count(index=index)["count"]
    raise UserError(
        f"opensearch.index: {alias!r} is an index of {documents:,} documents, but is to be an alias of the indices "
        f"{alias}-<codebook>. OpenSearch makes such an index when something is written to {alias!r} while there is no "
        "alias. Stop the writers; if it holds documents that you need, move them (`POST _reindex` into the index that "
        f"is to serve); then `DELETE /{alias}` and run this again. To prevent it, set action.auto_create_index to "
        f"-{alias},+* in the cluster's settings. If it is an index of your own, choose another opensearch.index"
    )


def may_be_auto_created(client: OpenSearch, name: str) -> bool:
    """Whether a write to `name` would create an index (`action.auto_create_index`)."""
    settings = client.cluster.get_settings(params={"flat_settings": "true", "include_defaults": "true"})
    merged = {**settings["defaults"], **settings["persistent"], **settings["transient"]}
    rule = str(merged.get("action.auto_create_index", "true")).lower()
    if rule in ("true", "false"):
        return rule == "true"
    patterns = [part.strip() for part in rule.split(",")]
    matching = [pattern for pattern in patterns if fnmatchcase(name, pattern.lstrip("+-"))]
    return bool(matching) and not matching[0].startswith("-")


def serving(client: OpenSearch, alias: str) -> str:
    """The index behind the alias; UserError where there is none or several."""
    check_alias_name(client, alias)
    found = aliased(client, alias)
    if len(found) != 1:
        raise UserError(
            f"alias {alias!r} points to {', '.join(found) or 'nothing'}, but has to point to one index: fill a first "
            "one by `genrecall index load`"
        )
    return found[0]


def point_alias(client: OpenSearch, alias: str, index: str) -> list[str]:
    """Point the alias to `index` alone, atomically; returns the indices it pointed to before.

    A filter or a routing of the alias stays with it. What a job wrote through (`fence`) is closed in the same moment.
    """
    before = aliased(client, alias)
    own = client.indices.get_alias(name=alias)[before[0]]["aliases"][alias] if before else {}
    actions: list[dict[str, Any]] = [{"remove": {"index": old, "alias": alias}} for old in before if old != index]
    actions += [{"add": {**own, "index": index, "alias": alias}}, *fence.closing(client, index)]
    client.indices.update_aliases(body={"actions": actions})
    return before
