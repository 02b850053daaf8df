"""What the end-to-end tests type, and on which configuration."""

import subprocess
import sys
from pathlib import Path

CONFIG = Path(__file__).parents[2] / "configs" / "tiny.yaml"


def folders(work: Path, url: str) -> list[str]:
    """Overrides for a run in `work` on the node at `url`."""
    names = {"data.folder": "shop", "run.runs_dir": "runs", "run.bundles_dir": "bundles"}
    return [*(f"{key}={work / name}" for key, name in names.items()), f"opensearch.url={url}"]


def genrecall(*words: object, code: int = 0) -> str:
    """Run a command as a user would; its standard output, or standard error where it is expected to fail."""
    command = [sys.executable, "-m", "genrecall", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=CONFIG.parents[1])
    assert done.returncode == code, f"{words}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stderr if code else done.stdout
