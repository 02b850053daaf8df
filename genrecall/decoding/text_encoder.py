"""The frozen sentence encoder: texts -> unit vectors, as sentence-transformers computes them.

Owns tokenizing, batching by padded tokens and pooling. Needs torch, transformers and numpy alone, so that it runs in
the trainer and in the inference server. Caching belongs to `genrecall.embeddings`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from genrecall.checkpoints import resolve
from genrecall.decoding.request_tokenizer import pad
from genrecall.errors import UserError

_POOLING = Path("1_Pooling") / "config.json"  # where sentence-transformers keeps it


class TextEncoder(nn.Module):
    """A transformer encoder with mean (or first-token) pooling and L2 normalisation.

    Args:
        model: a Hugging Face encoder whose output has `last_hidden_state`.
        tokenizer: the fast tokenizer beside it.
        pooling: "mean" over the tokens that are not padding, or "cls" (the first token).
        max_tokens: longer texts are cut, special tokens included.
    """

    def __init__(self, model: nn.Module, tokenizer: Any, pooling: str = "mean", max_tokens: int = 64) -> None:
        super().__init__()
        self.model = model
        self.tokenizer = tokenizer
        self.pooling = pooling
        self.max_tokens = max_tokens
        self.dim: int = model.config.hidden_size  # type: ignore[union-attr, assignment]

    @classmethod
    def load(
        cls,
        checkpoint: str | Path,
        max_tokens: int = 64,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> TextEncoder:
        """Read "minilm", a folder in Hugging Face layout, or a hub id. Raises UserError for what cannot be read."""
        from transformers import AutoModel, AutoTokenizer

        folder = resolve(checkpoint)
        try:
            with without_progress_bar():
                tokenizer = AutoTokenizer.from_pretrained(folder)
                model = AutoModel.from_pretrained(folder, dtype=dtype)
        except (OSError, ValueError) as error:
            raise UserError(f"checkpoint {checkpoint} cannot be loaded as an encoder: {error}") from error
        limit = getattr(model.config, "max_position_embeddings", max_tokens)
        if max_tokens > limit:
            raise UserError(
                f"max_tokens is {max_tokens}, but {checkpoint} has {limit} positions: lower encoder.max_tokens"
            )
        return cls(model.eval().to(device), tokenizer, _read_pooling(folder), max_tokens)

    def save(self, folder: Path, dtype: torch.dtype | None = None) -> None:
        """Write weights (cast to `dtype` unless None), tokenizer and pooling so that `load(folder)` works."""
        folder.mkdir(parents=True, exist_ok=True)
        weights = None if dtype is None else {k: v.to(dtype) for k, v in self.model.state_dict().items()}
        with without_progress_bar():
            self.model.save_pretrained(folder, state_dict=weights)  # type: ignore[operator]
        self.tokenizer.save_pretrained(folder)
        (folder / _POOLING).parent.mkdir(exist_ok=True)
        (folder / _POOLING).write_text(json.dumps({"embedding_dimension": self.dim, "pooling_mode": self.pooling}))

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """int64 [n, length] twice -> float32 [n, dim], unit norm."""
        states = self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return nn.functional.normalize(pool(states.float(), attention_mask, self.pooling), dim=-1)

    def encode(self, texts: Sequence[str], batch_tokens: int = 8192) -> Tensor:
        """float32 [n, dim] on the encoder's device, unit norm, in the order of `texts`.

        Texts are sorted by length and cut into batches of at most `batch_tokens` padded tokens (one text at least).
        """
        ids = self.tokenizer(list(texts), truncation=True, max_length=self.max_tokens)["input_ids"] if texts else []
        return self.encode_tokens(ids, batch_tokens)

    @torch.no_grad()
    def encode_tokens(self, ids: Sequence[Sequence[int]], batch_tokens: int = 8192) -> Tensor:
        """`encode` of texts that were tokenized already, to at most `max_tokens` ids each."""
        out = torch.empty(len(ids), self.dim, device=next(self.model.parameters()).device)
        for rows in batches([len(x) for x in ids], batch_tokens):
            padded, mask = map(torch.from_numpy, pad([ids[row] for row in rows], self.tokenizer.pad_token_id or 0))
            out[rows] = self(padded.to(out.device), mask.long().to(out.device))
        return out


def pool(states: Tensor, mask: Tensor, pooling: str) -> Tensor:
    """[n, length, dim] token states and [n, length] mask -> [n, dim]."""
    if pooling == "cls":
        return states[:, 0]
    weights = mask.unsqueeze(-1).to(states.dtype)
    return (states * weights).sum(1) / weights.sum(1).clamp(min=1e-9)


def batches(lengths: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    """Row numbers, longest first, in runs whose padded size (longest x rows) stays within `batch_tokens`."""
    order = sorted(range(len(lengths)), key=lambda r: -lengths[r])
    start = 0
    while start < len(order):
        rows = max(1, batch_tokens // max(1, lengths[order[start]]))
        yield order[start : start + rows]
        start += rows


@contextmanager
def without_progress_bar() -> Iterator[None]:
    """Keep transformers from drawing a bar for what takes a fraction of a second."""
    from transformers.utils import logging

    if not logging.is_progress_bar_enabled():
        yield
        return
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.enable_progress_bar()


def _read_pooling(folder: Path) -> str:
    """The pooling a sentence-transformers folder asks for, in either generation of its format; "mean" by default."""
    path = folder / _POOLING
    if not path.is_file():
        return "mean"
    config = json.loads(path.read_text())
    if "pooling_mode" in config:
        modes = config["pooling_mode"]
        modes = [modes] if isinstance(modes, str) else list(modes)
    else:
        names = {"pooling_mode_cls_token": "cls", "pooling_mode_mean_tokens": "mean"}
        modes = [names.get(k, k) for k, v in config.items() if k.startswith("pooling_mode_") and v]
    if modes not in (["mean"], ["cls"]):
        raise UserError(f"{path} asks for pooling {modes}: only 'mean' or 'cls' alone is supported")
    return str(modes[0])
