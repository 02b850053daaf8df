"""The last sections: the model, the configuration, the commands that make all of it again."""

from __future__ import annotations

import shlex
from collections.abc import Iterable

import yaml

from genrecall.reports.blocks import Block, Fold, code, listing, plain, table
from genrecall.reports.collect import Run
from genrecall.reports.settings import differences


def model(run: Run) -> Iterable[Block]:
    """The bundle, or that there is none yet."""
    found = run.published
    if found is None:
        yield "No bundle was published yet."
        return
    manifest = found.manifest
    named = f"{code(found.codebook)}" + (f" ({run.pointer})" if run.pointer else "") + f" in {code(found.path)}"
    of = next((candidate.generator for candidate in run.candidates if candidate.kind == run.chosen), None) or {}
    parameters = f"{of['parameters']:,}" + (", prefix prior" if of.get("prior") else "") if of else "-"
    yield table(
        ["", ""],
        [
            ["bundle", named],
            ["model", f"{code(found.model)}, kind {code(manifest['kind'])}"],
            ["parameters trained", parameters],
            ["size", f"{found.size / 1e6:.1f} MB"],
            ["codes", f"{code(run.chosen)}, levels of {' / '.join(f'{size:,}' for size in found.level_sizes)}"],
            ["items, SIDs", f"{manifest['items']:,}, {manifest['sids']:,}"],
            ["published", plain(manifest["created"])],
            ["versions", ", ".join(f"{name} {plain(number)}" for name, number in manifest["versions"].items())],
            ["training key", code(manifest["fingerprints"]["training"])],
        ],
    )
    files = sorted(manifest["files"].items(), key=lambda entry: -entry[1]["size"])
    rows = [[code(name), f"{of['size']:,}"] for name, of in files]
    yield Fold(f"{len(rows)} files", table(["file", "bytes"], rows, [1]))


def configuration(run: Run) -> Iterable[Block]:
    """What differs from the defaults; then everything, folded in."""
    found = differences(run.config)
    if found:
        yield "What differs from the defaults of `genrecall/config/`:"
        yield table(
            ["setting", "this run", "default", "what it is"],
            [[code(d.key), code(d.value), code(d.default), plain(d.about)] for d in found],
        )
    else:
        yield "Every setting has its default."
    text = yaml.safe_dump(run.config, sort_keys=False, allow_unicode=True)
    yield Fold("The resolved configuration", listing(text, "yaml"))
    prints = run.data.get("fingerprints") or {}
    if prints:
        rows = [[code(name), code(value)] for name, value in prints.items()]
        yield Fold("Fingerprints of the data", table(["file", "sha256"], rows))


def reproduce(run: Run) -> Iterable[Block]:
    """From this configuration and the same data. A new name, or the run that is there would be returned as it is."""
    config = shlex.quote(str(run.folder / "config.yaml"))
    again = "run.name=again run.bundles_dir=runs/again/bundles"
    lines = [
        "# the same again, into a run of its own",
        f"genrecall train -c {config} {again}",
        f"genrecall report -c {config} {again}",
    ]
    if run.published:
        root = shlex.quote(str(run.published.path.parent))
        lines += [
            "# look at the bundle, check it, ask it",
            f"genrecall bundle show {run.published.codebook} --bundles {root}",
            f"genrecall bundle verify {run.published.codebook} --bundles {root}",
        ]
    else:
        lines += ["# go on from what is there", f"genrecall train -c {config}"]
    lines += ["# test figures with intervals", f"genrecall evaluate -c {config} --offline"]
    yield listing("\n".join(lines), "sh")
