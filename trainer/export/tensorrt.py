"""`search.onnx` and `score.onnx` -> TensorRT engines, with one optimization profile a batch and length.

The graphs are strongly typed: precision is that of the ONNX export. Table inputs may grow, so that an engine outlives
a refresh of the SIDs. Building needs no GPU with `tensorrt_rtx`, and the GPU that will run the engine with `tensorrt`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from genrecall import tensorrt
from genrecall.decoding.export_modules import PROMPT_INPUTS, SID_TREE_INPUTS
from genrecall.decoding.score import CHUNK
from genrecall.errors import UserError
from trainer.export.onnx import SCORE, SEARCH

MAX_RECENT = 100  # what `generator.user.recent` may be
GROWTH = 4  # how many times as many SIDs an engine takes as it was built with
ENGINES = {SEARCH: "search.engine", SCORE: "score.engine"}
CACHE = "timing.cache"
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Profile:
    """The largest batch, prompt and beam that one optimization profile takes, and the one it is tuned for."""

    batch: int
    length: int
    beams: int

    @classmethod
    def parse(cls, text: str) -> Profile:
        """`8x64x50`: batch, tokens, beams. Raises UserError."""
        try:
            batch, length, beams = map(int, text.split("x"))
        except ValueError:
            raise UserError(f"profile {text!r} is not BATCHxTOKENSxBEAMS, such as 8x64x50") from None
        if min(batch, length, beams) < 1 or beams > 3840:
            raise UserError(f"profile {text!r}: each number is at least 1, and TensorRT keeps at most 3840 beams")
        return cls(batch, length, beams)


def build(
    onnx: Path, folder: Path, arrays: Mapping[str, Mapping[str, np.ndarray]], profiles: Sequence[Profile]
) -> None:
    """Build both engines and the timing cache into `folder`.

    Args:
        onnx: the folder of an ONNX export.
        arrays: of each graph, example inputs, whose tables have the sizes of the codebook.
        profiles: at least one.

    Raises UserError where TensorRT is missing or refuses a graph.
    """
    trt = tensorrt.library()
    cache = b""
    for graph, name in ENGINES.items():
        plan, cache = _build(trt, onnx / graph, arrays[graph], profiles, cache)
        (folder / name).write_bytes(plan)
    (folder / CACHE).write_bytes(cache)


def _build(
    trt: Any, onnx: Path, arrays: Mapping[str, np.ndarray], profiles: Sequence[Profile], cache: bytes
) -> tuple[bytes, bytes]:
    """A plan and the timing cache, which makes the next build of the same layers quicker."""
    builder, network, logger = parse(trt, onnx)
    config = builder.create_builder_config()
    timings = config.create_timing_cache(cache)
    config.set_timing_cache(timings, False)
    for profile in profiles:
        shapes = builder.create_optimization_profile()
        for n in range(network.num_inputs):
            tensor = network.get_input(n)
            shapes.set_shape(tensor.name, *_range(tensor.name, arrays[tensor.name].shape, profile))
        config.add_optimization_profile(shapes)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise UserError(f"TensorRT could not build {onnx.name}: {logger.last}")
    return bytes(plan), bytes(timings.serialize())


def parse(trt: Any, onnx: Path) -> tuple[Any, Any, Any]:
    """Builder, network and logger. Raises UserError, with TensorRT's reasons, where it does not parse."""

    class Logger(trt.ILogger):
        """Keeps the last error, passes over notes such as 'has Int64 binding'."""

        def __init__(self) -> None:
            super().__init__()
            self.last = "no reason given"

        def log(self, severity: Any, message: str) -> None:
            if severity <= trt.ILogger.Severity.ERROR:
                self.last = message

    logger = Logger()
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(onnx)):
        reasons = "; ".join(str(parser.get_error(n)) for n in range(parser.num_errors))
        raise UserError(f"TensorRT does not parse {onnx}: {reasons}")
    return builder, network, logger


def _range(name: str, shape: Shape, profile: Profile) -> tuple[Shape, Shape, Shape]:
    """Least, usual and largest shape of an input."""
    if name == "start1":  # the root alone
        return shape, shape, shape
    if name == "beams":
        return (1,), (profile.beams,), (profile.beams,)
    if name in PROMPT_INPUTS:
        if name == "lexical":  # of every SID
            return (1, 1), (profile.batch, shape[1]), (profile.batch, GROWTH * shape[1])
        columns = {"profile": shape[1:], "wanted": shape[1:], "gate": (), "recent": (MAX_RECENT,)}.get(
            name, (profile.length,)
        )
        least = columns if name in ("profile", "wanted", "gate") else (1,)
        return (1, *least), (profile.batch, *columns), (profile.batch, *columns)
    if name in SID_TREE_INPUTS:
        return (1,), (CHUNK,), (CHUNK,)
    return (1, *shape[1:]), shape, (GROWTH * shape[0], *shape[1:])
