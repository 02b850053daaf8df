"""What sentence-transformers may put behind pooling, read from and written to its folders.

The modules compute in float32, whatever the transformer does.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from genrecall.encoder_layout import json_of
from genrecall.errors import UserError

WEIGHTS = "model.safetensors"
ACTIVATIONS = {kind.__name__: kind for kind in (nn.Identity, nn.Tanh, nn.ReLU, nn.GELU, nn.SiLU, nn.Sigmoid)}


class Dense(nn.Module):
    """[n, in] -> [n, out]: linear, then an activation."""

    def __init__(self, inputs: int, outputs: int, bias: bool, activation: str) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs, bias)
        self.activation = ACTIVATIONS[activation]()

    def forward(self, vectors: Tensor) -> Tensor:
        out: Tensor = self.activation(self.linear(vectors))
        return out

    @property
    def about(self) -> dict[str, object]:
        kind, linear = type(self.activation), self.linear
        return {
            "in_features": linear.in_features,
            "out_features": linear.out_features,
            "bias": linear.bias is not None,
            "activation_function": f"{kind.__module__}.{kind.__qualname__}",
        }


class LayerNorm(nn.Module):
    """[n, dim] -> [n, dim]."""

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dimension)

    def forward(self, vectors: Tensor) -> Tensor:
        out: Tensor = self.norm(vectors)
        return out

    @property
    def about(self) -> dict[str, object]:
        return {"dimension": self.norm.normalized_shape[0]}


class Normalize(nn.Module):
    """[n, dim] -> [n, dim] of unit length."""

    @property
    def about(self) -> dict[str, object]:
        return {}

    def forward(self, vectors: Tensor) -> Tensor:
        return nn.functional.normalize(vectors, dim=-1)


Part = Dense | LayerNorm | Normalize


def read_head(parts: Sequence[tuple[str, Path]]) -> list[Part]:
    """The modules of (class, folder) pairs. Raises UserError, naming the file, for what cannot be read or computed."""
    return [_read(kind, folder) for kind, folder in parts]


def write_head(parts: Iterable[Part], folder: Path) -> list[tuple[str, str]]:
    """Write each module below `folder`; returns their classes and folders, as modules.json lists them."""
    from safetensors.torch import save_file

    written = []
    for number, part in enumerate(parts, 2):
        kind = type(part).__name__
        place = f"{number}_{kind}"
        (folder / place).mkdir(exist_ok=True)
        (folder / place / "config.json").write_text(json.dumps(part.about))
        if weights := {name: weight.contiguous() for name, weight in part.state_dict().items()}:
            save_file(weights, folder / place / WEIGHTS)
        written.append((kind, place))
    return written


def _read(kind: str, folder: Path) -> Part:
    if kind == "Normalize":
        return Normalize()
    path = folder / "config.json"
    config = json_of(path)
    try:
        part = LayerNorm(config["dimension"]) if kind == "LayerNorm" else _dense(config, path)
    except (KeyError, TypeError) as error:
        raise UserError(f"{path} does not describe a {kind} ({error!r}): download the checkpoint again") from None
    _fill(part, folder / WEIGHTS)
    return part


def _dense(config: dict[str, object], path: Path) -> Dense:
    name = str(config.get("activation_function", "torch.nn.modules.activation.Tanh"))
    activation = name.rpartition(".")[2]
    plain = config.get("module_input_name", "sentence_embedding") == "sentence_embedding"
    if not name.startswith("torch.nn.") or activation not in ACTIVATIONS or not plain or config.get("use_residual"):
        raise UserError(
            f"{path} asks for more than a matrix and one of the activations {', '.join(ACTIVATIONS)}: that is not "
            "supported, choose another encoder.checkpoint"
        )
    return Dense(config["in_features"], config["out_features"], config.get("bias", True), activation)  # type: ignore[arg-type]


def _fill(part: Part, path: Path) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        weights = load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"{path} cannot be read ({error}): save the model again with a current sentence-transformers, which writes "
            "safetensors"
        ) from None
    try:
        part.load_state_dict({name: weight.to(torch.float32) for name, weight in weights.items()})
    except RuntimeError as error:
        raise UserError(f"{path} does not fit its config.json: {error}") from None
