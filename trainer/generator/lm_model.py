"""The `lm` kind while it is trained: a Qwen2 language model whose vocabulary ends in markers and SID tokens.

Owns the model from scratch or from a checkpoint, its rows for the new tokens, and the tokenizer trained on the
catalogue. The layout of the vocabulary is `genrecall.decoding.prompts`'.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Qwen2ForCausalLM, Qwen2Tokenizer

from genrecall.decoding.constraint import ConstraintTables
from genrecall.decoding.heads import LevelHeads
from genrecall.decoding.layout import GeneratorBlock
from genrecall.decoding.prompts import Vocabulary
from genrecall.decoding.search import Prefix
from genrecall.errors import UserError
from trainer.generator.encoder_model import add_residual_dropout
from trainer.generator.loss import sid_log_probs


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

    def forward(self, ids: Tensor, mask: Tensor, path: Tensor) -> dict[str, Tensor]:
        """Left-padded prompts int64 and bool [B, S], path int64 [B, 3] -> {"loss": mean negative log-likelihood}."""
        tokens = torch.stack([self.tables.code[n][path[:, n]] + self.vocabulary.offsets[n] for n in (0, 1)], dim=1)
        mask = torch.cat([mask, torch.ones_like(tokens, dtype=torch.bool)], dim=1)
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        embeds = self.dropout(self.model.embed_tokens(torch.cat([ids, tokens], dim=1)))
        states = self.model(
            inputs_embeds=embeds, attention_mask=mask.long(), position_ids=positions, use_cache=False
        ).last_hidden_state
        answer = self.dropout(states[:, -3:])
        return {"loss": -sid_log_probs(self.heads, self.tables, answer, path, None).mean()}

    def prefix(self, ids: Tensor, mask: Tensor) -> Prefix:
        """What the search starts from."""
        return Prefix(self.model.embed_tokens(ids), mask)

    def save(self, folder: Path, block: GeneratorBlock) -> None:
        """A folder that `AutoModelForCausalLM` reads, with our block in its config.json."""
        self.config.genrecall = block.write()
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
        model = SidLanguageModel.from_pretrained(folder, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(folder, use_fast=True)
    except (OSError, ValueError) as error:
        raise UserError(f"generator.lm.checkpoint {folder} cannot be loaded: {error}") from error
    return model, tokenizer


def train_tokenizer(texts: Iterable[str], size: int) -> Any:
    """Qwen2's byte-level BPE learned from lower-cased `texts`; at most `size` ids. Any text can be written in it.

    It is Qwen2's class in every detail but the vocabulary, because `AutoTokenizer` would take it for that anyway.
    """
    lowered = (text.lower() for text in texts)
    return Qwen2Tokenizer().train_new_from_iterator(lowered, size, show_progress=False)
