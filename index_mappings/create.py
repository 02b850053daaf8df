"""Creates the index of one codebook: its template, the search pipelines, and the empty index."""

from __future__ import annotations

from opensearchpy import OpenSearch

from genrecall.config.opensearch import OpenSearchSection
from genrecall.errors import UserError
from index_mappings.meta import IndexMeta, check_meta, index_name
from index_mappings.pipelines import put_pipelines
from index_mappings.render import render

PLUGINS = ("opensearch-knn", "opensearch-neural-search")
PRIORITY = 100  # of the index template; longer names get more, so that `shop-eu-*` has precedence over `shop-*`


def create(
    client: OpenSearch, section: OpenSearchSection, meta: IndexMeta, dimension: int, replace: bool = False
) -> tuple[str, bool]:
    """Make sure that template, search pipelines and the index of `meta.codebook` exist.

    Returns the index's name and whether it is new. An existing index must hold the same (`check_meta`), or `replace`
    deletes it first. Raises UserError for that, for a cluster without the plugins, and for an alias name that is an
    index.
    """
    name = index_name(section, meta.codebook)
    check_plugins(client, section)
    if client.indices.exists(index=section.index) and not client.indices.exists_alias(name=section.index):
        raise UserError(
            f"opensearch.index: {section.index!r} is an index, but is to be the alias of {name!r}: choose another name"
        )
    exists = client.indices.exists(index=name)
    if exists and not replace:
        check_meta(client, name, meta, dimension)
        return name, False
    if exists:
        client.indices.delete(index=name)
    put_template(client, section, dimension)
    put_pipelines(client, section.fusion)
    client.indices.create(index=name, body=render("meta", **vars(meta)))
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
        m=section.vector.m,
        ef_construction=section.vector.ef_construction,
    )
    client.indices.put_index_template(name=section.index, body=template)


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
