"""The pieces of the HTML page: sections, tables that scroll on their own, and pictures inside the page."""

import base64
from collections.abc import Iterable, Sequence
from html import escape

from ditgta.report.figures import colour_of
from ditgta.report.rows import Table

PNG = b"\x89PNG"


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


def figure(picture: bytes, alt: str, kind: str = "curve") -> str:
    """Returns a PNG or WebP file as a figure: a "curve", of which dark screens show the negative, or a "grid" of images."""
    address = f"data:image/{'png' if picture.startswith(PNG) else 'webp'};base64,{base64.b64encode(picture).decode()}"
    return f'<figure><img class={kind} src="{address}" alt="{escape(alt, quote=True)}"></figure>'


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
