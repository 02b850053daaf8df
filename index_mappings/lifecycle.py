"""The index of one codebook, from its creation to its place under the alias.

Owns names (`<alias>-<codebook>`), templates, search pipelines, `_meta.genrecall`, alias and status. Documents are sent
by `bulk`. An index says which codebook its SIDs are of; the clause and the loader go by that.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from opensearchpy import OpenSearch
from opensearchpy.exceptions import RequestError

from genrecall.config.opensearch import FusionSection, OpenSearchSection
from genrecall.errors import UserError
from index_mappings.client import reason_of
from index_mappings.migration.lease import Job, unfinished
from index_mappings.render import render

PLUGINS = ("opensearch-knn", "opensearch-neural-search")
HEALTH = ("red", "yellow", "green")
PRIORITY = 100  # of the index template; longer names get more, so `shop-eu-*` goes before `shop-*`


@dataclass(frozen=True)
class Meta:
    """What an index holds, as its mapping says: the codebook, sha256 of its assignments, and the vectors' encoder."""

    codebook: str
    assignments: str
    encoder: str


@dataclass(frozen=True)
class IndexStatus:
    """An index of an alias. `job`: what builds it and how far it is, empty where nothing does."""

    index: str
    codebook: str
    encoder: str
    dimension: int
    aliased: bool
    documents: int
    with_sid: int
    megabytes: float
    health: str
    writable: bool
    job: str


def index_name(section: OpenSearchSection, codebook: str) -> str:
    """`<alias>-<codebook>`; UserError where OpenSearch would refuse it."""
    name = f"{section.index}-{codebook}"
    if name != name.lower() or len(name.encode()) > 255:
        raise UserError(
            f"codebook {codebook!r} cannot name an index ({name!r}): index names are lower case and at most 255 bytes; "
            "publish the bundle under another codebook name"
        )
    return name


def create(
    client: OpenSearch, section: OpenSearchSection, meta: Meta, dimension: int, replace: bool = False
) -> tuple[str, bool]:
    """Make sure that template, search pipelines and the index of `meta.codebook` are there.

    Returns the index's name and whether it is new. An index that is there already must hold the same (see `check`), or
    `replace` deletes it first. Raises UserError for that, for a cluster without the plugins, and for an alias name that
    is an index.
    """
    name = index_name(section, meta.codebook)
    check_plugins(client, section)
    if client.indices.exists(index=section.index) and not client.indices.exists_alias(name=section.index):
        raise UserError(
            f"opensearch.index: {section.index!r} is an index, but is to be the alias of {name!r}: choose another name"
        )
    exists = client.indices.exists(index=name)
    if exists and not replace:
        check(client, name, meta, dimension)
        return name, False
    if exists:
        client.indices.delete(index=name)
    put_template(client, section, dimension)
    put_pipelines(client, section.fusion)
    body = render("meta", codebook=meta.codebook, assignments=meta.assignments, encoder=meta.encoder)
    client.indices.create(index=name, body=body)
    return name, True


def put_template(client: OpenSearch, section: OpenSearchSection, dimension: int) -> None:
    """The index template of every `<alias>-*`."""
    template = render(
        "index",
        index=section.index,
        priority=PRIORITY + len(section.index),
        shards=section.shards,
        replicas=section.replicas,
        refresh_interval=section.refresh_interval,
        dimension=dimension,
        space=section.vector.space,
        m=section.vector.m,
        ef_construction=section.vector.ef_construction,
    )
    client.indices.put_index_template(name=section.index, body=template)


def put_pipelines(client: OpenSearch, fusion: FusionSection) -> None:
    """The search pipelines for hybrid queries: two and three clauses by normalized scores, any number by ranks."""
    for name, body in (
        (fusion.two, normalization(fusion.weights_two)),
        (fusion.three, normalization(fusion.weights_three)),
        (fusion.rrf, reciprocal_rank(fusion.rank_constant)),
    ):
        client.search_pipeline.put(id=name, body=body)


def normalization(weights: tuple[float, ...]) -> dict[str, Any]:
    """A pipeline, for storing or for use inside one request: min-max normalized scores, weighted mean."""
    return render("normalization", weights=list(weights))


def reciprocal_rank(rank_constant: int, weights: tuple[float, ...] | None = None) -> dict[str, Any]:
    """A pipeline, as `normalization`: reciprocal rank fusion, each clause with its weight if weights are given."""
    if weights is None:
        return render("rrf", rank_constant=rank_constant)
    return render("rrf_weighted", rank_constant=rank_constant, weights=list(weights))


