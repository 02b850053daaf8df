"""Files that come with genrecall and are no Python: configurations, the gRPC contract, the plugin's zip.

In a checkout they lie at its root, in an installed package inside `genrecall/` (see pyproject.toml).
"""

from pathlib import Path

_PACKAGE = Path(__file__).parent
ROOT = _PACKAGE if (_PACKAGE / "configs").is_dir() else _PACKAGE.parent
CONFIGS = ROOT / "configs"


def find_config(name: Path) -> Path:
    """The file `name` where there is one, else the packaged configuration that it names.

    `demo`, `demo.yaml` and `configs/demo.yaml` name the same one. The path itself where there is neither.
    """
    if name.is_file() or name.is_absolute():
        return name
    inside = name.relative_to("configs") if name.parts[:1] == ("configs",) else name
    packaged = CONFIGS / (inside if inside.suffix == ".yaml" else inside.with_name(f"{inside.name}.yaml"))
    return packaged if packaged.is_file() else name
