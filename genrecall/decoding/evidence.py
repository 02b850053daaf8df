"""What costs no training and says which SIDs a query may want: the words and the vector of the text.

    log p(SID) = log softmax over all SIDs of
                 dense * cos(query, mean vector of the SID's items) + lexical * BM25(query, SID) + size * log(items)

A SID is a document of BM25: the words of its items and of the training queries that chose them (`lexical`). What people
wanted for the query before, where that is remembered, moves its vector and raises its SIDs (`memory`). The three
weights are learned, and start where they rank well on any catalogue. Every SID is scored, so a search over evidence
alone prunes nothing at level 1 that a leaf would show. Kind `lm` has no text vector, and no dense part.

Above FLAT SIDs a query is compared with the means of the level-2 nodes first, and with the SIDs below the NEAREST of
them; any other SID takes the cosine of its node. Memory read for a query then hardly grows with the catalogue.

Source: BM25 over clusters, and the vector of a cluster's mean, are classic cluster-based retrieval (Liu & Croft, SIGIR
2004); looking ahead from a prefix to the leaves below it is "planning ahead" (Zeng et al., SIGIR 2024).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genrecall.decoding.adapter import QueryAdapter
from genrecall.decoding.tables import ConstraintTables, columns

DENSE, LEXICAL, SIZE = 12.0, 0.39, 0.6  # weights at the start: where three catalogues agree
FLAT = 32_768  # SIDs up to which a query is compared with each: 50 MB of vectors
NEAREST = 128  # level-2 nodes whose SIDs are compared beyond that


class Evidence(nn.Module):
    """Log-probabilities of all SIDs of a codebook. Computes in float32.

    Args:
        arrays: `start` int64 [V + 2], `sid` int32 [P], `impact` float32 [P], `log_items` float32 [n]; for kind
            `encoder` also `vectors` [n, dim], unit norm, and above FLAT SIDs `node_vectors` [nodes of level 2, dim].
        adapter: maps the text's vector to where its items are; None for kind `lm`.
    """

    node_vectors: Tensor | None

    def __init__(self, arrays: Mapping[str, Tensor], adapter: QueryAdapter | None) -> None:
        super().__init__()
        longest = int((arrays["start"][1:] - arrays["start"][:-1]).max())
        self.register_buffer("start", arrays["start"].long())
        self.register_buffer("sid", arrays["sid"])
        self.register_buffer("impact", arrays["impact"])
        self.register_buffer("slots", torch.arange(max(1, longest)))
        self.register_buffer("log_items", arrays["log_items"])
        for name in ("vectors", "node_vectors"):
            self.register_buffer(name, arrays[name].float() if name in arrays else None)
        self.adapter = adapter
        self.weights = nn.Parameter(torch.tensor([DENSE, LEXICAL, SIZE]))

    def forward(
        self, text: Tensor | None, terms: Tensor, tables: ConstraintTables, wanted: Tensor | None = None
    ) -> Tensor:
        """float32 [B, n], log-probabilities.

        Args:
            text: [B, dim], of kind `encoder`; terms: int64 [B, T], padded with V.
            wanted: float32 [B, dim], what the memory adds to the query's vector (`Memory.wanted`).
        """
        return self.combine(self.dense(text, tables, wanted), self.lexical(terms), self.weights)

    def combine(self, dense: Tensor | None, lexical: Tensor, weights: Tensor) -> Tensor:
        """float32 [B, n], log-probabilities. dense, lexical: [B, n]; weights: [3], dense, lexical, size."""
        scores = weights[1] * lexical + weights[2] * self.get_buffer("log_items")
        if dense is not None:
            scores = scores + weights[0] * dense
        return scores.log_softmax(-1)

    def dense(self, text: Tensor | None, tables: ConstraintTables, wanted: Tensor | None = None) -> Tensor | None:
        """float32 [B, n]: the cosine of the adapted query, moved by `wanted`, and the mean of each SID's items."""
        if self.adapter is None or text is None:
            return None
        query, vectors = self.adapter(F.normalize(text.float(), dim=-1)), self.get_buffer("vectors")
        if wanted is not None:
            query = F.normalize(query + wanted, dim=-1)
        if self.node_vectors is None:
            return query @ vectors.T
        of_nodes = query @ self.node_vectors.T
        nearest = of_nodes.topk(min(NEAREST, of_nodes.shape[1])).indices
        child, there = tables.children(2, nearest)
        child, there = child.flatten(1), there.flatten(1)
        compared = vectors.index_select(0, child.flatten()).view(*child.shape, -1)
        near = (compared @ query.unsqueeze(-1)).squeeze(-1)
        every = F.pad(columns(of_nodes, tables.above[1]), (0, 1))  # the last takes what is padding
        return every.scatter(1, torch.where(there, child, every.shape[1] - 1), near)[:, :-1]

    def lexical(self, terms: Tensor) -> Tensor:
        """float32 [B, n]: BM25 of each SID."""
        start, sid = self.get_buffer("start"), self.get_buffer("sid")
        count = self.get_buffer("log_items").shape[0]
        at = start[terms].unsqueeze(-1) + self.get_buffer("slots")
        there = at < start[terms + 1].unsqueeze(-1)
        at = torch.where(there, at, 0).flatten(1)
        there = there.flatten(1)
        impact = torch.where(there, self.get_buffer("impact")[at], 0.0)
        return impact.new_zeros((len(terms), count)).scatter_add(1, sid[at].long(), impact)
