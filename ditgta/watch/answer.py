"""The answer of a finished suite as lines for a terminal: headlines and rows of its table.md, as much as is wide enough."""

import re
from pathlib import Path

from ditgta.watch.text import aligned

LEAST_COLUMNS = 3  # steps, row, and a metric


def answer(table: Path, width: int) -> list[str]:
    """Return headlines and rows of a table.md; columns that do not fit into `width` characters are left to the page."""
    lines = table.read_text(encoding="utf-8").splitlines()
    shown = []
    for line in lines[1:]:
        if line.startswith(("- ", "|")):
            break
        if line.strip():
            shown.append(plain(line))
    cells = [_cells(line) for line in lines if line.startswith("|")]
    end = next((number for number, row in enumerate(cells) if number and row[0] == "Difference"), len(cells))
    if len(cells) > 2:
        shown += ["", *_fitted([cells[0], *cells[2:end]], width)]
    return shown


def page_of(table: Path) -> str:
    """Return the address of the page beside a table.md, as a browser or a terminal takes it."""
    return table.with_name("table.html").resolve().as_uri()


def plain(text: str) -> str:
    """Return a piece of Markdown without its marks."""
    text = re.sub(r" ?<sup>.*?</sup>", "", text.strip())
    text = re.sub(r"(?<!\\)\*\*", "", text)
    return re.sub(r"\\(.)", r"\1", text)


def _cells(line: str) -> list[str]:
    return [plain(cell) for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def _fitted(rows: list[list[str]], width: int) -> list[str]:
    """Return rows as aligned lines of as many columns as fit, at least three."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    shown = len(widths)
    while shown > LEAST_COLUMNS and sum(widths[:shown]) + 2 * (shown - 1) > width:
        shown -= 1
    lines = aligned([row[:shown] for row in rows])
    if shown < len(widths):
        lines.append(f"({len(widths) - shown} more columns on the page)")
    return lines
