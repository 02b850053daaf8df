"""From a decoder state to log-probabilities of the valid children of a prefix, one slice of the vocabulary a level.

Owns the choice of the normalizer and where the dense prior is added. Training and search call the same function, so
what is learned is what is searched.
"""

from __future__ import annotations

from typing import Literal, get_args

from torch import Tensor, nn
from torch.nn import functional as F

from genrecall.decoding.dense_prior import DensePrior
from genrecall.decoding.tables import ConstraintTables

Normalizer = Literal["vocabulary", "level", "children"]


class LevelHeads(nn.Module):
    """The output head, cut by level.

    Args:
        weight: [vocabulary, hidden], `lm_head.weight`; may be the embedding matrix itself where the two are tied.
        offsets: the vocabulary row of code 0 of each level.
        level_sizes: rows of each level.
        normalizer: over what the probabilities of a step sum to one. "children": the valid codes after the prefix, as
            the training loss has it. "level": all codes of the level. "vocabulary": every row, as Hugging Face's
            constrained `generate` scores (it masks after log-softmax and does not renormalize).
        prior: added to the logits of children; takes the "children" normalizer, and tables of ranges.
    """

    def __init__(
        self,
        weight: Tensor,
        offsets: tuple[int, int, int],
        level_sizes: tuple[int, int, int],
        normalizer: Normalizer = "children",
        prior: DensePrior | None = None,
    ) -> None:
        super().__init__()
        if normalizer not in get_args(Normalizer):
            raise ValueError(f"normalizer {normalizer!r} is unknown: use one of {', '.join(get_args(Normalizer))}")
        if prior is not None and normalizer != "children":
            raise ValueError(f"normalizer {normalizer!r} cannot go with a dense prior, which scores children alone")
        self.weight: Tensor = weight
        self.offsets = offsets
        self.level_sizes = level_sizes
        self.normalizer = normalizer
        self.prior = prior

    def forward(
        self, level: int, state: Tensor, tables: ConstraintTables, parent: Tensor, text: Tensor | None
    ) -> Tensor:
        """Log-probabilities of the children of R prefixes.

        Args:
            state: [B, R, hidden], the decoder's state behind each prefix.
            parent: int64 [B, R], the node of each prefix (zeros at level 0).
            text: [B, dim], the texts' vectors; needed with a prior.

        Returns:
            float32 [B, R, C], about -1e9 where a slot holds no child; `tables` say which child a slot holds.
        """
        first, size = self.offsets[level], self.level_sizes[level]
        if self.normalizer == "vocabulary":
            every = F.linear(state, self.weight).float().log_softmax(-1)[..., first : first + size]
        else:
            every = F.linear(state, self.weight[first : first + size]).float()
        if self.normalizer == "level":
            every = every.log_softmax(-1)
        scores = tables.candidates(level, parent, every)
        if self.prior is not None:
            if text is None:
                raise ValueError("a generator with a dense prior needs the texts' vectors")
            if tables.masks[level] is not None:
                raise ValueError("a dense prior scores nodes, not codes: build its tables of ranges alone")
            scores = scores + self.prior(level, state, text, tables.children(level, parent)[0])
        return scores.log_softmax(-1) if self.normalizer == "children" else scores
