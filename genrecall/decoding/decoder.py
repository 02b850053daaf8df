"""A lean Qwen2 decoder whose beams share one prefix.

Owns the arithmetic of the layers and the keys and values. Weights carry Hugging Face's names (`model.*`), so that a
state dict of `Qwen2Model` loads as it is. The output head and the search are next door (`heads`, `search`).

Beams are query rows over [prefix | step 1 | step 2]: a mask says which earlier row is a beam's ancestor, so no key or
value is ever copied per beam or reordered, and three SID tokens take one prefill and two forwards of `beam width`
rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genrecall.errors import UserError

MASKED = -1e9  # finite, so that a row with nothing to attend to gives numbers rather than NaN


@dataclass(frozen=True)
class DecoderConfig:
    """The numbers of a Qwen2 `config.json` that the decoder needs."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    rms_norm_eps: float
    rope_theta: float

    @classmethod
    def read(cls, config: Mapping[str, Any]) -> DecoderConfig:
        """From a parsed config.json. Raises UserError for a variant that this decoder does not compute."""
        rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
        kind = rope.get("rope_type", rope.get("type", "default"))
        refusals = {
            "model_type": config.get("model_type") != "qwen2",
            "rope_parameters": kind != "default",
            "use_sliding_window": bool(config.get("use_sliding_window")),
            "hidden_act": config.get("hidden_act", "silu") != "silu",
        }
        if wrong := [key for key, refused in refusals.items() if refused]:
            values = ", ".join(f"{key}={config.get(key)!r}" for key in wrong)
            raise UserError(f"generator config.json has {values}: only plain Qwen2 decoders can be served")
        heads = config["num_attention_heads"]
        return cls(
            config["vocab_size"],
            config["hidden_size"],
            config["intermediate_size"],
            config["num_hidden_layers"],
            heads,
            config.get("num_key_value_heads") or heads,
            config.get("head_dim") or config["hidden_size"] // heads,
            config.get("rms_norm_eps", 1e-6),
            rope.get("rope_theta", config.get("rope_theta", 10000.0)),
        )


KeyValues = tuple[tuple[Tensor, Tensor], ...]
"""Of each layer, keys and values [B, kv heads, rows, head_dim]. Never written to: a step gives longer ones, which costs
a copy that is small beside the weights, and lets a search be exported, captured, or continued twice from one prefix."""


class RMSNorm(nn.Module):
    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        if x.is_cuda:  # one kernel, which computes in float32 too and rounds once, behind the weight
            return F.rms_norm(x, x.shape[-1:], self.weight, self.eps)
        return self.weight * F.rms_norm(x.float(), x.shape[-1:], eps=self.eps).to(x.dtype)


