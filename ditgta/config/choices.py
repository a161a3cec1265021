"""Options that take a number, or a list of numbers from which each row of a table is given its own."""

from collections.abc import Callable
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, PlainSerializer, WithJsonSchema, WrapValidator


def _one_or_several(fits: Callable[[float], bool], words: str) -> WrapValidator:
    """Return what takes a number, or several that fit, as `words` say; a list of one is that one."""

    def check(value: Any, one: Callable[[Any], float]) -> float | tuple[float, ...]:
        if not isinstance(value, list | tuple):
            return one(value)
        if not value:
            raise ValueError("an empty list has nothing to choose from; write one number or several")
        numbers = list(map(_number, value))
        if any(number is None or not fits(number) for number in numbers):
            raise ValueError(f"a list to choose from must hold numbers {words}")
        if len({name_of(number) for number in numbers}) < len(numbers):
            raise ValueError(
                "a list to choose from must hold each value once (compared in six digits); leave one out"
            )
        choices = tuple(map(one, value))
        return choices if len(choices) > 1 else choices[0]

    return WrapValidator(check)


def _number(value: Any) -> float | None:
    """Return a number that is one, or is written as on a command line; else None."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except ValueError:
        return None


def name_of(number: float) -> str:
    """Return a number as names and tables have it."""
    return f"{number:g}"


def several(value: float | tuple[float, ...]) -> tuple[float, ...]:
    """Return the values to choose from, () where there is one alone."""
    return value if isinstance(value, tuple) else ()


def listed(value: Any) -> Any:
    """Takes one value for a list of one, as people type it."""
    return value if isinstance(value, list | tuple) or value is None else [value]


def _schema(one: dict, in_list: dict) -> WithJsonSchema:
    """Return what editors are told: one number, or a list."""
    of_many = {"type": "array", "items": in_list, "minItems": 1, "uniqueItems": True}
    return WithJsonSchema({"anyOf": [one, of_many]})


def _plain(value: float | tuple[float, ...]) -> Any:
    return list(value) if isinstance(value, tuple) else value


_POSITIVE = {"type": "number", "exclusiveMinimum": 0}
_SHARE = {"type": "number", "minimum": 0, "exclusiveMaximum": 1}
# Guidance scales; and decays of moving averages. The first is the table's own, all others are tried beside it.
Scales = Annotated[
    float,
    Field(ge=0),
    _one_or_several(lambda scale: scale > 0, "above 0"),
    PlainSerializer(_plain),
    _schema({"type": "number", "minimum": 0}, _POSITIVE),
]
Decays = Annotated[
    float,
    Field(ge=0, lt=1),
    _one_or_several(lambda decay: 0 <= decay < 1, "of at least 0 and below 1"),
    PlainSerializer(_plain),
    _schema(_SHARE, _SHARE),
]


def _one_average(value: Any) -> Any:
    """Refuses a list where one average is taken."""
    if isinstance(value, list | tuple):
        raise ValueError("takes one number; put the list from which rows choose into training.ema_decay")
    return value


# The decay of the average that is taken, where training kept several.
Average = Annotated[float | None, Field(ge=0, lt=1), BeforeValidator(_one_average)]
