"""What a bare machine lacks, in a folder that travels with the checkout: wheels, and ghz for the load.

    python -m benchmarks.gpu.wheels          downloads them into .cache/gpu

Imports the standard library alone, since it runs before anything is installed.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".cache/gpu"
WHEELS, TOOLS = "wheels", "tools"
LIMIT_MB = 64

# What the parts import, and the machine is not expected to have, or only in an older version.
CARRIED = {
    "accelerate": "1.1",
    "annotated-types": "0.6",
    "bm25s": "0.2",
    "grpcio": "1.85",
    "grpcio-health-checking": "1.85",
    "grpcio-reflection": "1.85",
    "prometheus-client": "0.20",
    "protobuf": "7.35",
    "pydantic": "2.8",
    "pydantic-core": "2.20",
    "PyStemmer": "2.2",
    "PyYAML": "6",
    "rich": "13",
    "typer": "0.12",
    "typing-extensions": "4.12",
    "typing-inspection": "0.4",
}
# What it must have; too large to travel.
EXPECTED = {
    "numpy": "2.0",
    "pyarrow": "17",
    "safetensors": "0.4",
    "tokenizers": "0.20",
    "torch": "2.8",
    "transformers": "5.0",
}
PLATFORMS = ("manylinux2014_x86_64", "manylinux_2_17_x86_64", "manylinux_2_28_x86_64", "manylinux1_x86_64")


def download(folder: Path, python: str) -> None:
    """The wheels of CARRIED for `python` ("3.12") on Linux, x86-64; those that fit together, as pip resolves them."""
    folder.mkdir(parents=True, exist_ok=True)
    for wheel in folder.glob("*.whl"):
        wheel.unlink()  # two versions of one package would stop the installation
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--only-binary=:all:", f"--python-version={python}"]
    command += ["--implementation=cp", *(f"--platform={name}" for name in PLATFORMS), f"--dest={folder}"]
    exact = f"pydantic-core=={_core_of_pydantic()}"  # pydantic wants one exact version
    wanted = [f"{name}>={least}" for name, least in CARRIED.items() if name != "pydantic-core"]
    subprocess.run([*command, "--no-deps", *wanted, exact], check=True)


def _core_of_pydantic() -> str:
    """The version of pydantic-core that the newest pydantic asks for."""
    answer = subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--dry-run",
            "--ignore-installed",
            "--quiet",
            "--report=-",
            "pydantic",
        ],
        check=True,
        capture_output=True,
        text=True,
    )
    found = re.search(r"pydantic-core==([\w.]+)", answer.stdout)
    assert found is not None, "pydantic no longer pins pydantic-core"
    return found[1]


def missing(packages: dict[str, str]) -> list[str]:
    """Those that this Python has not, or only in an older version."""
    return [name for name, least in packages.items() if _numbers(_version(name)) < _numbers(least)]


def install(folder: Path, site: Path) -> list[str]:
    """Install into `site` the carried wheels that this machine lacks, without network; their names.

    Raises SystemExit with the remedy where a wheel or an expected package is missing.
    """
    if str(site) not in sys.path:
        sys.path.insert(0, str(site))  # what an earlier run installed is there
    wanted = missing(CARRIED)
    wheels = [wheel for name in wanted for wheel in folder.glob(f"{_normal(name)}-*.whl")]
    if lacking := missing(EXPECTED):
        raise SystemExit(
            f"{', '.join(lacking)} missing or too old, and too large to be carried: this Python needs them"
        )
    if lacking := [name for name in wanted if not [*folder.glob(f"{_normal(name)}-*.whl")]]:
        remedy = f"run `python -m benchmarks.gpu.wheels` where there is a network, and carry {folder.parent}"
        raise SystemExit(f"{', '.join(lacking)} missing or too old: {remedy}")
    if wheels:
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-compile"]
        command += ["--disable-pip-version-check", "--root-user-action=ignore", "--upgrade", f"--target={site}"]
        subprocess.run([*command, *map(str, wheels)], check=True)
    return wanted


def _normal(name: str) -> str:
    """As wheels are named; pip writes names in lower case nowadays."""
    return re.sub(r"[-_.]+", "_", name).lower()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.match(r"[\d.]*", text)[0].split(".") if part)  # type: ignore[index]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--python", default="3.12")
    args = parser.parse_args()

    from rich.console import Console

    from benchmarks import go_tools

    download(args.folder / WHEELS, args.python)
    go_tools.install(go_tools.GHZ, args.folder / TOOLS, Console())
    files = [file for file in args.folder.rglob("*") if file.is_file()]
    size = sum(file.stat().st_size for file in files) / 2**20
    for file in sorted(files):
        print(f"{file.stat().st_size / 2**20:8.1f} MiB  {file.relative_to(args.folder)}")
    print(f"{size:8.1f} MiB of {LIMIT_MB}")
    if size > LIMIT_MB:
        raise SystemExit(f"{size:.0f} MiB are more than may travel ({LIMIT_MB}): carry less")


if __name__ == "__main__":
    main()
