"""Templates filled in: what is put into one is escaped as its language needs, unless it is marked as safe."""

import base64
from dataclasses import replace
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from jinja2.environment import TemplateModule
from markupsafe import Markup
from PIL import Image

from ditgta.report import sentences, view
from ditgta.report.figures import colour_of
from ditgta.report.grid import CELL_PIXELS, Grid, draw, encode
from ditgta.runtime.progress import duration

# A page has 1.5 million letters, see `chapters`: photographs are shown smaller.
PHOTO_PIXELS = 192
_TEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "−": "$-$",
    "×": r"$\times$",
    "±": r"$\pm$",
    "↓": r"$\downarrow$",
    "↑": r"$\uparrow$",
    "∞": r"$\infty$",
    "¹": r"\textsuperscript{1}",
    "²": r"\textsuperscript{2}",
    "³": r"\textsuperscript{3}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
}
# What each language would read as markup or as a column's end; HTML's signs are Jinja's own matter.
_MD = {sign: f"\\{sign}" for sign in "|*_`<>[]\\#~$"}
_LINES = dict.fromkeys("\r\n", " ")  # a value is a part of a line
_ESCAPES = {"md": _MD | _LINES, "tex": _TEX | _LINES}


def render(template: str, **values: object) -> Markup:
    """Return a template of `report/templates` filled in, its values escaped for the language that its name ends in."""
    return Markup(_environment(template.rpartition(".")[2]).get_template(template).render(values))


def module(template: str, **values: object) -> TemplateModule:
    """Fill in a template and return its text and the variables that it sets, such as a chapter's title."""
    return _environment(template.rpartition(".")[2]).get_template(template).make_module(values)


@cache
def _environment(language: str) -> Environment:
    signs = _ESCAPES.get(language)

    def escaped(value: object) -> object:
        """Return a value as this language's plain text."""
        if signs is None or isinstance(value, Markup):
            return value
        return Markup("".join(signs.get(sign, sign) for sign in str(value)))

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=True,
        finalize=escaped,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=language != "html",
    )
    environment.filters |= {"address": address, "grid": grid_address, "code": code}
    environment.globals |= {"view": view, "say": sentences, "colour_of": colour_of, "duration": duration}
    return environment


def code(text: object) -> Markup:
    """Return a word as Markdown's code, in which nothing is escaped."""
    return Markup("`" + " ".join(str(text).replace("`", "'").splitlines()) + "`")


def address(picture: Image.Image, lossless: bool = True) -> str:
    """Return a picture as an address that holds it."""
    return f"data:image/webp;base64,{base64.b64encode(encode(picture, 'WEBP', lossless)).decode()}"


def grid_address(grid: Grid) -> str:
    """Return a grid as an address: small images as they are, photographs smaller and with losses."""
    return address(draw(replace(grid, most=min(grid.most, PHOTO_PIXELS))), lossless=grid.side < CELL_PIXELS)
