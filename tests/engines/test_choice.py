"""Which engine is opened, and what is said where it cannot be."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from genrecall import bundle, tensorrt
from genrecall.bundle import Bundle
from genrecall.errors import BundleError, UserError
from inference_server.engines import create_engine
from inference_server.engines.onnx_engine import CUDA, Session
from trainer.export.onnx import SCORE, SEARCH


def copy(made: Bundle, folder: Path) -> Bundle:
    shutil.copytree(made.path, folder / "v1")
    return bundle.open(folder / "v1")


def test_auto_takes_the_export_where_there_is_one(lm_bundle: Bundle, tmp_path: Path) -> None:
    assert create_engine(lm_bundle, "cpu").name == "onnx-cpu-float32"
    without = copy(lm_bundle, tmp_path)
    shutil.rmtree(without.path / "onnx")
    assert create_engine(without, "cpu").name == "torch-cpu-float32"


def test_what_is_not_there_is_said_with_the_remedy(encoder_bundle: Bundle) -> None:
    with pytest.raises(BundleError, match=r"has no onnx/int8: make it with `genrecall export`"):
        create_engine(encoder_bundle, "cpu", "onnx", "int8")
    with pytest.raises(UserError, match=r"server\.dtype is 'int8', but torch serves float32, bfloat16, float16"):
        create_engine(encoder_bundle, "cpu", "torch", "int8")
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="needs a CUDA device"):
            create_engine(encoder_bundle, "auto", "tensorrt")
        with pytest.raises(UserError, match=r"server.device is 'cuda'.*no CUDA"):
            create_engine(encoder_bundle, "cuda", "torch")


@pytest.mark.parametrize("damage", ["altered", "truncated", "foreign"])
def test_a_damaged_export_is_refused_even_by_auto(lm_bundle: Bundle, tmp_path: Path, damage: str) -> None:
    made = copy(lm_bundle, tmp_path)
    graph, manifest = made.path / "onnx/float32/search.onnx", made.path / "onnx/float32/manifest.json"
    content = graph.read_bytes()
    if damage == "foreign":
        manifest.write_text(manifest.read_text().replace(made.model, "lm-0000000000"))
    else:
        graph.write_bytes(content[:-100] if damage == "truncated" else content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(BundleError, match="made from v1's lm-0000000000" if damage == "foreign" else "search.onnx"):
        create_engine(made, "cpu")
    faults = list(bundle.verify(made.path))
    assert (damage == "foreign") or any("onnx/float32: search.onnx" in fault for fault in faults)


def test_without_tensorrt_the_message_says_where_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorrt, "_MODULES", ("no_such_tensorrt",))
    with pytest.raises(UserError, match="TensorRT is not installed: pip install tensorrt"):
        tensorrt.library()


def test_a_provider_that_does_not_load_is_an_error_and_no_slower_answer(lm_bundle: Bundle) -> None:
    """onnxruntime itself goes on with the CPU."""
    path = lm_bundle.path / "onnx/float32/search.onnx"
    with pytest.raises(UserError, match="could not load CUDAExecutionProvider"):
        Session(path, CUDA, 0, 1, {})


def test_an_export_that_cannot_read_the_memory_is_refused_and_gives_no_worse_answer(
    encoder_bundle: Bundle, tmp_path: Path
) -> None:
    made, before = copy(encoder_bundle, tmp_path), tmp_path / "before"
    (made.path / "onnx/float32").rename(before)

    def as_earlier_versions_did(to: Path) -> dict[str, object]:
        shutil.copytree(before, to, dirs_exist_ok=True, ignore=shutil.ignore_patterns("manifest.json"))
        for name in (SEARCH, SCORE):
            graph = onnx.load(before / name, load_external_data=False)
            graph.graph.input.remove(next(node for node in graph.graph.input if node.name == "wanted"))
            graph.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros((1, 16), np.float32), "wanted"))
            onnx.save(graph, to / name)
        return {}

    bundle.attach(made, "onnx/float32", as_earlier_versions_did)
    with pytest.raises(UserError, match=r"onnx/float32 is of a version that knew no memory.*`genrecall export`"):
        create_engine(made, "cpu", "onnx")
    assert bundle.detach(made, bundle.MEMORY)
    assert create_engine(made, "cpu", "onnx").name == "onnx-cpu-float32"
