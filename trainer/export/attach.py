"""`genrecall export`: what is exported lands inside the bundle it came from, with what was measured of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from genrecall import bundle as bundles
from genrecall import tensorrt
from genrecall.bundle import Bundle
from genrecall.errors import BundleError, UserError
from trainer.export import check, onnx
from trainer.export import tensorrt as builder
from trainer.export.onnx import Precision
from trainer.export.tensorrt import Profile

EXACT = 1e-3  # largest difference of a score that float32 may show


def attach_onnx(bundle: Bundle, precision: Precision, texts: Sequence[str]) -> tuple[Path, Mapping[str, Any]]:
    """Export, compare with torch on `texts`, attach as `onnx/<precision>`. Returns where, and the comparison.

    int8 is made from the float32 export, which is attached first where there is none.

    Raises UserError for a generator that cannot be exported, RuntimeError where a float32 export is not exact.
    """
    compared: dict[str, Any] = {}
    exact = bundle.path / "onnx" / "float32"
    if precision == "bfloat16" and not check.on_cuda():
        raise UserError(
            "--dtype bfloat16 cannot be compared here, and no export is kept without: ONNX Runtime computes it on CUDA "
            "alone. Export where onnxruntime-gpu sees a GPU, or use float16 or float32"
        )
    if precision == "int8":
        if not exact.is_dir():
            attach_onnx(bundle, "float32", texts)
        try:
            bundles.attached(bundle, "onnx/float32")
        except BundleError as error:  # damaged, or of another generator
            raise UserError(f"{error}. int8 is made from it: `genrecall export --dtype float32` first") from None

    def write(folder: Path) -> Mapping[str, Any]:
        if precision == "int8":
            onnx.quantize(exact, folder)
        else:
            onnx.write(onnx.load(bundle, precision), folder)
        compared.update(check.compare(onnx.load(bundle, "float32"), folder, texts, cuda=precision == "bfloat16"))
        gap = max(compared["largest_difference"], compared["largest_score_difference"])
        if precision == "float32" and (gap > EXACT or compared["overlap"] < 0.99):
            raise RuntimeError(f"the ONNX export of {bundle.codebook} differs from torch: {compared}; nothing attached")
        return {"opset": onnx.OPSET, "compared": compared, "versions": _versions("torch", "onnx", "onnxruntime")}

    return bundles.attach(bundle, f"onnx/{precision}", write), compared


def attach_tensorrt(bundle: Bundle, precision: Precision, profiles: Sequence[Profile]) -> Path:
    """Build engines from the ONNX export of that precision, attach them as `tensorrt/<platform>/<precision>`.

    Raises UserError without TensorRT, without that export, or where TensorRT refuses it.
    """
    if precision == "int8":
        raise UserError("--dtype int8 is for ONNX Runtime on a CPU: give TensorRT float16, bfloat16 or float32")
    tensorrt.library()
    source = f"onnx/{precision}"
    bundles.attached(bundle, source)
    generator = onnx.load(bundle, precision)
    arrays = {onnx.SEARCH: onnx.search_arrays(generator), onnx.SCORE: onnx.score_arrays(generator)}
    ordered = sorted(profiles, key=lambda p: (p.batch * p.length, p.beams))

    def write(folder: Path) -> Mapping[str, Any]:
        builder.build(bundle.path / source, folder, arrays, ordered)
        return {"profiles": [f"{p.batch}x{p.length}x{p.beams}" for p in ordered], "platform": tensorrt.platform()}

    return bundles.attach(bundle, f"tensorrt/{tensorrt.platform()}/{precision}", write)


def _versions(*packages: str) -> dict[str, str]:
    from importlib.metadata import version

    return {package: version(package) for package in packages}
