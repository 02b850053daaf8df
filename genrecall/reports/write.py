"""The report on disk: report.md with its plots in report/, and report.html, which needs nothing beside it."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from genrecall.reports import html
from genrecall.reports.blocks import Picture, markdown
from genrecall.reports.collect import Run
from genrecall.reports.page import page_of

PICTURES = "report"


def write(run: Run, findings: Sequence[str], folder: Path) -> list[Path]:
    """Write report.md, report.html and report/*.png into `folder`, each whole or not at all; the files written.

    Plots of an earlier report that this one does not have are removed, last.
    """
    page = page_of(run, findings)
    images = {picture.name: png(picture) for picture in page.pictures}
    pictures = folder / PICTURES
    pictures.mkdir(parents=True, exist_ok=True)
    plots = [_whole(pictures / f"{name}.png", image) for name, image in images.items()]
    texts = {"report.md": markdown(page, PICTURES), "report.html": html.render(page, images)}
    files = [_whole(folder / name, text.encode("utf-8", "replace")) for name, text in texts.items()]
    for old in set(pictures.glob("*.png")) - set(plots):
        old.unlink()
    return [*files, *plots]


def png(picture: Picture) -> bytes:
    """The same bytes for the same drawing: nothing of the machine or the program is written into it."""
    image = picture.draw()
    if not isinstance(image, Figure):
        return image
    buffer = io.BytesIO()
    image.savefig(buffer, format="png", dpi=120, metadata={"Software": None})
    return buffer.getvalue()


def _whole(path: Path, content: bytes) -> Path:
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(content)
    os.replace(partial, path)
    return path
