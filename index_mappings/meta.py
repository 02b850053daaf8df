"""What an index says about itself: `_meta.genrecall` in its mapping, and its name `<alias>-<codebook>`.

The clause and every job use the codebook that is named there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from opensearchpy import OpenSearch

from genrecall.bundle import ITEMS, Bundle
from genrecall.config.encoder import EncoderSection
from genrecall.config.opensearch import OpenSearchSection
from genrecall.errors import UserError


@dataclass(frozen=True)
class IndexMeta:
    """What an index holds: the codebook, sha256 of its assignments, and the encoder of its vectors."""

    codebook: str
    assignments: str
    encoder: str

    @classmethod
    def of(cls, bundle: Bundle, encoder: EncoderSection) -> IndexMeta:
        return cls(bundle.codebook, bundle.manifest["files"][ITEMS]["sha256"], encoder.checkpoint)


def index_name(section: OpenSearchSection, codebook: str) -> str:
    """`<alias>-<codebook>`; UserError where OpenSearch would refuse it."""
    name = f"{section.index}-{codebook}"
    if name != name.lower() or len(name.encode()) > 255:
        raise UserError(
            f"codebook {codebook!r} cannot name an index ({name!r}): index names are lower case and at most 255 bytes; "
            "publish the bundle under another codebook name"
        )
    return name


def read_mapping(client: OpenSearch, index: str) -> dict[str, Any]:
    mapping: dict[str, Any] = client.indices.get_mapping(index=index)[index]["mappings"]
    return mapping


def read_meta(client: OpenSearch, index: str) -> IndexMeta:
    """UserError when the index was not made by genrecall."""
    found = read_mapping(client, index).get("_meta", {}).get("genrecall", {})
    if not isinstance(found, dict) or not found.get("codebook"):
        raise UserError(
            f"index {index!r} names no codebook (_meta.genrecall.codebook in its mapping): it was not made by "
            "`genrecall index create`; choose another opensearch.index"
        )
    return IndexMeta(str(found["codebook"]), str(found.get("assignments", "")), str(found.get("encoder", "")))


def vector_dimension(mapping: dict[str, Any]) -> int:
    """Dimension of the vector field; 0 where there is none."""
    return int(mapping.get("properties", {}).get("vector", {}).get("dimension", 0))


def check_meta(client: OpenSearch, index: str, meta: IndexMeta, dimension: int | None = None) -> None:
    """UserError when `index` holds something else than `meta` says, or vectors of another dimension."""
    found = read_meta(client, index)
    remedy = (
        "publish the bundle under another codebook name, choose another opensearch.index, or, where nothing searches "
        "that index, delete it by `genrecall index create --replace`"
    )
    if found.codebook != meta.codebook:
        raise UserError(f"index {index!r} holds codebook {found.codebook!r}, not {meta.codebook!r}: {remedy}")
    if found.assignments != meta.assignments:
        raise UserError(
            f"index {index!r} was made for another bundle of the name {meta.codebook!r}, with other SIDs: {remedy}"
        )
    size = vector_dimension(read_mapping(client, index))
    wanted = size if dimension is None else dimension
    if size != wanted or found.encoder != meta.encoder:
        raise UserError(
            f"index {index!r} holds vectors of dimension {size} by encoder {found.encoder!r}, but encoder.checkpoint "
            f"{meta.encoder!r} makes {wanted}: {remedy}"
        )
