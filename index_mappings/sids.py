"""Which SID a document gets in a codebook: the bundle's, or for an item that the bundle lacks, the server's.

A new item joins the index before it joins a bundle. Without a SID the generative clause would not find it until the
next training, so the inference server assigns one (`Encode`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from genrecall.bundle import Bundle
from genrecall.client import Client, ServerError
from genrecall.errors import UserError
from genrecall.sid import Sid

Encode = Callable[[Sequence[Mapping[str, Any]]], list[str]]
"""Items (item_id, title, category, brand) -> a SID term each."""


class Sids:
    """SID terms of one codebook for documents of any index.

    Args:
        terms: item id -> SID term, of the bundle.
        encode: for items that are not in `terms`; None: they get no SID.
    """

    def __init__(self, terms: Mapping[str, str], encode: Encode | None) -> None:
        self.terms = terms
        self._encode = encode

    def of(self, documents: Sequence[tuple[str, Mapping[str, Any]]]) -> list[str | None]:
        """The term of each (id, source); None for an item to which neither the bundle nor the server assigns one.

        Raises UserError where the server does not answer or refuses.
        """
        found = [self.terms.get(id) for id, _ in documents]
        unknown = [row for row, term in enumerate(found) if term is None and _title(documents[row][1])]
        if unknown and self._encode:
            for row, term in zip(unknown, self._encode([item(*documents[row]) for row in unknown]), strict=True):
                found[row] = term
        return found


def encoder_of(client: Client, codebook: str) -> Encode:
    """Asks an inference server. Raises UserError with the remedy where it fails."""

    def encode(items: Sequence[Mapping[str, Any]]) -> list[str]:
        try:
            codes = client.encode(items, codebook=codebook)
        except ServerError as error:
            raise UserError(
                f"{len(items)} items are not in bundle {codebook!r}, and the inference server could not assign SIDs: "
                f"{error}. Serve that bundle there, or leave such items without SID by opensearch.refresh.endpoint=null"
            ) from None
        return [Sid(*code).term(codebook) for code in codes.tolist()]

    return encode


def reassigned(path: Path, bundle: Bundle) -> dict[str, str]:
    """Item id -> SID term of a Parquet file with `item_id` and `codes`.

    Raises UserError for another file, and for codes that no item of the bundle has: its generator cannot write them.
    """
    try:
        table = pq.read_table(path, columns=["item_id", "codes"])
        codes = np.array(table["codes"].to_pylist(), dtype=np.int64).reshape(-1, 3)
    except (OSError, pa.ArrowException, ValueError, TypeError) as error:
        raise UserError(f"{path} is not a table of item_id and three codes each: {error}") from None
    unknown = np.flatnonzero(bundle.space.index_of(codes) < 0)
    if len(unknown):
        first = unknown[0]
        raise UserError(
            f"{path}: {len(unknown):,} SIDs are not in codebook {bundle.codebook!r}, such as "
            f"{codes[first].tolist()} of {table['item_id'][first].as_py()!r}: its generator cannot write them; train a "
            "bundle with these assignments and refresh the index"
        )
    terms = (Sid(*code).term(bundle.codebook) for code in codes.tolist())
    return dict(zip(table["item_id"].to_pylist(), terms, strict=True))


def item(id: str, source: Mapping[str, Any]) -> dict[str, Any]:
    """What `Encode` reads of a document."""
    category = source.get("category") or []
    return {
        "item_id": id,
        "title": _title(source),
        "category": [category] if isinstance(category, str) else [str(name) for name in category],
        "brand": str(source.get("brand") or ""),
    }


def _title(source: Mapping[str, Any]) -> str:
    return str(source.get("title") or "").strip()
