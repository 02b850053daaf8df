"""The `lm` kind while it is trained: a Qwen2 language model whose vocabulary ends in markers and SID tokens.

Owns the model from scratch or from a checkpoint, its rows for the new tokens, and the tokenizer trained on the
catalogue. The layout of the vocabulary is `genrecall.decoding.config`'.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Qwen2ForCausalLM, Qwen2Tokenizer

from genrecall.decoding.config import GeneratorConfig, Vocabulary
from genrecall.decoding.heads import LevelHeads
from genrecall.decoding.search import Prefix
from genrecall.decoding.tables import ConstraintTables
from genrecall.decoding.text_encoder import refuse_missing_weights, without_reports
from genrecall.errors import UserError
from trainer.generator.encoder_model import add_residual_dropout
from trainer.generator.policy import Policy


class SidLanguageModel(Qwen2ForCausalLM):
    """Qwen2 trained on SIDs behind prompts; only the levels' slices of the head are ever computed."""

    vocabulary: Vocabulary
    tables: ConstraintTables

    def prepare(self, vocabulary: Vocabulary, tables: ConstraintTables, dropout: float) -> SidLanguageModel:
        """Make room for the vocabulary and start every row of ours: the mean row, and noise as large as rows vary.

        Rows behind the tokenizer's ids that a checkpoint has to spare are overwritten too.
        """
        if vocabulary.size != self.config.vocab_size:
            self.resize_token_embeddings(vocabulary.size, mean_resizing=False)
        weights = [self.model.embed_tokens.weight]
        if not self.config.tie_word_embeddings:
            weights.append(self.lm_head.weight)
        with torch.no_grad():
            for weight in weights:
                known, ours = weight[: vocabulary.base], weight[vocabulary.base :]
                ours.copy_(known.mean(0) + known.std() * torch.randn_like(ours))
        self.vocabulary, self.tables = vocabulary, tables
        self.dropout = nn.Dropout(dropout)
        add_residual_dropout(self.model, dropout)
        return self

    @property
    def heads(self) -> LevelHeads:
        return LevelHeads(self.lm_head.weight, self.vocabulary.offsets, self.vocabulary.level_sizes)

    @property
    def policy(self) -> Policy:
        return Policy(self.model, self.heads, self.tables, self.dropout)

    def forward(self, sid: Tensor, ids: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """sid int64 [B, G], left-padded prompts int64 and bool [B, S] -> {"loss": mean negative log-likelihood}."""
        return {"loss": -self.policy.log_probs(self.prefix(ids, mask), sid).sum(-1).mean()}

    def prefix(self, ids: Tensor, mask: Tensor) -> Prefix:
        """What the search starts from."""
        return Prefix(self.model.embed_tokens(ids), mask)

    def save(self, folder: Path, config: GeneratorConfig) -> None:
        """A folder that `AutoModelForCausalLM` reads, with our block in its config.json."""
        self.config.genrecall = config.write()
        with without_reports():
            self.save_pretrained(folder)


def load_checkpoint(folder: Path) -> tuple[SidLanguageModel, Any]:
    """A Qwen2-family checkpoint in float32 with its fast tokenizer. Raises UserError for another architecture."""
    from transformers import AutoConfig, AutoTokenizer

    try:
        config = AutoConfig.from_pretrained(folder)
        if config.model_type != "qwen2":
            raise UserError(
                f"generator.lm.checkpoint {folder} is a {config.model_type}: name a Qwen2-family checkpoint"
            )
        loaded: Any = SidLanguageModel.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
        tokenizer = AutoTokenizer.from_pretrained(folder, use_fast=True)
    except (OSError, ValueError) as error:
        raise UserError(f"generator.lm.checkpoint {folder} cannot be loaded: {error}") from error
    model, info = loaded
    refuse_missing_weights(info, folder)
    return model, tokenizer


def train_tokenizer(texts: Iterable[str], size: int) -> Any:
    """Qwen2's byte-level BPE learned from lower-cased `texts`; at most `size` ids. Any text can be written in it.

    It is Qwen2's class in every detail but the vocabulary, because `AutoTokenizer` would take it for that anyway.
    """
    lowered = (text.lower() for text in texts)
    return Qwen2Tokenizer().train_new_from_iterator(lowered, size, show_progress=False)
