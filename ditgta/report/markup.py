"""The pieces of the HTML page: sections, tables that scroll on their own, and pictures inside the page."""

import base64
from collections.abc import Iterable, Sequence
from dataclasses import replace
from html import escape

from PIL import Image

from ditgta.report.figures import colour_of
from ditgta.report.grid import CELL_PIXELS, Grid, draw, encode
from ditgta.report.rows import Table

# Snakemake's report shows the page as a data address, and Chromium shows none of more than 2 MiB: 1.5 MB as HTML.
PHOTO_PIXELS = 192


def section(title: str, body: str) -> str:
    """Returns a titled part of the page."""
    return f"<section><h2>{escape(title)}</h2>{body}</section>"


def paragraph(text: str, kind: str = "") -> str:
    """Returns a paragraph of plain text."""
    return f"<p{f' class={kind}' if kind else ''}>{escape(text)}</p>"


def folded(summary: str, body: str, raw: bool = False) -> str:
    """Returns content that a reader may unfold; on paper it lies open, or is left out where it is `raw`."""
    return f"<details{' class=raw' if raw else ''}><summary>{escape(summary)}</summary>{body}</details>"


def items(texts: Iterable[str]) -> str:
    """Returns plain texts as list items."""
    return "".join(f"<li>{escape(text)}</li>" for text in texts)


def wide(content: str, label: str) -> str:
    """Wraps what may be wider than a phone in a box that scrolls on its own, also by keyboard."""
    return (
        f'<div class=wide tabindex="0" role="region" aria-label="{escape(label, quote=True)}">{content}</div>'
    )


def simple_table(name: str, heads: Sequence[str], rows: Iterable[tuple[str, Sequence[str]]]) -> str:
    """Returns a table whose first column names the rows; "" without rows.

    Args:
        name: what the table shows.
        heads: plain headings, the first that of the names.
        rows: (name, cells) as HTML.
    """
    body = "".join(
        f"<tr><th scope=row class=name>{head}</th>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"
        for head, cells in rows
    )
    if not body:
        return ""
    first, *others = (escape(head) for head in heads)
    top = f"<th scope=col class=name>{first}</th>" + "".join(f"<th scope=col>{head}</th>" for head in others)
    return wide(f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>", name)


def figure(picture: Image.Image, alt: str, kind: str = "curve", lossless: bool = True) -> str:
    """Returns a picture inside the page: a "curve", of which dark screens show the negative, or a "grid" of images."""
    address = f"data:image/webp;base64,{base64.b64encode(encode(picture, 'WEBP', lossless)).decode()}"
    return f'<figure><img class={kind} src="{address}" alt="{escape(alt, quote=True)}"></figure>'


def grid_figure(grid: Grid, alt: str) -> str:
    """Returns a grid inside the page: small images as they are, photographs smaller and with losses."""
    small = grid.side < CELL_PIXELS
    return figure(draw(replace(grid, most=min(grid.most, PHOTO_PIXELS))), alt, "grid", lossless=small)


def side_by_side(figures: Iterable[str], kind: str = "") -> str:
    """Returns figures that stand beside each other where the screen has room, else below each other."""
    return f'<div class="{f"beside {kind}".strip()}">{"".join(figures)}</div>'


def swatch(table: Table, experiment: str) -> str:
    """Returns a patch in an experiment's colour; nothing for real images."""
    if experiment not in table.experiments:
        return ""
    return f'<i class=swatch style="background:{colour_of(table.experiments, experiment)}"></i>'


def named(table: Table, experiment: str) -> str:
    """Returns an experiment's name after its patch."""
    return swatch(table, experiment) + escape(experiment)
