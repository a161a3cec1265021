"""Names of results, a readable word and a short hash of what decides the result (gta-938c6309); what is no path but an address."""

import re

DIGITS = 8
_ADDRESSED = re.compile(rf"(.+)-([0-9a-f]{{{DIGITS}}})")


def hash_in(name: str) -> str | None:
    """Returns the hash in a result's name, None where there is none."""
    found = _ADDRESSED.fullmatch(name)
    return found[2] if found else None


def readable(name: str) -> str:
    """Returns a result's name without its hash."""
    found = _ADDRESSED.fullmatch(name)
    return found[1] if found else name


def size_name(size: tuple[int, int]) -> str:
    """Returns a size in pixels as people write it: 64, or 64x96 for a height of 64."""
    height, width = size
    return str(height) if height == width else f"{height}x{width}"


def is_address(source: str) -> bool:
    """Returns whether a source is an address of the network and no path."""
    return source.lower().startswith(("http://", "https://", "ftp://"))


def is_hub_name(source: str) -> bool:
    """Returns whether a source has the form OWNER/NAME of the Hugging Face hub, as a relative path may too."""
    return source.count("/") == 1 and not source.startswith((".", "~", "/"))
