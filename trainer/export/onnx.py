"""A generator -> `search.onnx` and `score.onnx` over one file of weights.

Each is one graph without control flow: a single run answers a batch. Batch, prompt length, beam width and every size
of the constraint tables are dynamic, and the tables are inputs (`genrecall.decoding.export_modules`), so a new list of
SIDs needs no new graph. Weights are float32, float16 or bfloat16; int8 is a float32 export whose matrices are
quantized.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import torch

from genrecall import files
from genrecall.bundle import Bundle
from genrecall.decoding import Generator
from genrecall.decoding.export_modules import (
    Arrays,
    ModuleInputs,
    Positional,
    ScoreModule,
    SearchModule,
)
from genrecall.errors import UserError

Precision = Literal["float32", "float16", "bfloat16", "int8"]
OPSET = 20  # 23 has RMSNormalization and Attention nodes, which ONNX Runtime 1.32 runs slower on a CPU than the parts
SEARCH, SCORE, WEIGHTS = "search.onnx", "score.onnx", "weights.bin"
GRAPHS = (SEARCH, SCORE)
_SMALL = 1024  # bytes
_TEXTS = ("two texts", "of different length, so that no size is taken for a constant")


def write(generator: Generator, folder: Path, names: Sequence[str] = GRAPHS) -> None:
    """Write the graphs into `folder`.

    Args:
        generator: on the CPU, its weights of the precision to export.
        names: of GRAPHS.

    Raises UserError for a generator whose search is not one graph.
    """
    user = generator.user
    if user is not None and user.related:
        raise UserError(
            f"generator.user.related is {user.related}: which of a user's SIDs count takes a search of its own, "
            "which is not part of the graph. Train with related=0, or serve with --engine torch"
        )
    made = {
        SEARCH: lambda: _export(SearchModule(generator), search_arrays(generator)),
        SCORE: lambda: _export(ScoreModule(generator), score_arrays(generator)),
    }
    with _quiet():
        _save({name: made[name]() for name in names}, folder)


def search_arrays(generator: Generator) -> Arrays:
    """Inputs to trace the search with."""
    return {**_traced(ModuleInputs.of(generator), _TEXTS), "beams": np.arange(3)}


def score_arrays(generator: Generator) -> Arrays:
    """Inputs to trace the scoring with: rows of every table, no two of them equally many."""
    inputs = ModuleInputs.of(generator)
    rows = np.unique(np.linspace(0, len(generator.space) - 1, 7).astype(np.int64))
    return {**_traced(inputs, _TEXTS[1:]), **inputs.trees(rows)[0]}


def _traced(inputs: ModuleInputs, texts: Sequence[str]) -> Arrays:
    return {**inputs.prompts(inputs.request_tokenizer(texts)), **inputs.of_codebook}


def _export(module: SearchModule | ScoreModule, arrays: Mapping[str, np.ndarray]) -> Any:
    """The graph as an `onnx_ir.Model`."""
    names = list(arrays)
    program = torch.onnx.export(
        Positional(module, names).eval(),
        tuple(torch.from_numpy(a) for a in arrays.values()),
        input_names=names,
        output_names=list(module.outputs),
        dynamic_shapes=(tuple(_dynamic(name) for name in names),),
        opset_version=OPSET,
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    return program.model


def _dynamic(name: str) -> dict[int, Any] | None:
    """Which dimensions vary. `start1` always has the root alone."""
    two = ("ids", "mask", "recent", "lexical")
    return None if name == "start1" else {d: torch.export.Dim.DYNAMIC for d in range(2 if name in two else 1)}


def _save(graphs: Mapping[str, Any], folder: Path) -> None:
    """Write the models with all their weights in one file, each matrix once however many graphs have it."""
    import onnx_ir as ir

    places: dict[str, tuple[int, int]] = {}
    with (folder / WEIGHTS).open("wb") as file:
        for model in graphs.values():
            for node in model.graph:
                node.metadata_props.clear()  # the exporter's stack traces
            for value in model.graph.initializers.values():
                tensor = value.const_value
                if tensor.nbytes < _SMALL:  # constants that shapes are inferred from stay in the graph
                    continue
                offset, length = _place(tensor.tobytes(), places, file)
                value.const_value = ir.ExternalTensor(
                    WEIGHTS, offset, length, tensor.dtype, shape=tensor.shape, name=value.name, base_dir=folder
                )
    for name, model in graphs.items():
        ir.save(model, folder / name)


def _place(content: bytes, places: dict[str, tuple[int, int]], file: BinaryIO) -> tuple[int, int]:
    """Offset and length of `content` in the file, written where it is not there yet, on a page of its own."""
    key = files.sha256_of([content])
    if key not in places:
        file.seek(-file.tell() % 4096, os.SEEK_CUR)
        places[key] = file.tell(), len(content)
        file.write(content)
    return places[key]


def quantize(exact: Path, folder: Path) -> None:
    """The graphs of a float32 export with their matrices in int8: one scale a column, activations scaled as they come.

    Seven bits of weights, because x86 without VNNI adds pairs of products in 16 bits. On a CPU with VNNI the eighth
    would be free; not worth a second file.
    """
    import onnx_ir as ir
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".quantized.") as apart, _quiet():
        for name in GRAPHS:
            quantize_dynamic(
                exact / name,
                Path(apart) / name,
                use_external_data_format=True,  # a protobuf ends at 2 GB
                op_types_to_quantize=["MatMul"],
                per_channel=True,
                reduce_range=True,
                weight_type=QuantType.QInt8,
                extra_options={"MatMulConstBOnly": True},
            )
        # Each graph came with weights of its own, most of them the same: once in one file, as in the float32 export.
        _save({name: ir.load(Path(apart) / name) for name in GRAPHS}, folder)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's progress and its notes on operators that we do not have to itself."""
    loggers = [logging.getLogger(name) for name in ("", "torch.onnx", "torch.__trace", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def load(bundle: Bundle, precision: Precision) -> Generator:
    """The generator of a bundle with weights to export."""
    dtype = torch.float32 if precision == "int8" else getattr(torch, precision)
    return Generator.load(bundle.generator_dir, bundle.space, "cpu", dtype)
