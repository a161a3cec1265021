"""How often a nominal 95 % interval holds the true value: `python -m benchmarks.interval_coverage`."""

import argparse
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.rows import Row
from ditgta.runtime.streams import generator
from ditgta.scoring.frechet import frechet_at_infinity, frechet_distance, frechet_estimate
from ditgta.scoring.inception_score import inception_score
from ditgta.scoring.kernel import kernel_distance
from ditgta.scoring.neighbours import neighbour_estimates
from ditgta.scoring.statistics import (
    Estimate,
    balanced_order,
    combined,
    jackknife_groups,
    standard_error,
    strata_of,
)

_Z = 1.959964
CLASSES = 10
CASES = ((16, 400), (64, 320), (64, 160), (64, 72))  # (features, samples): d / N from .04 to .89
_HALVES = (
    0.25  # the most d / N at which c / N, which FID at infinity takes away, is what FID_N is too high by
)


@dataclass(frozen=True)
class Difference:
    """A difference of two values, its standard error (None if absent, with the reason) and whether the items were paired."""

    value: float
    se: float | None
    reason: str | None = None

    @property
    def z(self) -> float | None:
        """The difference in standard errors; None without one, or when it is zero."""
        return self.value / self.se if self.se else None


def paired_difference(a: Estimate, b: Estimate) -> Difference:
    """Return a - b with its standard error when item i of both was made from the same seed and label.

    What both rows owe to their common seeds, labels and reference cancels in the differences of their influence values.
    """
    value = a.value - b.value
    if a.influence is None or b.influence is None:
        return Difference(value, None, "a row has no influence values")
    if len(a.influence) != len(b.influence):
        return Difference(
            value, None, f"the rows have {len(a.influence)} and {len(b.influence)} items and cannot be paired"
        )
    return Difference(value, combined([a, b], lambda parts: np.subtract(*parts)).se)


@dataclass(frozen=True)
class World:
    """How features are distributed.

    Attributes:
        name: in words.
        between: share of the features' variance that lies between ten classes: a trained scorer has .94.
        balanced: labels have fixed equal counts, else they are drawn one by one.
        tail: "light" for Gaussians within a class; "t" and "lognormal" stretch every sample's noise by a factor of its own.
    """

    name: str
    between: float = 0.0
    balanced: bool = False
    tail: str = "light"

    def draw(self, random: np.random.Generator, count: int, dimension: int) -> tuple[np.ndarray, np.ndarray]:
        """Return (count, d) noise of unit variance and (count,) labels."""
        noise = random.standard_normal((count, dimension))
        if self.tail == "t":  # Student's with 5 degrees of freedom
            noise *= np.sqrt(3 / random.chisquare(5, count))[:, None]
        if self.tail == "lognormal":
            noise *= np.exp(0.6 * random.standard_normal(count) - 0.36)[:, None]
        labels = np.arange(count) % CLASSES if self.balanced else random.integers(0, CLASSES, count)
        return noise, labels

    def strata(self, labels: np.ndarray) -> np.ndarray | None:
        """Return the strata of labels."""
        return strata_of(labels) if self.balanced else None


WORLDS = (
    World("one class"),
    World("ten classes, random labels", between=0.94),
    World("ten classes, balanced labels", between=0.94, balanced=True),
    World("ten near classes, balanced labels", between=0.5, balanced=True),
    World("one class, tails of Student's t", tail="t"),
    World("one class, log-normal tails", tail="lognormal"),
    World("ten classes, balanced labels, log-normal tails", between=0.94, balanced=True, tail="lognormal"),
)


