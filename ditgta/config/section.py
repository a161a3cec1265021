"""What a group of options is: typed, strict, and able to say which of its options change results."""

import shlex
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from ditgta.runtime.addresses import is_address


def Option(default: Any, description: str, **constraints):
    """A field that changes results: it is part of the spec."""
    return Field(default, description=description, **constraints)


def Free(default: Any, description: str, **constraints):
    """A field that changes speed or storage but never a result: it stays out of the spec."""
    return Option(default, description, json_schema_extra={"free": True}, **constraints)


def Added(default: Any, description: str, **constraints):
    """A field that changes results, and came after there were some: at its default it stays out of the spec, so they are found."""
    return Option(default, description, json_schema_extra={"added": True}, **constraints)


Compile = Option(
    None,
    "compile the network with torch.compile (changes rounding): true, false, or none: if a GPU and Triton are there",
)
Kernels = Option(
    "auto",
    "fast layers for CPUs (they change rounding): auto: use them on CPUs; off: use plain layers everywhere",
)


def on_disk(path: str) -> str:
    """Return a path; an address of the network, which is only to be had by downloading it, is refused."""
    if is_address(path):
        raise ValueError("is an address; download it and name the file")
    return path


Place = Annotated[str, Field(min_length=1), AfterValidator(on_disk)]  # a path that is read


class Section(BaseModel):
    """A group of options. Unknown keys are errors; strings such as "1e-4" are converted."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False)

    def spec(self) -> dict:
        """Return the options that change results, as plain JSON values."""
        content = self.model_dump(mode="json")
        for name, field in type(self).model_fields.items():
            value, kind = getattr(self, name), field.json_schema_extra or {}
            if kind.get("free") or (kind.get("added") and value == field.default):
                del content[name]
            elif isinstance(value, Section):
                content[name] = value.spec()
        return content

    def free_flags(self) -> str:
        """Return the command-line flags of the options that change no result, where they differ from their defaults."""
        words = []
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            if (field.json_schema_extra or {}).get("free") and value != field.default:
                words.append(flag_of(type(self), name))
                if value is not True:
                    words.append(shlex.quote(str(value)))
        return " ".join(words)


def flag_of(section: type[Section], name: str) -> str:
    """Return the command-line flag of a section's field."""
    extra = section.model_fields[name].json_schema_extra if name in section.model_fields else None
    return "--" + (extra or {}).get("flag", name).replace("_", "-")
