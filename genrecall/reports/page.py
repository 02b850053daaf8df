"""A Markdown report as one HTML file: pictures inside, one stylesheet, no script and nothing from elsewhere.

Links and HTML are switched off (folds excepted), so whatever a title or a query holds stays text.
"""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token

STYLE = Path(__file__).parent / "templates" / "style.css"
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
FOLD = re.compile(r"<details><summary>[^<>]*</summary>\s*|</details>\s*")  # the only HTML of a report
ALERT = re.compile(r"\[!(NOTE|TIP|WARNING)\]\n")  # first line of a block quote, as GitHub shows it


def html_page(text: str, images: Mapping[str, bytes]) -> str:
    """The whole document.

    Args:
        images: path of a picture, as the Markdown has it -> its PNG. Any other picture is shown as its caption.
    """
    parser = MarkdownIt("commonmark", {"html": True}).enable("table")
    parser.disable(["link", "autolink", "reference", "html_inline"])
    parser.add_render_rule("html_block", _html_block)
    parser.add_render_rule("image", _image)
    parser.add_render_rule("table_open", lambda *_: '<div class="wide"><table>')
    parser.add_render_rule("table_close", lambda *_: "</table></div>\n")  # a wide table scrolls by itself
    tokens = parser.parse(text)
    headings: dict[str, list[str]] = {"h1": [], "h2": []}
    for token, inline in pairwise(tokens):
        if token.type == "heading_open" and token.tag in headings:
            words = "".join(child.content for child in inline.children or ())
            token.attrSet("id", _anchor(words))
            headings[token.tag].append(words)
    _alerts(tokens)
    links = "".join(f'<a href="#{_anchor(of)}">{html.escape(of.partition(" (")[0])}</a>' for of in headings["h2"])
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{html.escape(headings["h1"][0])}</title>
<style>
{STYLE.read_text(encoding="utf-8")}</style></head><body>
<nav>{links}</nav>
<main>
{parser.renderer.render(tokens, parser.options, {"images": images})}</main></body></html>
"""


def _html_block(_: RendererHTML, tokens: Sequence[Token], index: int, *__: Any) -> str:
    content = tokens[index].content
    return content if FOLD.fullmatch(content) else f"<p>{html.escape(content)}</p>\n"


def _image(_: RendererHTML, tokens: Sequence[Token], index: int, __: Any, env: Mapping[str, Any]) -> str:
    caption = html.escape("".join(child.content for child in tokens[index].children or ()))
    image = env["images"].get(tokens[index].attrs["src"])
    if image is None:
        return caption
    return f'<img alt="{caption}" src="data:image/png;base64,{base64.b64encode(image).decode()}">'


def _alerts(tokens: Sequence[Token]) -> None:
    """`> [!NOTE]` becomes an aside of that class."""
    opened: list[Token] = []
    for place, token in enumerate(tokens):
        if token.type == "blockquote_open":
            opened.append(token)
            inline = tokens[place + 2]
            if found := ALERT.match(inline.content):
                token.tag = "aside"
                token.attrSet("class", found[1].lower())
                inline.children = (inline.children or [])[2:]  # the marker and the line end behind it
        elif token.type == "blockquote_close":
            token.tag = opened.pop().tag


def _anchor(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