def read_meta(client: OpenSearch, index: str) -> Meta:
    """UserError when the index was not made by genrecall."""
    mapping = client.indices.get_mapping(index=index)[index]["mappings"]
    found = mapping.get("_meta", {}).get("genrecall", {})
    if not isinstance(found, dict) or not found.get("codebook"):
        raise UserError(
            f"index {index!r} names no codebook (_meta.genrecall.codebook in its mapping): it was not made by "
            "`genrecall index create`; choose another opensearch.index, or replace it with `genrecall index create "
            "--replace`"
        )
    return Meta(str(found["codebook"]), str(found.get("assignments", "")), str(found.get("encoder", "")))


def dimension_of(client: OpenSearch, index: str) -> int:
    """Dimension of the vector field; 0 where there is none."""
    properties = client.indices.get_mapping(index=index)[index]["mappings"].get("properties", {})
    return int(properties.get("vector", {}).get("dimension", 0))


def check(client: OpenSearch, index: str, meta: Meta, dimension: int) -> None:
    """UserError when `index` holds something else than `meta` says, or vectors of another size."""
    found = read_meta(client, index)
    remedy = "replace it with `genrecall index create --replace`, or choose another opensearch.index"
    if found.codebook != meta.codebook:
        raise UserError(f"index {index!r} holds codebook {found.codebook!r}, not {meta.codebook!r}: {remedy}")
    if found.assignments != meta.assignments:
        raise UserError(
            f"index {index!r} was made for another bundle of the name {meta.codebook!r}, with other SIDs: {remedy}"
        )
    size = dimension_of(client, index)
    if size != dimension or found.encoder != meta.encoder:
        raise UserError(
            f"index {index!r} holds vectors of dimension {size} by encoder {found.encoder!r}, but encoder.checkpoint "
            f"{meta.encoder!r} makes {dimension}: {remedy}"
        )


def check_plugins(client: OpenSearch, section: OpenSearchSection) -> None:
    """UserError when a node of the cluster lacks k-NN or neural-search."""
    rows = client.cat.plugins(format="json", h="name,component")
    nodes = {row["name"] for row in client.cat.nodes(format="json", h="name")}
    for plugin in PLUGINS:
        without = nodes - {row["name"] for row in rows if row["component"] == plugin}
        if without:
            raise UserError(
                f"{section.url}: {', '.join(sorted(without))} lacks the plugin {plugin}, which vectors and hybrid "
                "queries need; `genrecall node start` runs a node that has it"
            )


def aliased(client: OpenSearch, section: OpenSearchSection) -> list[str]:
    """The indices that the alias points to; empty where there is no alias yet."""
    if not client.indices.exists_alias(name=section.index):
        return []
    return sorted(client.indices.get_alias(name=section.index))


def serving(client: OpenSearch, section: OpenSearchSection) -> str:
    """The one index behind the alias; UserError where it is none or several."""
    found = aliased(client, section)
    if len(found) != 1:
        raise UserError(
            f"alias {section.index!r} points to {', '.join(found) or 'nothing'}, but has to point to one index: fill a "
            "first one by `genrecall index load`"
        )
    return found[0]


def point_alias(client: OpenSearch, section: OpenSearchSection, index: str) -> list[str]:
    """Point the alias to `index` alone, in one step that no search can fall into; the indices it pointed to before.

    A filter or a routing of the alias stays with it.
    """
    before = aliased(client, section)
    own = client.indices.get_alias(name=section.index)[before[0]]["aliases"][section.index] if before else {}
    actions: list[dict[str, Any]] = [
        {"remove": {"index": old, "alias": section.index}} for old in before if old != index
    ]
    actions.append({"add": {**own, "index": index, "alias": section.index}})
    client.indices.update_aliases(body={"actions": actions})
    return before


def twin(client: OpenSearch, source: str, target: str, meta: Meta) -> None:
    """Create `target` with the mapping and settings of `source`, what its users added to them included, but of `meta`.

    Replicas and refreshes are off until it is filled.
    """
    mapping = client.indices.get_mapping(index=source)[source]["mappings"]
    mapping["_meta"] = {**mapping.get("_meta", {}), "genrecall": vars(meta)}
    own = ("uuid", "creation_date", "provided_name", "version", "blocks", "resize")
    settings = {name: value for name, value in settings_of(client, source).items() if name not in own}
    settings.get("routing", {}).get("allocation", {}).pop("initial_recovery", None)  # of an index that was resized
    loading = {"refresh_interval": "-1", "number_of_replicas": 0}
    try:
        client.indices.create(index=target, body={"mappings": mapping, "settings": {"index": {**settings, **loading}}})
    except RequestError as error:  # the answer to our own may have been lost, and it was asked for again
        if error.error != "resource_already_exists_exception" or read_meta(client, target) != meta:
            raise


def drop(client: OpenSearch, index: str) -> None:
    """Delete an index; nothing where there is none."""
    client.indices.delete(index=index, params={"ignore_unavailable": "true"})


