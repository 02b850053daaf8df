"""What an index must be before a job touches it. Each raises UserError with what was found and the remedy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from opensearchpy import OpenSearch

from genrecall.errors import UserError
from index_mappings.alias import aliases_of
from index_mappings.index_settings import settings_of
from index_mappings.meta import read_mapping

SHOWN = 5  # differences in a message
BLOCKS = ("read_only", "read_only_allow_delete", "metadata", "write")


def check_readable(client: OpenSearch, index: str) -> None:
    """That a reader gets whole documents: what `_source` hides would be lost to every copy and every partial update.

    k-NN's own derived source gives vectors back as they were, and passes.
    """
    mapping = read_mapping(client, index)
    source = mapping.get("_source", {})
    hiding = [f"_source.{name} = {source[name]!r}" for name in ("excludes", "includes") if source.get(name)]
    if str(source.get("enabled", True)).lower() == "false":
        hiding.append("_source.enabled = false")
    derived = settings_of(client, index).get("derived_source", {})
    if str(derived.get("enabled", False)).lower() == "true":
        hiding.append("index.derived_source.enabled = true (lists come back sorted and without repetitions)")
    if hiding:
        raise UserError(
            f"index {index!r} does not give its documents back as they were written: {', '.join(hiding)}. Copying or "
            "updating them would lose fields. Build an index without that from the catalogue (`genrecall index load` "
            "under another codebook name, --switch), or keep this one out of refresh and sync"
        )
    if (
        mapping.get("_routing", {}).get("required")
        or client.count(index=index, body={"query": {"exists": {"field": "_routing"}}})["count"]
    ):
        raise UserError(
            f"index {index!r} has documents with a routing of their own: they would land in other shards, which is "
            "not supported"
        )


def check_source(client: OpenSearch, index: str) -> None:
    """That an index can be copied, and its writers stopped and let go again."""
    check_sid_field(client, index)
    check_readable(client, index)
    check_no_final_pipeline(client, index)
    if set_blocks := blocks(client, index):
        raise UserError(
            f"index {index!r} has {', '.join(f'index.blocks.{name}' for name in set_blocks)} set, which a refresh sets "
            "and removes itself. Remove it (`PUT "
            f'{index}/_settings {{"index.blocks.{set_blocks[0]}": null}}`), or leave the index as it is'
        )


def check_rollback_target(client: OpenSearch, index: str) -> None:
    """That an index which served once can be written to again. Its write block is that of the move away from it."""
    states = {row["index"]: row["status"] for row in client.cat.indices(index=index, format="json", h="index,status")}
    if states.get(index) == "close":
        raise UserError(f"index {index!r} is closed: open it by `POST {index}/_open`, and run this again")
    check_sid_field(client, index)
    check_readable(client, index)
    check_no_final_pipeline(client, index)
    if others := [name for name in blocks(client, index) if name != "write"]:
        raise UserError(
            f"index {index!r} has index.blocks.{others[0]} set and takes no documents: remove it (`PUT "
            f'{index}/_settings {{"index.blocks.{others[0]}": null}}`), and run this again'
        )


def check_sid_field(client: OpenSearch, index: str) -> None:
    found = read_mapping(client, index).get("properties", {}).get("sid", {}).get("type")
    if found != "keyword":
        raise UserError(
            f"index {index!r} has no field 'sid' of type keyword ({f'it is {found}' if found else 'there is none'}): "
            "genrecall keeps SIDs there. Add it to the mapping (`PUT "
            f'{index}/_mapping {{"properties": {{"sid": {{"type": "keyword"}}}}}}`), or choose another opensearch.index'
        )


def check_no_final_pipeline(client: OpenSearch, index: str) -> None:
    """A default pipeline is left out by what jobs send; a final one cannot be."""
    pipeline = settings_of(client, index).get("final_pipeline")
    if pipeline not in (None, "_none"):
        raise UserError(
            f"index {index!r} has index.final_pipeline = {pipeline!r}, which would run on every copy and may change "
            "it: make it index.default_pipeline, or set it to '_none' until this is done"
        )


def check_maps(client: OpenSearch, index: str, names: Sequence[str]) -> None:
    """That further fields of the catalogue can be written: a strict mapping refuses each document that has others."""
    mapping = read_mapping(client, index)
    if not names or str(mapping.get("dynamic", True)).lower() != "strict":
        return
    if unmapped := [name for name in names if not _maps(mapping, name)]:
        raise UserError(
            f"index {index!r} has a strict mapping without {', '.join(unmapped)}, which data.items.fields.extra "
            "brings: map them in a component template and name it in opensearch.components, or set opensearch.dynamic "
            "(false stores what is not mapped, true maps it). To an index that is there, add them by "
            f"`PUT {index}/_mapping`"
        )


def _maps(mapping: Mapping[str, Any], name: str) -> bool:
    """Whether a field, or an object that takes any, is mapped."""
    for part in name.split("."):
        mapping = mapping.get("properties", {}).get(part)
        if mapping is None:
            return False
        if mapping.get("type") in ("flat_object", "object", "nested") and mapping.get("dynamic", "strict") != "strict":
            return True
    return True


def blocks(client: OpenSearch, index: str) -> list[str]:
    """Names of the blocks that are set."""
    found = settings_of(client, index).get("blocks", {})
    return [name for name in BLOCKS if str(found.get(name, False)).lower() == "true"]


def check_created(client: OpenSearch, index: str, wanted: Mapping[str, Any]) -> None:
    """That a new index is what was asked for, whatever templates had their say.

    wanted: `mappings` and `settings` as in a request to create it; it must have no alias yet.
    """
    found = client.indices.get(index=index)[index]
    _compare(client, index, {**found, "aliases": {name: {} for name in aliases_of(client, index)}}, wanted)


def check_template(client: OpenSearch, index: str, wanted: Mapping[str, Any]) -> None:
    """The same of an index that does not exist yet, as its templates would make it."""
    found = client.indices.simulate_index_template(name=index).get("template", {})
    _compare(client, index, found, wanted)


def check_no_alias(client: OpenSearch, index: str, template: Mapping[str, Any]) -> None:
    """That no template would put an index that is being filled behind an alias."""
    _compare(client, index, {"aliases": template.get("aliases", {})}, {})


def _compare(client: OpenSearch, index: str, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    wrong = [f"alias {name!r} is added" for name in found.get("aliases", {})]
    hidden = found.get("mappings", {}).get("_source", {})
    wrong += [f"_source.{name} is {value!r}" for name, value in hidden.items() if value not in (True, [], "true")]
    wrong += _differences(wanted.get("mappings", {}), found.get("mappings", {}))
    pipeline = found.get("settings", {}).get("index", {}).get("final_pipeline")
    if pipeline not in (None, "_none"):
        wrong.append(f"index.final_pipeline is {pipeline!r}")
    wrong += _differences(wanted.get("settings", {}), found.get("settings", {}))
    if not wrong:
        return
    template = winning_template(client, index)
    by = f"index template {template[0]!r} (priority {template[1]})" if template else "the cluster"
    shown = "; ".join([*wrong[:SHOWN], *([f"and {len(wrong) - SHOWN} more"] if len(wrong) > SHOWN else [])])
    raise UserError(
        f"{by} would make {index!r} another index than was asked for: {shown}. Narrow its "
        "index_patterns, lower its priority below opensearch.template_priority, or remove these parts of it"
    )


def winning_template(client: OpenSearch, index: str) -> tuple[str, int] | None:
    """Name and priority of the index template that decides what `index` gets."""
    templates = client.indices.get_index_template()["index_templates"]
    matching = [
        (one["index_template"].get("priority", 0), one["name"])
        for one in templates
        if any(fnmatchcase(index, pattern) for pattern in one["index_template"]["index_patterns"])
    ]
    if not matching:
        return None
    priority, name = max(matching)
    return name, priority


def _differences(wanted: Any, found: Any, path: str = "") -> Iterator[str]:
    """Where `found` lacks or changes something of `wanted`; OpenSearch gives numbers and flags of settings as text."""
    if isinstance(wanted, Mapping):
        for name, value in wanted.items():
            other = found.get(name) if isinstance(found, Mapping) else None
            yield from _differences(value, other, f"{path}.{name}" if path else name)
    elif str(wanted).lower() != str(found).lower():
        yield f"{path.removeprefix('properties.')} is {found!r}, not {wanted!r}"
