"""Words that are drawn: what names hold that drawing libraries take for commands, or refuse."""

import unicodedata

# Control characters, separators of lines, halves of characters, and what names no character.
_UNDRAWABLE = ("Cc", "Cf", "Cs", "Cn", "Co", "Zl", "Zp")


def drawable(text: str) -> str:
    """Return a text of one line that Pillow and matplotlib draw as it is, whatever a folder or a class is called."""
    shown = "".join(" " if unicodedata.category(sign) in _UNDRAWABLE else sign for sign in text)
    return " ".join(shown.split()) or "?"
