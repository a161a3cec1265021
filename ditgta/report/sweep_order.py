"""Whether the order of a table's rows changes over a sweep, in one line."""

from collections.abc import Sequence
from itertools import combinations, pairwise

from ditgta.report.sweep import Axis, Curve, Sweep
from ditgta.report.view import step_name


def order_sentence(sweep: Sweep | None) -> str:
    """Returns whether the order of the rows by FID changes with guidance, and with the EMA decay, at the last milestone."""
    if sweep is None:
        return ""
    axes, step = sweep.axes, sweep.steps[-1]
    sentences = []
    for axis in axes:
        others = [f"each row at its chosen {other.value}" for other in axes if other is not axis]
        sentences.append(_along(axis, sweep.at(step), f"at {step_name(step)} steps", others))
    return " ".join(filter(None, sentences))


def _along(axis: Axis, curves: Sequence[Curve], at: str, others: Sequence[str]) -> str:
    """Returns whether the order changes along an axis, and between which values; "" of less than two rows or values.

    Of several pairs of values the one in which most pairs of rows change places is named.
    """
    curves = [curve for curve in curves if len(curve.values(axis)) > 1]
    if len(curves) < 2:
        return ""
    points = [curve.points(axis) for curve in curves]
    known: dict[float, list[float]] = {}
    for value in curves[0].values(axis):
        if all(value in own for own in points):
            fids = [curve.reported[own[value]].value for curve, own in zip(curves, points)]
            if None not in fids:
                known[value] = fids
    if len(known) < 2:
        return ""
    pairs = combinations(known, 2)
    one, other = max(pairs, key=lambda pair: len(_swapped(known[pair[0]], known[pair[1]])))
    beside = "".join(f", {words}" for words in others)
    names = [curve.experiment for curve in curves]
    swapped = _swapped(known[one], known[other])
    if not swapped:
        return (
            f"No two rows change places by FID {at} at the {axis.value}s that were tried{beside}: "
            f"{_named(known[one], names)} at {axis.named(one)}."
        )
    orders = "; ".join(f"{axis.named(value)}: {_named(known[value], names)}" for value in (one, other))
    again = [curve.on_choice.get(own[one]) for curve, own in zip(curves, points)]
    then = [curve.on_choice.get(own[other]) for curve, own in zip(curves, points)]
    if None in again or None in then:
        repeated = "one noise"
    elif set(swapped) <= set(_swapped(again, then)):
        repeated = "the same rows change places on the other noise"
    else:
        repeated = "differently on the other noise"
    return f"The order of the rows by FID {at} changes with {axis.name}{beside}: {orders} ({repeated})."


def _swapped(one: Sequence[float], other: Sequence[float]) -> list[tuple[int, int]]:
    """Returns the pairs of places whose values stand in opposite order in one and in the other; equal values are in none."""
    pairs = combinations(range(len(one)), 2)
    return [(a, b) for a, b in pairs if (one[a] - one[b]) * (other[a] - other[b]) < 0]


def _named(values: Sequence[float], names: Sequence[str]) -> str:
    """Returns names from the least value on, with their relations: a < b = c."""
    order = sorted(range(len(values)), key=lambda place: values[place])
    text = names[order[0]]
    for before, place in pairwise(order):
        text += f" {'<' if values[before] < values[place] else '='} {names[place]}"
    return text