def follow_fields(client: OpenSearch, source: str, target: str) -> None:
    """Give `target` the fields that `source` gained since. UserError where it has one of another type."""
    properties = client.indices.get_mapping(index=source)[source]["mappings"].get("properties", {})
    known = client.indices.get_mapping(index=target)[target]["mappings"].get("properties", {})
    if properties == known:
        return
    try:
        client.indices.put_mapping(index=target, body={"properties": properties})
    except RequestError as error:
        raise UserError(
            f"the mapping of {source!r} does not fit {target!r}: {reason_of(error.info)}. The alias was not moved; "
            "delete the new index with `genrecall index refresh --abandon` and begin again"
        ) from None


def settings_of(client: OpenSearch, index: str) -> dict[str, Any]:
    settings: dict[str, Any] = client.indices.get_settings(index=index)[index]["settings"]["index"]
    return settings


def put_settings(client: OpenSearch, index: str, settings: Mapping[str, object]) -> None:
    client.indices.put_settings(index=index, body={"index": dict(settings)})


def await_health(client: OpenSearch, source: str, target: str, seconds: float, tell: Callable[[str], None]) -> None:
    """Wait until the copies of `target` are as complete as those of `source`. UserError where they are not in time."""
    wanted = client.cluster.health(index=source)["status"]
    ends, told = time.monotonic() + seconds, False
    while HEALTH.index(client.cluster.health(index=target)["status"]) < HEALTH.index(wanted):
        if time.monotonic() > ends:
            raise UserError(
                f"{target!r} is not {wanted} after {seconds:g} s (opensearch.refresh.replicas_s): see `GET _cluster/"
                "allocation/explain` for what keeps its replicas away. The alias was not moved; run the same command "
                "again"
            )
        if not told:
            tell(f"waiting for the replicas of {target}")
            told = True
        time.sleep(0.5)


def block_writes(client: OpenSearch, index: str, blocked: bool) -> None:
    """Stop writes, waiting for those under way to end, or let them go on."""
    if blocked:
        client.indices.add_block(index=index, block="write")
    else:
        put_settings(client, index, {"blocks.write": None})


def announce(client: OpenSearch, index: str, codebook: str | None) -> None:
    """Have clauses on `index` ask in `codebook` too, or no longer.

    A search that was written for this index and arrives after the alias moved then brings the SIDs of the next one.
    """
    about = client.indices.get_mapping(index=index)[index]["mappings"]["_meta"]
    ours = {name: value for name, value in about["genrecall"].items() if name != "next"}
    wanted = ours if codebook is None else {**ours, "next": codebook}
    if wanted != about["genrecall"]:
        client.indices.put_mapping(index=index, body={"_meta": {**about, "genrecall": wanted}})


def retire(client: OpenSearch, section: OpenSearchSection, previous: str) -> list[str]:
    """Delete the indices of this alias beyond the one that serves, `previous`, and the newest others to be kept."""
    others = [one.index for one in status(client, section) if not one.aliased and one.index != previous]
    created = {index: int(settings_of(client, index)["creation_date"]) for index in others}
    beyond = sorted(others, key=lambda index: -created[index])[section.refresh.keep - 1 :]
    if beyond:
        drop(client, ",".join(beyond))
    return beyond


def status(client: OpenSearch, section: OpenSearchSection) -> list[IndexStatus]:
    """Every index of this alias name that genrecall made, the aliased one first."""
    pattern = f"{section.index}-*"
    mappings = client.indices.get_mapping(index=pattern, params={"ignore_unavailable": "true"})
    rows = {row["index"]: row for row in client.cat.indices(index=pattern, format="json", bytes="b")}
    current, state = aliased(client, section), Job.peek(client, section.index)
    found = []
    for index, body in mappings.items():
        about = body["mappings"].get("_meta", {}).get("genrecall", {})
        if index != f"{section.index}-{about.get('codebook')}":
            continue  # another alias that begins alike (`shop-eu` beside `shop`), or not ours
        found.append(
            IndexStatus(
                index=index,
                codebook=about["codebook"],
                encoder=about.get("encoder", ""),
                dimension=int(body["mappings"].get("properties", {}).get("vector", {}).get("dimension", 0)),
                aliased=index in current,
                documents=client.count(index=index)["count"],
                with_sid=client.count(index=index, body={"query": {"exists": {"field": "sid"}}})["count"],
                megabytes=int(rows[index]["store.size"] or 0) / 1e6,
                health=rows[index]["health"],
                writable="write" not in settings_of(client, index).get("blocks", {}),
                job=_job(state) if index == state.get("target") else "",
            )
        )
    return sorted(found, key=lambda one: (not one.aliased, one.index))


def _job(state: Mapping[str, Any]) -> str:
    if not unfinished(state):
        return ""
    return f"{state['kind']} unfinished: step {state['step']}, {state.get('copied', 0):,} documents copied"
