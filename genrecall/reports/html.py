"""The page as one HTML file: pictures inside, a small stylesheet, no script and nothing from elsewhere.

Markdown is rendered with raw HTML, links and images switched off: whatever a title or a query holds stays text.
"""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Mapping

from markdown_it import MarkdownIt

from genrecall.reports.blocks import Alert, Block, Fold, Glance, Page, Picture
from genrecall.reports.style import STYLE

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def render(page: Page, images: Mapping[str, bytes]) -> str:
    """The whole document. images: name of a picture -> its PNG."""
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    markdown.disable(["link", "image", "autolink", "reference", "html_inline", "html_block"])
    title = html.escape(page.title)
    contents = "".join(
        f'<a href="#{_anchor(s.title)}">{html.escape(s.title.partition(" (")[0])}</a>' for s in page.sections
    )
    body = [f"<h1>{title}</h1>", *(_block(block, markdown, images) for block in page.head)]
    for section in page.sections:
        body.append(f'<section id="{_anchor(section.title)}"><h2>{html.escape(section.title)}</h2>')
        body += [_block(block, markdown, images) for block in section.blocks]
        body.append("</section>")
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{title}</title>",
            f"<style>{STYLE}</style></head><body>",
            f"<nav>{contents}</nav>",
            "<main>",
            *body,
            "</main></body></html>",
            "",
        ]
    )


def _block(block: Block, markdown: MarkdownIt, images: Mapping[str, bytes]) -> str:
    if isinstance(block, Picture):
        data = base64.b64encode(images[block.name]).decode()
        caption = html.escape(block.caption)
        return f'<figure><img alt="{caption}" src="data:image/png;base64,{data}"></figure>'
    if isinstance(block, Fold):
        return f"<details><summary>{html.escape(block.summary)}</summary>{_prose(block.text, markdown)}</details>"
    if isinstance(block, Alert):
        return f'<aside class="{html.escape(block.kind)}">{_prose(block.text, markdown)}</aside>'
    if isinstance(block, Glance):
        cards = (
            f"<div><dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd></div>"
            for name, value in block.figures.items()
        )
        return f"<dl>{''.join(cards)}</dl>"
    return _prose(block, markdown)


def _prose(text: str, markdown: MarkdownIt) -> str:
    """Wide tables scroll by themselves."""
    rendered = str(markdown.render(text))
    return rendered.replace("<table>", '<div class="wide"><table>').replace("</table>", "</table></div>")


def _anchor(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
