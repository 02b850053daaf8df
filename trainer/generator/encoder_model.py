"""The `encoder` kind while it is trained: projection of a cached text vector, Qwen2 layers, level heads, dense prior.

Weights are Hugging Face's modules under Hugging Face's names; `genrecall.decoding` reads what `save` writes.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import Qwen2Config, Qwen2Model

from genrecall.config.generator import DecoderSection
from genrecall.decoding.config import CONFIG, WEIGHTS, GeneratorConfig
from genrecall.decoding.dense_prior import DensePrior
from genrecall.decoding.heads import LevelHeads
from genrecall.decoding.prefix_embedder import encoder_prefix
from genrecall.decoding.search import Prefix
from genrecall.decoding.tables import ConstraintTables
from genrecall.decoding.user_prefix import UserPrefix, Users
from trainer.generator.policy import Policy


class EncoderModel(nn.Module):
    """The user's embeddings, one vector of the query, then the SID's first two tokens.

    Args:
        config: of the decoder; its vocabulary is the three levels, one after another.
        dim: of the text vectors.
        tables: on the device of training.
        prior: already filled, or None. With a prior the heads start at zero: step 0 is the prior's search.
        user: None for a generator trained without users.
    """

    def __init__(
        self,
        config: Qwen2Config,
        dim: int,
        level_sizes: tuple[int, int, int],
        tables: ConstraintTables,
        prior: DensePrior | None,
        dropout: float,
        user: UserPrefix | None = None,
    ) -> None:
        super().__init__()
        self.backbone = Qwen2Model(config)
        self.projection = nn.Linear(dim, config.hidden_size)
        head = nn.Parameter(torch.zeros(sum(level_sizes), config.hidden_size))
        if prior is None:
            nn.init.normal_(head, std=config.initializer_range)
        offsets = (0, level_sizes[0], level_sizes[0] + level_sizes[1])
        self.heads = LevelHeads(head, offsets, level_sizes, "children", prior)
        self.dropout = nn.Dropout(dropout)
        self.tables = tables
        self.user = user
        tokens = tables.sids + torch.tensor(offsets, device=tables.sids.device)
        self.register_buffer("tokens", tokens, persistent=False)
        add_residual_dropout(self.backbone, dropout)

    @property
    def policy(self) -> Policy:
        return Policy(self.backbone, self.heads, self.tables, self.dropout)

    def forward(self, sid: Tensor, **inputs: Tensor) -> dict[str, Tensor]:
        """sid int64 [B, G] and what `prefix` takes -> {"loss": mean negative log-likelihood of the SIDs}."""
        return {"loss": -self.policy.log_probs(self.prefix(**inputs), sid).sum(-1).mean()}

    def prefix(self, text: Tensor, profile: Tensor | None = None, recent: Tensor | None = None) -> Prefix:
        """What the search starts from. text float32 [B, dim]; profile int64 [B, 2], recent int64 [B, H]: `Users`."""
        users = None if profile is None or recent is None else Users(profile, recent)
        return encoder_prefix(
            text,
            self.projection,
            users,
            self.user,
            self.get_buffer("tokens"),
            self.heads.prior,
            self.backbone.embed_tokens,
        )

    def save(self, folder: Path, config: GeneratorConfig) -> None:
        """config.json and model.safetensors; node vectors as float16, to which `fill` has rounded them already."""
        folder.mkdir(parents=True, exist_ok=True)
        own = {"architectures": [type(self).__name__], "genrecall": config.write()}
        whole = {**self.backbone.config.to_dict(), **own}
        (folder / CONFIG).write_text(json.dumps(whole, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        weights = {f"model.{key}": value for key, value in self.backbone.state_dict().items()}
        weights |= {f"projection.{key}": value for key, value in self.projection.state_dict().items()}
        if self.user is not None:
            weights |= {f"user.{key}": value for key, value in self.user.state_dict().items()}
        weights["lm_head.weight"] = self.heads.weight
        if self.heads.prior is not None:
            weights |= {f"prior.{key}": value for key, value in self.heads.prior.state_dict().items()}
            weights = {k: w.half() if k.startswith("prior.vectors") else w for k, w in weights.items()}
        save_file({key: w.detach().cpu().contiguous() for key, w in weights.items()}, folder / WEIGHTS)


def decoder_config(section: DecoderSection, vocab_size: int, tied: bool) -> Qwen2Config:
    """A Qwen2 of the given size."""
    return Qwen2Config(
        vocab_size=vocab_size,
        hidden_size=section.hidden,
        intermediate_size=section.intermediate,
        num_hidden_layers=section.layers,
        num_attention_heads=section.heads,
        num_key_value_heads=section.kv_heads,
        max_position_embeddings=512,
        attention_dropout=section.dropout,
        tie_word_embeddings=tied,
        bos_token_id=None,
        eos_token_id=None,
    )


def add_residual_dropout(model: Qwen2Model, p: float) -> None:
    """Dropout on what attention and MLP add to the stream, which Qwen2 itself lacks; without effect in eval mode."""

    def drop(module: nn.Module, _: object, output: Tensor | tuple[Tensor, ...]) -> Tensor | tuple[Tensor, ...]:
        if isinstance(output, tuple):
            return (nn.functional.dropout(output[0], p, module.training), *output[1:])
        return nn.functional.dropout(output, p, module.training)

    for layer in model.layers:
        for part in ("self_attn", "mlp"):
            layer.get_submodule(part).register_forward_hook(drop)
