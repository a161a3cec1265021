"""Words that are drawn: what names hold that drawing libraries take for commands, or refuse; and pictures that say who drew them."""

import unicodedata
from pathlib import Path

from PIL import Image, PngImagePlugin

from ditgta.runtime.files import atomic_path

# Control characters, separators of lines, halves of characters, and what names no character.
_UNDRAWABLE = ("Cc", "Cf", "Cs", "Cn", "Co", "Zl", "Zp")


def drawable(text: str) -> str:
    """Return a text of one line that Pillow and matplotlib draw as it is, whatever a folder or a class is called."""
    shown = "".join(" " if unicodedata.category(sign) in _UNDRAWABLE else sign for sign in text)
    return " ".join(shown.split()) or "?"


def legend_name(name: str) -> str:
    """Return a name as a label of a curve; matplotlib leaves those that begin with _ out of legends."""
    return f" {drawable(name)}" if name.startswith("_") else drawable(name)


def write_picture(out: Path, image: Image.Image) -> None:
    """Write a PNG that says by which program, so that it may be replaced by another of its pictures."""
    metadata = PngImagePlugin.PngInfo()
    metadata.add_text("Software", "ditgta")
    with atomic_path(out) as temporary:
        image.save(temporary, format="PNG", pnginfo=metadata)
