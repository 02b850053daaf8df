"""The frozen sentence encoder: texts -> unit vectors, as sentence-transformers computes them.

Owns tokenizing, batching by padded tokens and pooling. Needs torch, transformers and numpy alone, so that it runs in
the trainer and in the inference server. Caching belongs to `genrecall.embeddings`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from genrecall.checkpoints import MODULES, resolve
from genrecall.decoding.encoder_head import Dense, Normalize, Part, read_head, write_head
from genrecall.decoding.request_tokenizer import pad
from genrecall.encoder_layout import PROMPTS, EncoderLayout, Prefixes
from genrecall.errors import UserError

WRAPPERS = ("module.", "_orig_mod.")  # written before each name where a wrapper was saved in place of the model


class TextEncoder(nn.Module):
    """A transformer encoder with mean (or first-token) pooling, what follows pooling, and L2 normalisation.

    The vectors are those of sentence-transformers, brought to unit length also where it leaves that to the caller.

    Args:
        model: a Hugging Face encoder whose output has `last_hidden_state`.
        tokenizer: the fast tokenizer beside it.
        pooling: "mean" over the tokens that are not padding, or "cls" (the first token).
        max_tokens: longer texts are cut, special tokens included.
        head: what follows pooling.
        prefixes: what belongs before a query and before an item. Kept for who tokenizes; `encode` adds neither.
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Any,
        pooling: str = "mean",
        max_tokens: int = 64,
        head: Sequence[Part] = (),
        prefixes: Prefixes = Prefixes(),
    ) -> None:
        super().__init__()
        self.model = model
        self.tokenizer = tokenizer
        self.pooling = pooling
        self.max_tokens = max_tokens
        self.parts = list(head)
        self.head = nn.Sequential(*head)
        self.prefixes = prefixes
        widths = [part.linear.out_features for part in head if isinstance(part, Dense)]
        self.dim: int = widths[-1] if widths else model.config.hidden_size  # type: ignore[union-attr, assignment]

    @classmethod
    def load(
        cls,
        checkpoint: str | Path,
        max_tokens: int = 64,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
        query_prefix: str | None = None,
        item_prefix: str | None = None,
    ) -> TextEncoder:
        """Read "minilm", a folder in Hugging Face or sentence-transformers layout, or a hub id.

        query_prefix, item_prefix: in place of the folder's prompts; None: as the folder says.
        Raises UserError, naming file and remedy, for what cannot be read and for what would give other vectors than
        sentence-transformers.
        """
        folder = resolve(checkpoint)
        layout = EncoderLayout.read(folder)
        tokenizer, model = _load_transformer(layout, dtype)
        limit = min(layout.max_tokens or tokenizer.model_max_length, _positions(model))
        if max_tokens > limit:
            raise UserError(
                f"encoder.max_tokens is {max_tokens}, but {folder} reads {limit} at most: set it to {limit}"
            )
        query, item = layout.prefixes
        given = Prefixes(query if query_prefix is None else query_prefix, item if item_prefix is None else item_prefix)
        head = read_head(layout.head)
        while head and isinstance(head[-1], Normalize):  # `forward` does it anyway
            head.pop()
        encoder = cls(model, tokenizer, layout.pooling, max_tokens, head, given).eval()
        _check(encoder, layout.transformer)
        return encoder.to(device)

    def save(self, folder: Path, dtype: torch.dtype | None = None) -> None:
        """Write a folder that `load` and sentence-transformers read; weights of the transformer cast to `dtype`."""
        folder.mkdir(parents=True, exist_ok=True)
        weights = None if dtype is None else {k: v.to(dtype) for k, v in self.model.state_dict().items()}
        with without_reports():
            self.model.save_pretrained(folder, state_dict=weights)  # type: ignore[operator]
        self.tokenizer.save_pretrained(folder)
        pooling = {"embedding_dimension": self.model.config.hidden_size, "pooling_mode": self.pooling}  # type: ignore[union-attr]
        (folder / "1_Pooling").mkdir(exist_ok=True)
        (folder / "1_Pooling/config.json").write_text(json.dumps(pooling))
        modules = [("Transformer", ""), ("Pooling", "1_Pooling"), *write_head([*self.parts, Normalize()], folder)]
        listed = [
            {"idx": n, "name": str(n), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for n, (kind, path) in enumerate(modules)
        ]
        (folder / MODULES).write_text(json.dumps(listed))
        own = {"max_seq_length": self.max_tokens, "do_lower_case": lowercases(self.tokenizer)}
        (folder / "sentence_bert_config.json").write_text(json.dumps(own))
        prompts = {"query": self.prefixes.query, "document": self.prefixes.item}
        (folder / PROMPTS).write_text(json.dumps({"prompts": prompts, "default_prompt_name": None}))

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """int64 [n, length] twice -> float32 [n, dim], unit norm."""
        states = self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        vectors = self.head(pool(states.float(), attention_mask, self.pooling))
        return nn.functional.normalize(vectors, dim=-1)

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
def without_reports() -> Iterator[None]:
    """Keep transformers from drawing a bar for what takes a fraction of a second, and from reports: we check."""
    from transformers.utils import logging

    bar, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bar:
            logging.enable_progress_bar()


def refuse_missing_weights(info: Mapping[str, Any], folder: Path, unused: str = "pooler.") -> None:
    """UserError where transformers filled weights with random numbers, as it does for those that it does not find.

    Args:
        info: as `from_pretrained` returns it with `output_loading_info=True`.
        unused: beginning of the names of weights that are not read.
    """
    missing = sorted(name for name in info["missing_keys"] if not name.startswith(unused))
    if not missing:
        return
    found = min(info["unexpected_keys"], default="")
    hint = next(
        (
            f"; it has {found!r} and was saved from inside a wrapper: save the model itself, without {wrapper!r}"
            for wrapper in WRAPPERS
            if found.startswith(wrapper)
        ),
        ": download the checkpoint again, or one of the architecture that its config.json names",
    )
    raise UserError(f"the weights in {folder} lack {len(missing)} that the model has, such as {missing[0]!r}{hint}")


def lowercases(tokenizer: Any) -> bool:
    """Whether a fast tokenizer lower-cases its texts."""
    normalizer = tokenizer.backend_tokenizer.normalizer
    about = json.loads(normalizer.__getstate__()) if normalizer else {}
    return any(
        part.get("type") == "Lowercase" or part.get("lowercase") for part in (about, *about.get("normalizers", ()))
    )


def _load_transformer(layout: EncoderLayout, dtype: torch.dtype) -> tuple[Any, Any]:
    """Tokenizer and model."""
    from tokenizers.normalizers import Lowercase
    from tokenizers.normalizers import Sequence as InTurn
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    folder = layout.transformer
    try:
        with without_reports():
            kind = AutoConfig.from_pretrained(folder)
            tokenizer = AutoTokenizer.from_pretrained(folder)
            if kind.is_encoder_decoder:
                raise ValueError(f"{kind.model_type} has a decoder too; choose an encoder alone, such as BERT or MPNet")
            model, info = AutoModel.from_pretrained(folder, dtype=dtype, output_loading_info=True)
    except Exception as error:  # the libraries raise whatever the files lead them to
        raise UserError(f"{folder} cannot be loaded as an encoder: {error}") from error
    refuse_missing_weights(info, folder)
    if not tokenizer.is_fast:
        raise UserError(f"{folder} has no fast tokenizer: save one beside config.json, as tokenizer.json")
    if layout.lowercase and not lowercases(tokenizer):
        backend = tokenizer.backend_tokenizer
        backend.normalizer = InTurn([Lowercase(), *([backend.normalizer] if backend.normalizer else [])])
    return tokenizer, model


def _positions(model: Any) -> float:
    """Tokens that the model has positions for; some families number them from behind the padding token's."""
    count = getattr(model.config, "max_position_embeddings", 0)
    offset = getattr(getattr(model, "embeddings", None), "padding_idx", None)
    return math.inf if count <= 0 else count if offset is None else count - offset - 1


def _check(encoder: TextEncoder, folder: Path) -> None:
    """UserError for parts that do not fit together, and for weights that are no numbers."""
    rows = encoder.model.get_input_embeddings().num_embeddings  # type: ignore[operator]
    known = encoder.tokenizer.get_vocab()
    if max(known.values()) >= rows or len(known) < rows / 2:
        raise UserError(
            f"the tokenizer of {folder} has {len(known):,} tokens, up to number {max(known.values()):,}, and the model "
            f"{rows:,}: they do not belong together, or tokenizer.json and its kind are missing beside config.json"
        )
    for name, weight in encoder.named_parameters():
        if not torch.isfinite(weight).all():
            raise UserError(
                f"weight {name!r} of {folder} has values that are no numbers: download the checkpoint again"
            )
    ids = torch.full((1, 2), rows - 1)
    try:
        with torch.no_grad():
            encoder(ids, torch.ones_like(ids))
    except Exception as error:  # models of anything but text, and parts of other sizes
        raise UserError(f"{folder} does not encode text ({type(error).__name__}: {error}): choose another") from error
