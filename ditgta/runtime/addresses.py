"""Names of results: a readable word and a short hash of what decides the result, e.g. gta-938c6309."""

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
