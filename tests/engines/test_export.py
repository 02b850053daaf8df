"""Exports as files: whole, comparable, free of this machine, and good for other SIDs than those they were made with."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from genrecall import bundle, tensorrt
from genrecall.bundle import Bundle
from genrecall.decoding import Generator
from genrecall.decoding.export_modules import ModuleInputs
from genrecall.errors import UserError
from genrecall.sid import SidSpace
from inference_server.engines.onnx_engine import OnnxEngine
from tests.cli.test_examples import EXAMPLES
from tests.engines.conftest import QUERIES
from trainer.export.attach import attach_onnx, attach_tensorrt
from trainer.export.check import on_cuda
from trainer.export.onnx import write
from trainer.export.tensorrt import Profile, parse


def test_the_manifest_tells_how_the_export_compares(exported: Bundle) -> None:
    compared = bundle.attached(exported, "onnx/float32")["compared"]
    assert compared["queries"] == len(QUERIES)
    assert compared["same_first"] == compared["overlap"] == 1.0
    assert compared["largest_difference"] < 1e-3


def test_a_graph_has_no_control_flow_and_no_path_of_this_machine(exported: Bundle) -> None:
    folder = exported.path / "onnx/float32"
    for name in ("search.onnx", "score.onnx"):
        model = onnx.load(folder / name, load_external_data=False)
        assert not {"Loop", "If", "Scan", "NonZero"} & {node.op_type for node in model.graph.node}
        assert os.getcwd().encode() not in (folder / name).read_bytes()


def test_both_graphs_share_one_file_of_weights(lm_bundle: Bundle) -> None:
    sizes = {f.name: f.stat().st_size for f in (lm_bundle.path / "onnx/float32").iterdir()}
    generator = (lm_bundle.generator_dir / "model.safetensors").stat().st_size
    assert sizes["weights.bin"] < 2.2 * generator, "matrices once, apart from transposed copies"


def test_int8_has_its_weights_once_too_and_fewer_of_them(lm_bundle: Bundle) -> None:
    exact, light = (lm_bundle.path / "onnx" / precision for precision in ("float32", "int8"))
    assert {path.name for path in light.iterdir()} == {path.name for path in exact.iterdir()}
    assert (light / "weights.bin").stat().st_size < (exact / "weights.bin").stat().st_size
    assert not list(light.parent.glob(".*"))
    for name in ("search.onnx", "score.onnx"):
        assert os.getcwd().encode() not in (light / name).read_bytes()


def test_int8_is_not_made_from_an_export_that_is_damaged_or_of_another_generator(
    lm_bundle: Bundle, tmp_path: Path
) -> None:
    shutil.copytree(lm_bundle.path, tmp_path / "v1")
    shutil.rmtree(tmp_path / "v1/onnx/int8")
    copy, exact = bundle.open(tmp_path / "v1"), tmp_path / "v1/onnx/float32"
    manifest = json.loads((exact / "manifest.json").read_text())
    (exact / "manifest.json").write_text(json.dumps(manifest | {"model": "lm-another"}))
    with pytest.raises(
        UserError, match=r"made from v1's lm-another: make it again with `genrecall export`.*--dtype float32"
    ):
        attach_onnx(copy, "int8", QUERIES)
    (exact / "manifest.json").write_text(json.dumps(manifest))
    with (exact / "weights.bin").open("r+b") as file:
        file.write(b"damage")
    with pytest.raises(UserError, match=r"weights\.bin was altered.*--dtype float32"):
        attach_onnx(copy, "int8", QUERIES)
    assert not (tmp_path / "v1/onnx/int8").exists()


@pytest.mark.skipif(on_cuda(), reason="ONNX Runtime computes bfloat16 here")
def test_bfloat16_is_refused_at_once_where_it_cannot_be_compared(lm_bundle: Bundle) -> None:
    with pytest.raises(UserError, match=r"--dtype bfloat16 cannot be compared here.*float16 or float32"):
        attach_onnx(lm_bundle, "bfloat16", QUERIES)
    with pytest.raises(UserError, match=r"server\.dtype is 'bfloat16', which ONNX Runtime computes on CUDA alone"):
        OnnxEngine(lm_bundle, "cpu", "bfloat16")


def test_new_sids_need_no_new_graph(lm_bundle: Bundle, tmp_path: Path) -> None:
    """Half of the codebook: the tables are inputs, so the search keeps to what they say."""
    folder = tmp_path / "generator"
    shutil.copytree(lm_bundle.generator_dir, folder)
    config = json.loads((folder / "config.json").read_text())
    config["genrecall"]["evidence"] = None  # evidence goes with the SIDs that it was made for
    (folder / "config.json").write_text(json.dumps(config))
    generator = Generator.load(folder, lm_bundle.space)
    write(generator, tmp_path, ["search.onnx"])
    half = SidSpace.of(lm_bundle.space.sids[::2], lm_bundle.level_sizes)
    inputs = ModuleInputs.load(folder, half)
    session = onnxruntime.InferenceSession(tmp_path / "search.onnx")
    arrays = inputs.prompts(inputs.request_tokenizer(QUERIES)) | inputs.of_codebook
    sid, scores = session.run(None, {**arrays, "beams": np.arange(len(half))})
    parts = generator.prefix_embedder, generator.decoder, generator.heads
    renewed = Generator(inputs.request_tokenizer, *parts, inputs.tables)
    expected = renewed.search(renewed.request_tokenizer(QUERIES), len(half))
    np.testing.assert_allclose(scores, expected.scores, atol=1e-4)
    assert (np.sort(sid) == np.arange(len(half))).all()


needs_tensorrt = pytest.mark.skipif(not tensorrt.installed(), reason="no TensorRT for this platform")


@needs_tensorrt
def test_tensorrt_builds_both_engines_without_a_gpu(encoder_bundle: Bundle, tmp_path: Path) -> None:
    if tensorrt.library().__name__ != "tensorrt_rtx":
        pytest.skip("the full TensorRT builds on a GPU: test_parity.py does")
    shutil.copytree(encoder_bundle.path, tmp_path / "v1")
    made = bundle.open(tmp_path / "v1")
    path = attach_tensorrt(made, "float32", [Profile(4, 64, 50), Profile(1, 16, 20)])
    manifest = bundle.attached(made, str(path.relative_to(made.path)))
    assert manifest["profiles"] == ["1x16x20", "4x64x50"], "the smallest first, as the engine tries them"
    assert {"search.engine", "score.engine", "timing.cache"} <= manifest["files"].keys()
    assert list(bundle.verify(made.path)) == []


@needs_tensorrt
def test_tensorrt_parses_every_graph(exported: Bundle) -> None:
    for name in ("search.onnx", "score.onnx"):
        _, network, _ = parse(tensorrt.library(), exported.path / "onnx/float32" / name)
        assert network.num_outputs == (2 if name == "search.onnx" else 1)


@pytest.mark.parametrize("text", ["8x64", "axbxc", "0x64x50", "8x64x5000"])
def test_a_malformed_profile_is_refused(text: str) -> None:
    with pytest.raises(UserError, match=f"profile '{text}'"):
        Profile.parse(text)


def test_a_generator_that_relates_recent_sids_by_a_search_is_not_exported(lm_bundle: Bundle, tmp_path: Path) -> None:
    shutil.copytree(lm_bundle.path, tmp_path / "v1")
    path = tmp_path / "v1/generator/config.json"
    config = json.loads(path.read_text())
    config["genrecall"]["user"]["related"] = 2
    path.write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"generator\.user\.related is 2"):
        attach_onnx(bundle.open(tmp_path / "v1", check=False), "float16", QUERIES)


def test_the_command_exports_compares_and_says_where(lm_bundle: Bundle, tmp_path: Path) -> None:
    root = tmp_path / "bundles"
    shutil.copytree(lm_bundle.path, root / "v1")
    queries = tmp_path / "queries.txt"
    queries.write_text("\n".join(QUERIES))
    (root / "current").symlink_to("v1")
    changes = ["--bundles", str(root), "--dtype", "int8"]  # what is named twice: the last one holds
    command = [sys.executable, "-m", "genrecall", *EXAMPLES["export"], *changes]
    done = subprocess.run([*command, "--queries", str(queries), "--json"], capture_output=True, text=True, check=True)
    told = json.loads(done.stdout)
    assert told["path"].endswith("v1/onnx/int8")
    assert told["compared"]["queries"] == len(QUERIES)
    failed = subprocess.run(
        [*command, "--queries", str(tmp_path / "none")], capture_output=True, text=True, check=False
    )
    assert failed.returncode == 2
    assert "--queries" in failed.stderr
