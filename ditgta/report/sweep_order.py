"""Whether the order of a table's rows changes over a sweep, in one line."""

from collections.abc import Sequence
from itertools import chain, combinations, pairwise
from operator import itemgetter

from ditgta.report.sweep import Axis, Curve, Sweep
from ditgta.report.view import step_name


def order_sentence(sweep: Sweep) -> str:
    """Return whether the order of the rows by FID changes with guidance, and with the EMA decay, at the last milestone."""
    if not sweep.curves:
        return ""
    (step, curves), sentences = list(sweep.by_step.items())[-1], []
    for axis in sweep.axes:
        others = [f", each row at its chosen {other.value}" for other in sweep.axes if other is not axis]
        sentences.append(_along(axis, curves, f"at {step_name(step)} steps", "".join(others)))
    return " ".join(filter(None, sentences))


def _along(axis: Axis, curves: Sequence[Curve], at: str, beside: str) -> str:
    """Return whether the order changes along an axis, and between which values; "" of less than two rows or values.

    Of several pairs of values the one in which most pairs of rows change places is named.
    """
    curves = [curve for curve in curves if axis in curve.axes]
    cells = [curve.cells(axis) for curve in curves]
    common = [value for value in next(iter(cells), ()) if all(value in own for own in cells)]
    if len(curves) < 2 or len(common) < 2:
        return ""
    known = {value: [own[value].value for own in cells] for value in common}
    one, other = max(combinations(common, 2), key=lambda pair: len(_swapped(*map(known.get, pair))))
    names = [curve.experiment for curve in curves]
    swapped = _swapped(known[one], known[other])
    if not swapped:
        return (
            f"No two rows change places by FID {at} at the {axis.value}s that were tried{beside}: "
            f"{_named(known[one], names)} at {axis.named(one)}."
        )
    orders = "; ".join(f"{axis.named(value)}: {_named(known[value], names)}" for value in (one, other))
    choice = [[curve.on_choice.get(curve.points(axis)[value]) for curve in curves] for value in (one, other)]
    if None in chain(*choice):
        repeated = "one noise"
    elif set(swapped) <= set(_swapped(*choice)):
        repeated = "the same rows change places on the other noise"
    else:
        repeated = "differently on the other noise"
    return f"The order of the rows by FID {at} changes with {axis.name}{beside}: {orders} ({repeated})."


def _swapped(one: Sequence[float], other: Sequence[float]) -> list[tuple[int, int]]:
    """Return the pairs of places whose values stand in opposite order in one and in the other; equal values are in none."""
    pairs = combinations(range(len(one)), 2)
    return [(a, b) for a, b in pairs if (one[a] - one[b]) * (other[a] - other[b]) < 0]


def _named(values: Sequence[float], names: Sequence[str]) -> str:
    """Return names from the least value on, with their relations: a < b = c."""
    order = sorted(zip(values, names), key=itemgetter(0))
    text = order[0][1]
    for (before, _), (value, name) in pairwise(order):
        text += f" {'<' if before < value else '='} {name}"
    return text
