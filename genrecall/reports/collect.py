"""The folder of a run -> one record of what it holds. Reads only; what does not exist yet is None.

A run's folder holds a training for each split and set of settings: train/<split>-<key>/. The report is of one of them.
The configuration is taken as it was written, so that a run of another version can be read too.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from genrecall import bundle
from genrecall.bundle import Bundle
from genrecall.config.run import RunSection
from genrecall.errors import UserError
from genrecall.reports.stages import Stage, stages_of

EVALUATION_FORMAT = 2  # of evaluation.json; raised where one of before can no longer be shown


@dataclass(frozen=True)
class Candidate:
    """One kind of codes and the generator trained for it.

    Attributes:
        codes: codes.json; generator: generator.json; dev: dev.json. None where that step is not done.
        stages: those of the configuration, in order.
    """

    kind: str
    codes: dict[str, Any] | None
    generator: dict[str, Any] | None
    dev: dict[str, float] | None
    stages: tuple[Stage, ...]


@dataclass(frozen=True)
class Run:
    """A training of a run, done or under way.

    Attributes:
        folder: of the training; others: the names of the run's other ones, newest first.
        written: when its newest result was written, to the minute.
        config: as resolved; data: data.json.
        published: the bundle made of it.
        evaluation: evaluation.json of the run, None where it is of an earlier version (`old_evaluation`).
    """

    name: str
    folder: Path
    others: tuple[str, ...]
    written: str
    config: dict[str, Any]
    data: dict[str, Any]
    candidates: tuple[Candidate, ...]
    published: Bundle | None
    evaluation: dict[str, Any] | None
    old_evaluation: bool = False

    @property
    def logs(self) -> dict[str, Any]:
        """The facts of the logs; empty where there are none."""
        return self.data.get("logs") or {}

    @property
    def simulated(self) -> bool:
        return bool(self.data["simulated"] or self.logs.get("simulated"))

    @property
    def has_dev(self) -> bool:
        """Whether there are judged dev queries to choose by."""
        return bool(self.data["parts"]["dev"]["queries"])

    @property
    def select_by(self) -> str:
        return str(self.config["quantizer"]["select_by"])

    @property
    def chosen(self) -> str | None:
        """The kind that was published; None before that."""
        return str(self.published.manifest["metrics"]["quantizer"]) if self.published else None

    @property
    def pointer(self) -> str | None:
        """ "current" or "previous" where the published bundle is that."""
        if self.published is None:
            return None
        root, codebook = self.published.path.parent, self.published.codebook
        return next((name for name in bundle.POINTERS if bundle.pointer(root, name) == codebook), None)

    @property
    def missing(self) -> list[str]:
        """What a finished run would have, in the order in which it is made."""
        out = []
        for candidate in self.candidates:
            if candidate.codes is None:
                out.append(f"the codes of {candidate.kind}")
            if candidate.generator is None:
                out.append(f"the generator of {candidate.kind}" + _reached(candidate.stages))
            if candidate.dev is None and self.has_dev:
                out.append(f"the dev figures of {candidate.kind}")
        return out if self.published else [*out, "the bundle"]

    def facts(self) -> dict[str, Any]:
        """Everything collected, JSON-ready."""
        return {
            "run": self.name,
            "training": self.folder.name,
            "others": list(self.others),
            "written": self.written,
            "simulated": self.simulated,
            "missing": self.missing,
            "data": self.data,
            "candidates": {candidate.kind: asdict(candidate) for candidate in self.candidates},
            "chosen": self.chosen,
            "bundle": {"path": str(self.published.path), **self.published.manifest} if self.published else None,
            "evaluation": self.evaluation,
            "config": self.config,
        }


def collect(section: RunSection, split: str | None = None) -> Run:
    """Read the training of `split`, or the newest that `genrecall train` made (else the newest of an evaluation).

    Raises UserError, naming what there is, where there is no such run or split.
    """
    folders = trainings(section, split)
    config_of = {folder: _config(folder) for folder in folders}
    bundles = {folder: _published(folder, config_of[folder], section) for folder in folders}

    def by_train(folder: Path) -> bool:
        """`evaluate` trains into the same run, with the bundles of its folds kept apart."""
        into = Path(config_of[folder]["run"]["bundles_dir"])
        found = bundles[folder]
        return into != _of_folds(section) or (found is not None and found.path.parent == section.bundles_dir)

    folder = max(folders, key=lambda f: (by_train(f), _configured(f)))
    config, published = config_of[folder], bundles[folder]
    data = _json(folder / "data.json")
    if data is None:
        raise UserError(f"{folder} has no data.json: the training ended before it began; run `genrecall train` again")
    evaluation = _json(section.dir / "evaluation.json")
    old = evaluation is not None and evaluation.get("format") != EVALUATION_FORMAT
    kinds = config["quantizer"]["candidates"][: None if data["parts"]["dev"]["queries"] else 1]
    return Run(
        name=section.name,
        folder=folder,
        others=tuple(other.name for other in trainings(section) if other != folder),
        written=_newest(folder),
        config=config,
        data=data,
        candidates=tuple(_candidate(folder / kind, config, data) for kind in kinds),
        published=published,
        evaluation=None if old else evaluation,
        old_evaluation=old,
    )


def trainings(section: RunSection, split: str | None = None) -> list[Path]:
    """The folders of the run's trainings, newest first; UserError where there are none."""
    found = sorted((p.parent for p in section.dir.glob("train/*/config.yaml")), key=_configured, reverse=True)
    if not found:
        runs = sorted({p.parents[2].name for p in section.runs_dir.glob("*/train/*/config.yaml")})
        there = f"the runs there: {', '.join(runs)}; name one with --run" if runs else "there is no other run either"
        raise UserError(
            f"run {section.name!r} has no training in {section.dir / 'train'} ({there}); `genrecall train` makes one"
        )
    of_split = [folder for folder in found if split in (None, folder.name, _split(folder))]
    if not of_split:
        names = ", ".join(sorted({_split(folder) for folder in found}))
        raise UserError(f"run {section.name!r} has no training of split {split!r}: it has {names}")
    return of_split


