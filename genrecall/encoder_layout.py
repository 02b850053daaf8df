"""What the JSON files of a sentence encoder's folder say, in the layout of sentence-transformers or without it.

Loads neither torch nor transformers. What is computed from it is `genrecall.decoding.text_encoder`'s.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from genrecall.checkpoints import MODULES
from genrecall.errors import UserError

PROMPTS = "config_sentence_transformers.json"
POOLINGS = ("mean", "cls")
HEAD = ("Dense", "LayerNorm", "Normalize")
ITEM_PROMPTS = ("document", "passage", "corpus")  # names under which the prompt for what is searched is kept


class Prefixes(NamedTuple):
    """What is written before each text, by its kind: E5 and others were trained with "query: " and "passage: "."""

    query: str = ""
    item: str = ""


@dataclass(frozen=True)
class EncoderLayout:
    """Attributes:
    transformer: the folder of weights, tokenizer and config.json.
    pooling: "mean" over the tokens, or "cls", the first one.
    head: what follows pooling: (`Dense`, `LayerNorm` or `Normalize`, its folder).
    max_tokens: of a text, where the folder has a limit.
    lowercase: texts are lower-cased before the tokenizer sees them.
    dim: of the vectors.
    """

    transformer: Path
    pooling: str
    head: tuple[tuple[str, Path], ...]
    max_tokens: int | None
    lowercase: bool
    prefixes: Prefixes
    dim: int

    @classmethod
    def read(cls, folder: Path) -> EncoderLayout:
        """Raises UserError, naming the file, for one that is no JSON or asks for what we do not compute."""
        transformer, pooling, head = _modules(folder)
        about = json_of(transformer / "config.json")
        own = next((json_of(path) for path in sorted(transformer.glob("sentence_*_config.json"))), {})
        if (task := own.get("transformer_task", "feature-extraction")) != "feature-extraction":
            raise UserError(f"{transformer} was saved for the task {task!r}: only encoders of texts are read")
        mode, dim = _pooling(pooling) if pooling else ("mean", None)
        for kind, place in head:
            dim = json_of(place / "config.json").get("out_features") if kind == "Dense" else dim
        dim = dim or next((about[key] for key in ("hidden_size", "dim", "d_model") if key in about), None)
        if not isinstance(dim, int):
            raise UserError(f"{transformer / 'config.json'} names no hidden_size: it is no sentence encoder")
        limit = own.get("max_seq_length")
        return cls(
            transformer=transformer,
            pooling=mode,
            head=head,
            max_tokens=limit if isinstance(limit, int) else None,
            lowercase=bool(own.get("do_lower_case")),
            prefixes=read_prefixes(folder),
            dim=dim,
        )


def read_prefixes(folder: Path) -> Prefixes:
    """Of an encoder's folder: the prompt kept under the name of queries or items, else the default one, else none.

    Deviation from sentence-transformers 6, whose `encode_document` overlooks "passage" and "corpus".
    """
    path = folder / PROMPTS
    about = json_of(path) if path.is_file() else {}
    prompts, default = about.get("prompts") or {}, about.get("default_prompt_name")
    if not isinstance(prompts, dict) or not all(isinstance(text, str | None) for text in prompts.values()):
        raise UserError(f"{path} has prompts that are no texts: download the checkpoint again")
    if default is not None and default not in prompts:
        raise UserError(f"{path} has default_prompt_name {default!r}, which is not among its prompts {[*prompts]}")
    always = prompts.get(default) or ""
    item = next((prompts[name] for name in ITEM_PROMPTS if prompts.get(name)), always)
    return Prefixes(prompts.get("query") or always, item)


def json_of(path: Path) -> dict[str, Any]:
    """A JSON object. Raises UserError, naming the file, for anything else."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UserError(f"{path} is not JSON ({error}): download the checkpoint again") from None
    if not isinstance(value, dict):
        raise UserError(f"{path} is not a JSON object: download the checkpoint again")
    return value


def _modules(folder: Path) -> tuple[Path, Path | None, tuple[tuple[str, Path], ...]]:
    """The folder of the transformer, of the pooling, and class and folder of each module behind it."""
    path = folder / MODULES
    if not path.is_file():
        pooling = folder / "1_Pooling"  # bundles of before have it without modules.json
        return folder, pooling if pooling.is_dir() else None, ()
    try:
        listed = json.loads(path.read_text(encoding="utf-8"))  # its order counts for the library too, not `idx`
        found = [(module["type"].rpartition(".")[2], folder / module["path"]) for module in listed]
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{path} is not a list of modules ({error!r}): download the checkpoint again") from None
    names = [name for name, _ in found]
    if names[:2] != ["Transformer", "Pooling"] or not set(names[2:]) <= set(HEAD):
        raise UserError(
            f"{path} lists {', '.join(names)}: supported are Transformer and Pooling, then any of {', '.join(HEAD)}; "
            "choose another encoder.checkpoint"
        )
    return found[0][1], found[1][1], tuple(found[2:])


def _pooling(folder: Path) -> tuple[str, int | None]:
    """The mode, in either generation of the format, and the size of a token's state."""
    path = folder / "config.json"
    config = json_of(path)
    if "pooling_mode" in config:
        given = config["pooling_mode"]
        modes = given if isinstance(given, list) else [given]
    else:
        names = {"pooling_mode_cls_token": "cls", "pooling_mode_mean_tokens": "mean"}
        modes = [names.get(k, k) for k, v in config.items() if k.startswith("pooling_mode_") and v] or ["mean"]
    if len(modes) != 1 or modes[0] not in POOLINGS:
        raise UserError(f"{path} asks for pooling {modes}: only 'mean' or 'cls' alone is supported")
    if config.get("include_prompt") is False:
        raise UserError(f"{path} leaves the prompt out of pooling (include_prompt), which is not supported")
    return modes[0], config.get("embedding_dimension", config.get("word_embedding_dimension"))
