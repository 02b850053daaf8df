"""Creates the index of one codebook: its template, the search pipelines, and the empty index."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from opensearchpy import OpenSearch

from genrecall.config.opensearch import OpenSearchSection
from genrecall.errors import UserError
from index_mappings import checks
from index_mappings.alias import aliased, aliases_of, check_alias_name, may_be_auto_created
from index_mappings.lease import JobLease, refuse_unfinished
from index_mappings.meta import IndexMeta, check_meta, index_name
from index_mappings.pipelines import put_pipelines
from index_mappings.render import render

PLUGINS = ("opensearch-knn", "opensearch-neural-search")


def create(
    client: OpenSearch,
    section: OpenSearchSection,
    meta: IndexMeta,
    dimension: int,
    replace: bool = False,
    message: Callable[[str], None] = lambda line: None,
) -> tuple[str, bool]:
    """Make sure that template, search pipelines and the index of `meta.codebook` exist.

    Returns the index's name and whether it is new. An existing index must hold the same (`check_meta`), or `replace`
    deletes it first, which no alias may point to. Raises UserError for that, while another job of this alias runs or a
    migration of this index is unfinished, for a cluster without the plugins, for an alias name that is an index, and
    where other templates would make it another index.
    """
    with JobLease.take(client, section.index, section.lease_s, message) as lease:
        name = index_name(section, meta.codebook)
        refuse_unfinished(lease.state, name)
        check_cluster(client, section, message)
        if replace and client.indices.exists(index=name):
            if names := aliases_of(client, name):
                raise UserError(
                    f"index {name!r} is behind the alias {', '.join(names)}: deleting it would leave searches without "
                    "an index. Publish the bundle under another codebook name and move there by `genrecall index "
                    "refresh`, or `genrecall index load --switch`"
                )
            client.indices.delete(index=name)
        return name, make(client, section, meta, dimension)


def make(
    client: OpenSearch, section: OpenSearchSection, meta: IndexMeta, dimension: int, extra: Sequence[str] = ()
) -> bool:
    """Template, pipelines and index, for a job that holds the lease; whether the index is new.

    extra: further fields that the index must take; a new one that would not is not left behind.
    """
    name = index_name(section, meta.codebook)
    if client.indices.exists(index=name):
        check_meta(client, name, meta, dimension)
        checks.check_maps(client, name, extra)
        return False
    template = put_template(client, section, dimension)
    put_pipelines(client, section.fusion)
    checks.check_template(client, name, template)
    client.indices.create(index=name, body=render("meta", **meta.body))
    try:
        checks.check_created(client, name, template)
        checks.check_maps(client, name, extra)
    except UserError:
        client.indices.delete(index=name)
        raise
    return True


def put_template(client: OpenSearch, section: OpenSearchSection, dimension: int) -> dict[str, Any]:
    """Store the index template of every `<alias>-*`; returns its mappings and settings.

    Longer names have a higher priority, so that `shop-eu-*` has precedence over `shop-*`.
    """
    template = render(
        "index",
        index=section.index,
        priority=section.template_priority + len(section.index),
        components=list(section.components),
        dynamic=section.dynamic,
        analyzer=section.analyzer,
        shards=section.shards,
        replicas=section.replicas,
        refresh_interval=section.refresh_interval,
        dimension=dimension,
        m=section.vector.m,
        ef_construction=section.vector.ef_construction,
    )
    client.indices.put_index_template(name=section.index, body=template)
    stored: dict[str, Any] = template["template"]
    return stored


def check_cluster(client: OpenSearch, section: OpenSearchSection, message: Callable[[str], None]) -> None:
    """UserError for a cluster without the plugins, or an alias name that is taken; a warning where it could be."""
    check_plugins(client, section)
    check_alias_name(client, section.index)
    if not aliased(client, section.index) and may_be_auto_created(client, section.index):
        message(
            f"a write to {section.index!r} before the alias exists would make an index of that name: stop writers "
            f"until then, or set action.auto_create_index to -{section.index},+* in the cluster's settings"
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
