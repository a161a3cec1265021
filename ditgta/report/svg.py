"""Figures of matplotlib as part of a page: SVG in the page's colours, with titles on hover; and as PNG and PDF beside it."""

import io
import re
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup, escape
from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

# Names are drawn as they are, whatever they hold: `$` begins no formula. Words stay words in SVG and PDF.
rcParams.update(
    {"text.parse_math": False, "svg.fonttype": "none", "svg.hashsalt": "ditgta", "pdf.fonttype": 42}
)

INK, FAINT = "#1f2328", "#d5d9de"
_TIP = "tip "
# What only a file of its own needs, and colours that follow the page's, which may be dark.
_REPLACED = (
    (r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", ""),
    (
        r' xmlns(:\w+)?="[^"]*"| version="1.1"| (?:width|height)="[\d.]+pt"| transform="rotate\(-0 [^"]*\)"',
        "",
    ),
    (r"xlink:href", "href"),
    (r"font-family: [^;\"]*", "font-family: inherit"),
    (INK, "currentColor"),
    (FAINT, "var(--line)"),
    (r"\s*\n\s*", " "),
    (r"> <", "><"),
)


@dataclass(frozen=True)
class Drawing:
    """A figure, ready to be written."""

    figure: Figure

    def image(self) -> Image.Image:
        """Return the figure's pixels on white."""
        self.figure.canvas.draw()
        return Image.fromarray(np.asarray(self.figure.canvas.buffer_rgba())[..., :3])

    def file(self, form: str) -> bytes:
        """Return the figure as a file, "pdf" or "svg", the same bytes every time."""
        date = {"pdf": "CreationDate", "svg": "Date"}[form]
        stream = io.BytesIO()
        self.figure.savefig(stream, format=form, metadata={date: None})
        content = stream.getvalue()
        return _titled(content.decode()).encode() if form == "svg" else content

    def svg(self, name: str, words: str) -> Markup:
        """Return the figure as an element of a page whose ids begin with `name`; `words` tell what it shows to who cannot see it."""
        stream = io.StringIO()
        self.figure.savefig(stream, format="svg", facecolor="none", metadata={"Date": None})
        text = stream.getvalue()
        text = text[text.index("<svg") :]
        for pattern, replacement in _REPLACED:
            text = re.sub(pattern, replacement, text, flags=re.DOTALL)
        text = _titled(text)
        text = re.sub(r' (?:d|x|y|transform)="[^"]*"', _rounded, text)
        used = set(re.findall(r'(?:url\(|href=")#([^")]+)', text))
        text = re.sub(
            r' id="([^"]*)"',
            lambda match: f' id="{name}-{match[1]}"' if match[1] in used else "",
            text,
        )
        text = re.sub(r'(url\(|href=")#', rf"\1#{name}-", text)
        return Markup(text.replace("<svg", f'<svg class=figure role="img" aria-label="{escape(words)}"', 1))


def _titled(text: str) -> str:
    """Return SVG in which points have their texts as titles, which are shown on hover."""
    return re.sub(rf'<g id="{_TIP}([^"]*)">', r"<g><title>\1</title>", text)


def _rounded(match: re.Match) -> str:
    """Return an attribute with its numbers to a tenth of a point."""
    return re.sub(r"(\.\d)\d+", r"\1", match[0])


def tip(axes: Axes, x: float, y: float, text: str) -> None:
    """Show a text while the pointer is over a point; of two close points the nearer one shows its own."""
    for size, order in ((12, 100), (4, 101)):
        (point,) = axes.plot([x], [y], "o", markersize=size, alpha=0, label="_", zorder=order)
        point.set_gid(_TIP + " ".join(text.split()))