class Model:
    """A generator of features x = m + centre of the class + A z; two given the same z and labels are two rows with the same seeds."""

    def __init__(self, dimension: int, index: int, world: World):
        random = generator(0, "model", index)
        self.mean = 0.15 * random.standard_normal(dimension)
        mix = np.linalg.qr(generator(0, "mix").standard_normal((dimension, dimension)))[0]
        self.factor = mix * np.geomspace(1.0, 0.1, dimension)
        self.factor = self.factor * np.exp(0.15 * random.standard_normal(dimension))
        common = generator(0, "centres").standard_normal((CLASSES, dimension))
        own = random.standard_normal((CLASSES, dimension))
        centres = (common - common.mean(axis=0) + 0.1 * own) @ self.factor.T
        within, between = np.square(self.factor).sum(), np.square(centres).sum(axis=1).mean()
        scale = math.sqrt(world.between / (1 - world.between) * within / between)
        self.centres = scale * centres

    def features(self, noise: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Return (n, d) features of (n, d) noise and (n,) labels."""
        return self.mean + self.centres[labels] + noise @ self.factor.T

    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and covariance of the features, with equally frequent classes."""
        spread = self.centres - self.centres.mean(axis=0)
        covariance = self.factor @ self.factor.T + spread.T @ spread / CLASSES
        return self.mean + self.centres.mean(axis=0), covariance


def coverage(values: np.ndarray, errors: np.ndarray, truth: float) -> float:
    """Return the share of intervals value +- 1.96 error that hold the truth."""
    return float(np.mean(np.abs(values - truth) <= _Z * errors))


def frechet_rows(world: World, dimension: int, count: int, repeats: int) -> dict[str, float]:
    """Simulates FID_N, the paired difference of two models, and FID at infinite N; returns coverage of each.

    The truth of E[FID_N] is the mean over all repeats; the truth at infinite N is the populations' distance.
    """
    population, *models = (Model(dimension, index, world) for index in range(3))
    repetitions = []
    for repeat in range(repeats):
        noise, labels = world.draw(
            generator(1, "noise", world.name, dimension, count, repeat), count, dimension
        )
        strata = world.strata(labels)
        features = [model.features(noise, labels) for model in models]
        a, b = (
            replace(frechet_estimate(values, *population.moments()), strata=strata) for values in features
        )
        difference = paired_difference(a, b)
        ratio = paired_difference(*(replace(e, influence=e.influence / e.value) for e in (a, b)))
        order = balanced_order(generator(1, "halves", repeat).permutation(count), strata)
        infinite = frechet_at_infinity(features[0], *population.moments(), order, a).value
        limit = np.nan if infinite is None else infinite
        independent = standard_error(a.influence)
        repetitions.append(
            (a.value, a.se, independent, difference.value, difference.se, a.value / b.value, ratio.se)
            + (np.hypot(a.se, b.se), limit)
        )
    value, error, independent, difference, paired, ratio, ratio_error, unpaired, infinite = np.array(
        repetitions
    ).T
    truth = frechet_distance(*models[0].moments(), *population.moments())
    return {
        "FID": truth,
        "E[FID_N]": value.mean(),
        "sd": value.std(ddof=1),
        "mean se": error.mean(),
        "independent": independent.mean(),
        "plain": coverage(value, error, value.mean()),
        "coverage": coverage(np.log(value), error / value, np.log(value.mean())),
        "paired": coverage(difference, paired, difference.mean()),
        "ratio": coverage(np.log(ratio), ratio_error, np.log(ratio).mean()),
        "narrower": (unpaired / paired).mean(),
        "infinite": coverage(infinite, error, truth) if dimension / count <= _HALVES else np.nan,
    }


def other_rows(world: World, count: int, repeats: int, dimension: int = 32) -> dict[str, dict[str, float]]:
    """Simulates the other metrics; returns sd, mean standard error, and coverage of the metric's mean.

    The reference is fixed, but new in every repetition for recall and coverage, whose errors are also those of the reference.
    """
    population, model = Model(dimension, 0, world), Model(dimension, 1, world)
    real = replace(world, balanced=True)  # collected images have fixed counts of each class
    weights = generator(2, "classes").standard_normal((dimension, 20)) / 3
    by_metric: dict[str, list[Estimate]] = {}
    fixed = population.features(*real.draw(generator(2, "reference"), 1800, dimension))
    own = strata_of(np.arange(1800) % CLASSES)
    for repeat in range(repeats):
        noise, labels = world.draw(generator(2, "noise", repeat), count, dimension)
        features, strata = model.features(noise, labels), world.strata(labels)
        logits = features @ weights
        probabilities = np.exp(logits - logits.max(axis=1, keepdims=True))
        probabilities /= probabilities.sum(axis=1, keepdims=True)
        new = population.features(*real.draw(generator(3, "reference", repeat), 1800, dimension))
        groups = jackknife_groups(count, strata)
        shares, others = (neighbour_estimates(r, features, groups=groups) for r in (fixed, new))
        estimates = {
            "inception_score": inception_score(probabilities),
            "kid": kernel_distance(features, fixed, strata=strata, reference_strata=own),
            "precision": shares["precision"],
            "density": shares["density"],
            "recall": others["recall"],
            "coverage": others["coverage"],
        }
        for name, estimate in estimates.items():
            kind = strata if estimate.resampled == "samples" else own
            by_metric.setdefault(name, []).append(replace(estimate, strata=kind))
    rows = {}
    for name, estimates in by_metric.items():
        values, errors = np.array([(estimate.value, estimate.se) for estimate in estimates]).T
        held = coverage(values, errors, values.mean())
        rows[name] = {"sd": values.std(ddof=1), "mean se": errors.mean(), "held": held}
    return rows


def real_against_real(world: World, draws: int, dimension: int = 32) -> tuple[float, float]:
    """Return the mean KID, in its standard errors, of real images against other real ones: as strata, and as if independent."""
    population, distances = Model(dimension, 0, world), []
    for draw in range(draws):
        sides = [
            world.draw(generator(4, "real", draw, count), count, dimension) + (count,)
            for count in (500, 1297)
        ]
        features = [population.features(noise, labels) for noise, labels, _ in sides]
        strata = [strata_of(labels) for _, labels, _ in sides]
        right = kernel_distance(*features, strata=strata[0], reference_strata=strata[1])
        distances.append((right.value, kernel_distance(*features).value))
    right, wrong = np.array(distances).T
    return tuple(float(x.mean() / x.std(ddof=1) * math.sqrt(draws)) for x in (right, wrong))


def rows(quick: bool) -> Iterable[Row]:
    """Yield the share of intervals that hold the true value, beside what it may be."""
    repeats = 60 if quick else 1000

    def row(what: str, held: float, least: float, most: float, count: int) -> Row:
        # Too few repetitions are shown without a verdict.
        against = f"{least:.0%} at least" if most == 1 else f"{least:.0%} to {most:.0%}"
        text = f"95 % interval of {what}, {count} repetitions"
        missed = max(least - held, held - most, 0.0)
        return Row(text, f"{held:.1%}", against, missed, "" if quick else "<= 0")

    for world in WORLDS:
        for dimension, count in CASES[:2] if quick else CASES:
            result = frechet_rows(world, dimension, count, repeats)
            for name, what in (
                ("coverage", "FID"),
                ("paired", "a paired FID difference"),
                ("infinite", "FID at infinity"),
            ):
                if np.isnan(result[name]):
                    continue
                least, most = (0.92, 0.97) if world.tail == "light" else (0.86, 1)
                if (
                    name == "infinite"
                ):  # an extrapolation from halves, whose second-order noise has no error bar
                    least, most = min(least, 0.9), 1
                text = f"{what}, {world.name}, d = {dimension}, N = {count}"
                yield row(text, result[name], least, most, repeats)
    few = 20 if quick else 400
    for world in (WORLDS[0], WORLDS[2]):
        for name, result in other_rows(world, 500, few).items():
            most = 1 if name in ("recall", "coverage") else 0.97  # a jackknife errs on the safe side
            yield row(f"{name}, {world.name}", result["held"], 0.92, most, few)
    for world in (WORLDS[2], WORLDS[3]):
        right, wrong = real_against_real(world, 100)
        what = f"KID of real against real in standard errors, {world.name}, 100 draws"
        yield Row(what, f"{right:.2f}", f"{wrong:.1f} without strata", abs(right), "<= 2")


def main() -> None:
    """Prints two tables in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=1000)
    repeats = parser.parse_args().repeats
    heads = ["features", "d", "N", "FID", "E[FID_N]", "sd of FID_N", "mean SE", "SE as if independent"]
    heads += ["covers E[FID_N]", "without log", "covers difference", "with log", "unpaired / paired SE"]
    heads += ["FID∞ covers FID"]
    _print(heads)
    for world in WORLDS:
        for dimension, count in CASES:
            result = frechet_rows(world, dimension, count, repeats)
            numbers = [f"{result[key]:.4f}" for key in ("FID", "E[FID_N]", "sd", "mean se", "independent")]
            held = [f"{result[key]:.1%}" for key in ("coverage", "plain", "paired", "ratio")]
            last = [f"{result['narrower']:.2f}", f"{result['infinite']:.1%}".replace("nan%", "-")]
            _print([world.name, str(dimension), str(count), *numbers, *held, *last], head=False)
    print()
    _print(["features", "metric", "sd", "mean SE", "covers mean"])
    for world in (WORLDS[0], WORLDS[2]):
        for name, result in other_rows(world, 500, repeats).items():
            numbers = [f"{result['sd']:.5f}", f"{result['mean se']:.5f}", f"{result['held']:.1%}"]
            _print([world.name, name, *numbers], head=False)


def _print(cells: Sequence[str], head: bool = True) -> None:
    print("| " + " | ".join(cells) + " |", flush=True)
    if head:
        print("|---" * len(cells) + "|", flush=True)


if __name__ == "__main__":
    main()
