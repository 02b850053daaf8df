"""Memory of items -> SIDs, as the mapped table of a bundle beside a dict: bytes an item, look-ups a second.

    python -m benchmarks.item_table                     a million generated ids of ten characters, half a minute

Each side is a process of its own that holds the table of a bundle and nothing else. `private` is what every further
server process adds; mapped pages are shared and can be given back, `resident` counts those that were read.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from genrecall import bundle

ITEMS, SIDS, SIZES = 1_000_000, 250_000, (512, 256, 256)
SIDES = ("dict", "table")
ASKED = 10  # recent items of a user
USERS = 2_000


def generate(root: Path, items: int) -> bundle.Bundle:
    rng = np.random.default_rng(0)
    sids = np.stack(np.unravel_index(rng.choice(np.prod(SIZES), SIDS, replace=False), SIZES), axis=1)
    ids = [f"B{n:09x}" for n in rng.permutation(16 * items)[:items].tolist()]
    contents = bundle.Contents(ids, sids[rng.integers(0, SIDS, items)], SIZES, "lm")
    (root / "asked.json").write_text(json.dumps(ids[: USERS * ASKED]))
    return bundle.publish(root, "v1", contents, write_nothing)


def write_nothing(folder: Path) -> None:
    (folder / bundle.GENERATOR).mkdir()
    (folder / bundle.GENERATOR / "model.safetensors").write_bytes(b"no weights")


def memory() -> dict[str, int]:
    """Bytes of this process: private (anonymous) and resident in all."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {name: int(status[key].split()[0]) * 1024 for name, key in (("private", "RssAnon"), ("resident", "VmRSS"))}


def hold(side: str, path: Path) -> None:
    """Print what one side takes, as JSON."""
    opened = bundle.open(path, check=False)
    ids = json.loads((path.parent / "asked.json").read_text())
    asked = [ids[n : n + ASKED] for n in range(0, len(ids), ASKED)]
    opened.space  # noqa: B018  (both need it)
    before = memory()
    if side == "dict":
        items = opened.items()
        known = dict(zip(items["item_id"].to_pylist(), map(tuple, bundle.codes_of(items).tolist()), strict=True))
        del items

        def find(wanted: list[str]) -> object:
            return np.array([known[one] for one in wanted if one in known], np.int32)
    else:
        table, space = opened.item_table, opened.space

        def find(wanted: list[str]) -> object:
            rows = table.rows(wanted)
            return space.sids[rows[rows >= 0]]

    began = time.perf_counter()
    for wanted in asked:
        find(wanted)
    seconds = time.perf_counter() - began
    after = memory()
    grown = {name: after[name] - before[name] for name in after}
    print(json.dumps({**grown, "us_a_user": seconds / len(asked) * 1e6}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=ITEMS)
    parser.add_argument("--hold", nargs=2, metavar=("SIDE", "BUNDLE"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.hold:
        return hold(args.hold[0], Path(args.hold[1]))
    shown = Table("", "private bytes an item", "resident", f"us for {ASKED} items", title=f"{args.items:,} items")
    with tempfile.TemporaryDirectory() as folder:
        opened = generate(Path(folder), args.items)
        shown.add_row("file", f"{os.path.getsize(opened.path / bundle.ITEM_TABLE) / args.items:.1f}", "", "")
        for side in SIDES:
            command = [sys.executable, "-m", "benchmarks.item_table", "--hold", side, str(opened.path)]
            found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            cells = [f"{found[name] / args.items:.1f}" for name in ("private", "resident")]
            shown.add_row(side, *cells, f"{found['us_a_user']:.0f}")
    Console().print(shown)
    return None


if __name__ == "__main__":
    main()
