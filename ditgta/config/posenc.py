"""The option that names a positional encoding: one that is known, or a class of one's own, which is not imported for it."""

from typing import Annotated

from pydantic import AfterValidator, WithJsonSchema
from pydantic_core import PydanticKnownError

from ditgta.config.names import POSENCS
from ditgta.runtime import modules


def _identified(posenc: str) -> str:
    """Takes a known encoding by its name, and a class of one's own as MODULE:CLASS@SHA256: what it is decides results."""
    if posenc not in POSENCS and not modules.is_own(posenc):
        known = f"MODULE:CLASS, {', '.join(map(repr, POSENCS[:-1]))} or {POSENCS[-1]!r}"
        raise PydanticKnownError("literal_error", {"expected": known})
    return modules.identified(posenc)


# For editors: the names, or something of the form MODULE:CLASS.
_SCHEMA = {"anyOf": [{"enum": list(POSENCS)}, {"type": "string", "pattern": f"^{modules.PATTERN.pattern}$"}]}
Posenc = Annotated[str, AfterValidator(_identified), WithJsonSchema(_SCHEMA)]