class Attention(nn.Module):
    """Grouped-query attention. Query heads of a group become rows, so keys and values are never repeated."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.groups = config.num_key_value_heads
        self.per_group = config.num_attention_heads // config.num_key_value_heads
        self.head_dim = config.head_dim
        queries, keys = config.num_attention_heads * config.head_dim, self.groups * config.head_dim
        self.q_proj = nn.Linear(config.hidden_size, queries)
        self.k_proj = nn.Linear(config.hidden_size, keys)
        self.v_proj = nn.Linear(config.hidden_size, keys)
        self.o_proj = nn.Linear(queries, config.hidden_size, bias=False)
        self.packed = False

    def pack(self) -> None:
        """One product and one rotation in place of three and two: see `Decoder.pack`."""
        self.qkv_proj = stacked(self.q_proj, self.k_proj, self.v_proj)
        del self.q_proj, self.k_proj, self.v_proj
        self.packed = True

    def project(self, x: Tensor, rope: tuple[Tensor, Tensor], last: int) -> tuple[Tensor, Tensor, Tensor]:
        """Rotated queries [B, groups, per_group, last, head_dim] of the last rows of x, and rotated keys and values
        [B, groups, T, head_dim] of all.
        """
        batch, rows, _ = x.shape
        if self.packed:
            heads = self.groups * self.per_group
            qkv = self.qkv_proj(x).view(batch, rows, heads + 2 * self.groups, self.head_dim).transpose(1, 2)
            rotated = rotate(qkv[:, : heads + self.groups], rope)
            q = rotated[:, :heads, rows - last :].unflatten(1, (self.groups, self.per_group))
            return q, rotated[:, heads:], qkv[:, heads + self.groups :]
        q = self.q_proj(x[:, rows - last :]).view(batch, last, self.groups, self.per_group, self.head_dim)
        q = rotate(q.permute(0, 2, 3, 1, 4), tuple(r[:, :, rows - last :].unsqueeze(1) for r in rope))
        keys = rotate(self.k_proj(x).view(batch, rows, self.groups, self.head_dim).transpose(1, 2), rope)
        return q, keys, self.v_proj(x).view(batch, rows, self.groups, self.head_dim).transpose(1, 2)

    def forward(
        self, x: Tensor, rope: tuple[Tensor, Tensor], mask: Tensor, past: tuple[Tensor, Tensor] | None, last: int
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """The output [B, last, hidden] of the last rows of x [B, T, hidden], and keys and values with those of x behind
        `past`. mask: [B, 1, per_group * last, L].
        """
        batch = x.shape[0]
        q, keys, values = self.project(x, rope, last)
        if past is not None:
            keys, values = torch.cat((past[0], keys), 2), torch.cat((past[1], values), 2)
        q = q.reshape(batch, self.groups, self.per_group * last, self.head_dim)
        out = F.scaled_dot_product_attention(q, keys, values, attn_mask=mask)
        out = out.view(batch, self.groups, self.per_group, last, self.head_dim).permute(0, 3, 1, 2, 4)
        return self.o_proj(out.reshape(batch, last, -1)), (keys, values)


class MLP(nn.Module):
    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)
        self.packed = False

    def pack(self) -> None:
        self.gate_up_proj = stacked(self.gate_proj, self.up_proj)
        del self.gate_proj, self.up_proj
        self.packed = True

    def forward(self, x: Tensor) -> Tensor:
        if self.packed:
            gate, up = self.gate_up_proj(x).chunk(2, dim=-1)
            return self.down_proj(F.silu(gate) * up)
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.self_attn = Attention(config)
        self.mlp = MLP(config)
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(
        self, x: Tensor, rope: tuple[Tensor, Tensor], mask: Tensor, past: tuple[Tensor, Tensor] | None, last: int
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        added, keys_values = self.self_attn(self.input_layernorm(x), rope, mask, past, last)
        x = x[:, x.shape[1] - last :] + added
        return x + self.mlp(self.post_attention_layernorm(x)), keys_values


class Decoder(nn.Module):
    """`Qwen2Model` without its generality: embeddings in, last hidden states out."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def pack(self) -> None:
        """Stack matrices that read the same rows, in place, for a device where launches cost more than products.

        The state dict is then no longer that of Hugging Face.
        """
        for module in self.modules():
            if isinstance(module, Attention | MLP):
                module.pack()

    def forward(
        self,
        embeds: Tensor,
        positions: Tensor,
        visible: Tensor,
        past: KeyValues | None = None,
        last: int | None = None,
    ) -> tuple[Tensor, KeyValues]:
        """Final hidden states of T new rows that stand behind the rows of `past`, and the keys and values of all.

        Args:
            embeds: [B, T, hidden].
            positions: int64 [B, T], for the rotary embedding.
            visible: bool [B, T, L]: which of the L rows (those of `past`, then these T) each row attends to.
            last: how many rows, counted from the end, to return: [B, last, hidden]; None: all. The others are not
                computed beyond what the last layer needs of them.
        """
        dtype, rows = embeds.dtype, embeds.shape[1]
        hidden = max(MASKED, torch.finfo(dtype).min)  # float16 has no -1e9, and an infinity would make NaN of padding
        seen = visible.shape[-1]
        if embeds.is_cuda:  # rows of a multiple of 16 bytes, or the attention of each layer copies the mask into such
            visible = F.pad(visible, (0, -seen % 16))
        mask = torch.where(visible, 0.0, hidden).to(dtype).unsqueeze(1)
        per_group = self.config.num_attention_heads // self.config.num_key_value_heads
        of_all = mask.repeat(1, 1, per_group, 1)[..., :seen]
        rope = rotary(positions, self.config.head_dim, self.config.rope_theta, dtype)
        x, key_values = embeds, []
        for n, layer in enumerate(self.layers):
            final = n == len(self.layers) - 1 and last is not None
            kept = last if final and last is not None else rows
            layer_mask = mask[:, :, rows - kept :].repeat(1, 1, per_group, 1)[..., :seen] if final else of_all
            x, of_layer = layer(x, rope, layer_mask, None if past is None else past[n], kept)
            key_values.append(of_layer)
        return self.norm(x), tuple(key_values)


def stacked(*parts: nn.Linear) -> nn.Linear:
    """One layer whose outputs are those of `parts`, one after another; all with a bias, or none."""
    with torch.device("meta"):
        out = nn.Linear(parts[0].in_features, sum(p.out_features for p in parts), bias=parts[0].bias is not None)
    weights = {name: torch.cat([p.get_parameter(name) for p in parts]) for name, _ in out.named_parameters()}
    out.load_state_dict(weights, assign=True)
    return out.requires_grad_(False)


def rotary(positions: Tensor, head_dim: int, theta: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Cosines and sines [B, 1, T, head_dim] of int64 positions [B, T], computed in float32."""
    steps = torch.arange(0, head_dim, 2, device=positions.device, dtype=torch.float32) / head_dim
    angles = positions.unsqueeze(-1).float() * theta**-steps
    angles = torch.cat((angles, angles), dim=-1).unsqueeze(1)
    return angles.cos().to(dtype), angles.sin().to(dtype)


def rotate(x: Tensor, rope: tuple[Tensor, ...]) -> Tensor:
    """Rotary position embedding, halves convention. x [..., T, head_dim]; cos and sin broadcast to it."""
    cos, sin = rope
    left, right = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-right, left), dim=-1) * sin
