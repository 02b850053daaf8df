"""A template and its data -> a report: Markdown, the same as one HTML file where asked for, and its plots."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from matplotlib.figure import Figure

from genrecall import files
from genrecall.reports import markdown
from genrecall.reports.page import html_page
from genrecall.reports.plots import png

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Plot:
    """A picture of a report. path: of its PNG, as seen from the Markdown file. draw: called when it is written."""

    path: str
    caption: str
    draw: Callable[[], Figure]


@dataclass(frozen=True)
class Report:
    """One report, to be written as `name`.md. data: written as `name`.json where it is given."""

    name: str
    markdown: str
    plots: tuple[Plot, ...] = ()
    data: Mapping[str, Any] | None = None

    def write(self, folder: Path, as_html: bool = False) -> list[Path]:
        """Write the JSON, the Markdown, `name`.html where asked for, and the plots, each whole or not at all.

        Returns the files. The texts are written after the plots that they show.
        """
        images = {plot.path: png(plot.draw()) for plot in self.plots}
        plots = [files.write_bytes(folder / path, image) for path, image in images.items()]
        texts = [files.write_json(folder / f"{self.name}.json", self.data)] if self.data is not None else []
        texts.append(files.write_text(folder / f"{self.name}.md", self.markdown))
        if as_html:
            texts.append(files.write_text(folder / f"{self.name}.html", html_page(self.markdown, images)))
        return [*texts, *plots]


def render(template: str, **data: Any) -> str:
    """The Markdown of templates/`template`.md.j2. Every value of it is escaped, but what is `Markdown`."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        finalize=markdown.plain,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    for name in ("change", "clear_points", "code", "count", "duration", "interval", "listing", "share", "system"):
        environment.filters[name] = getattr(markdown, name)
    environment.filters |= {"md": markdown.Markdown, "picture": _picture}
    text = environment.get_template(f"{template}.md.j2").render(data)
    # what a template leaves out leaves blank lines: one is enough, but in a block of code
    return re.sub(r"(?ms)^(`{3,})[^\n]*\n.*?^\1$|\n{3,}", lambda found: found[0] if found[1] else "\n\n", text)


def _picture(plot: Plot) -> markdown.Markdown:
    return markdown.Markdown(f"![{markdown.plain(plot.caption)}]({plot.path})")