def _candidate(folder: Path, config: dict[str, Any], data: dict[str, Any]) -> Candidate:
    codes, generator, dev = (_json(folder / name) for name in ("codes/codes.json", "generator.json", "dev.json"))
    return Candidate(folder.name, codes, generator, dev, stages_of(config, data, generator, folder / "checkpoints"))


def _published(folder: Path, config: dict[str, Any], section: RunSection) -> Bundle | None:
    """The bundle whose training key the folder is named by, where it was published or where `section` has bundles."""
    key = folder.name.rpartition("-")[2]
    for root in dict.fromkeys((section.bundles_dir, Path(config["run"]["bundles_dir"]), _of_folds(section))):
        for found in bundle.list_bundles(root):
            if str(found.manifest.get("fingerprints", {}).get("training", "")).startswith(key):
                return found
    return None


def _of_folds(section: RunSection) -> Path:
    """Where `genrecall evaluate` keeps the bundles of its folds."""
    return section.dir / "evaluation" / "bundles"


def _reached(stages: Sequence[Stage]) -> str:
    running = [f" (stage {s.name}: step {s.steps} of {s.planned})" for s in stages if s.state == "running"]
    return running[-1] if running else ""


def _split(folder: Path) -> str:
    return folder.name.rpartition("-")[0]


def _newest(folder: Path) -> str:
    """When anything in a training's folder was written last. A checkpoint may be removed meanwhile."""
    files = (Path(at) / name for at, _, names in os.walk(folder) for name in names)
    return datetime.fromtimestamp(max(map(_changed, files)), UTC).strftime("%Y-%m-%d %H:%M UTC")


def _changed(path: Path) -> float:
    return path.stat().st_mtime if path.exists() else 0.0


def _configured(folder: Path) -> float:
    return _changed(folder / "config.yaml")


def _config(folder: Path) -> dict[str, Any]:
    try:
        found = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{folder / 'config.yaml'} is not YAML ({error}): train again with --fresh") from None
    if not isinstance(found, dict):
        raise UserError(f"{folder / 'config.yaml'} holds no configuration: train again with --fresh")
    return found


def _json(path: Path) -> Any:
    """None where there is no such file."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UserError(f"{path} is not JSON ({error}): remove it and run the command that makes it again") from None
