"""How often a nominal 95 % interval holds the true value: `python -m benchmarks.interval_coverage`."""

import argparse
from collections.abc import Iterable

import numpy as np

from benchmarks.rows import Row
from ditgta.runtime.streams import generator
from ditgta.scoring.frechet import frechet_at_infinity, frechet_distance, frechet_estimate
from ditgta.scoring.inception_score import inception_score
from ditgta.scoring.kernel import kernel_distance
from ditgta.scoring.neighbours import neighbour_estimates
from ditgta.scoring.statistics import Estimate, paired_difference

_Z = 1.959964


class Model:
    """A generator of Gaussian features x = m + A z; two models given the same z are two rows with the same seeds."""

    def __init__(self, dimension: int, index: int):
        random = generator(0, "model", index)
        self.mean = 0.15 * random.standard_normal(dimension)
        mix = np.linalg.qr(generator(0, "mix").standard_normal((dimension, dimension)))[0]
        scales = np.geomspace(1.0, 0.1, dimension) * np.exp(0.15 * random.standard_normal(dimension))
        self.factor = mix * scales

    def features(self, noise: np.ndarray) -> np.ndarray:
        """Returns (n, d) features of (n, d) noise."""
        return self.mean + noise @ self.factor.T


def coverage(values: np.ndarray, errors: np.ndarray, truth: float) -> float:
    """Returns the share of intervals value +- 1.96 error that hold the truth."""
    return float(np.mean(np.abs(values - truth) <= _Z * errors))


def frechet_rows(
    dimension: int, count: int, repeats: int, population: Model, first: Model, second: Model
) -> dict:
    """Simulates FID_N, the paired difference of two models, and FID at infinite N; returns coverage of each.

    The truth of E[FID_N] is the mean over all repeats; the truth at infinite N is the population's distance.
    """
    covariance = population.factor @ population.factor.T
    found = []
    for repeat in range(repeats):
        noise = generator(1, "noise", dimension, count, repeat).standard_normal((count, dimension))
        a = frechet_estimate(first.features(noise), population.mean, covariance)
        b = frechet_estimate(second.features(noise), population.mean, covariance)
        difference = paired_difference(a.influence, b.influence, a.value, b.value)
        unpaired = np.hypot(a.se, b.se)
        order = generator(1, "halves", repeat).permutation(count)
        infinite = frechet_at_infinity(first.features(noise), population.mean, covariance, order, a)
        limit = np.nan if infinite.value is None else infinite.value
        found.append((a.value, a.se, difference.value, difference.se, unpaired, limit))
    value, error, difference, paired, unpaired, infinite = np.array(found).T
    truth = frechet_distance(first.mean, first.factor @ first.factor.T, population.mean, covariance)
    return {
        "E[FID_N]": value.mean(),
        "FID": truth,
        "sd": value.std(ddof=1),
        "mean se": error.mean(),
        "coverage": coverage(value, error, value.mean()),
        "paired": coverage(difference, paired, difference.mean()),
        "narrower": (unpaired / paired).mean(),
        "infinite": np.nan if np.isnan(infinite).any() else coverage(infinite, error, truth),
    }


def other_rows(count: int, repeats: int, dimension: int = 32) -> dict[str, tuple[float, float, float]]:
    """Simulates the other metrics with the reference fixed; returns (sd, mean se, coverage of the metric's mean)."""
    population, model = Model(dimension, 0), Model(dimension, 1)
    reference_noise = generator(2, "reference").standard_normal((2000, dimension))
    reference = population.features(reference_noise)
    weights = generator(2, "classes").standard_normal((dimension, 20))
    found: dict[str, list[Estimate]] = {}
    for repeat in range(repeats):
        features = model.features(generator(2, "noise", repeat).standard_normal((count, dimension)))
        logits = features @ weights
        probabilities = np.exp(logits - logits.max(axis=1, keepdims=True))
        probabilities /= probabilities.sum(axis=1, keepdims=True)
        neighbours = neighbour_estimates(reference, features)
        estimates = {
            "inception_score": inception_score(probabilities),
            "kid": kernel_distance(features, reference),
            "precision": neighbours["precision"],
            "density": neighbours["density"],
        }
        for name, estimate in estimates.items():
            found.setdefault(name, []).append(estimate)
    rows = {}
    for name, estimates in found.items():
        values, errors = np.array([(estimate.value, estimate.se) for estimate in estimates]).T
        rows[name] = (values.std(ddof=1), errors.mean(), coverage(values, errors, values.mean()))
    return rows


CASES = ((16, 400), (64, 320), (64, 640), (64, 1600))  # (features, samples)


def rows(quick: bool) -> Iterable[Row]:
    """Yields the share of intervals that hold the true value, beside the nominal one."""
    repeats = 100 if quick else 400
    # Three standard errors below .95 with 400 repetitions; 100 are too few to judge by.
    demand = "" if quick else ">= 0.917"

    def row(what: str, held: float) -> Row:
        return Row(
            f"95 % interval of {what}, {repeats} repetitions", f"{held:.1%}", "95% nominal", held, demand
        )

    for dimension, count in CASES[1:3] if quick else CASES:
        found = frechet_rows(dimension, count, repeats, *(Model(dimension, index) for index in range(3)))
        for name, what in (
            ("coverage", "FID"),
            ("paired", "a paired FID difference"),
            ("infinite", "FID at infinity"),
        ):
            yield row(f"{what}, d = {dimension}, N = {count}", found[name])
    for name, (_, _, held) in other_rows(1000, repeats).items():
        yield row(name, held)


def main() -> None:
    """Prints two tables in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=400)
    repeats = parser.parse_args().repeats
    print(
        "| d | N | N/d | FID | E[FID_N] | sd of FID_N | mean SE | E[FID_N] held | paired difference held | "
        "unpaired SE / paired SE | FID held by FID at infinite N |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for dimension, count in CASES:
        models = (Model(dimension, index) for index in range(3))
        row = frechet_rows(dimension, count, repeats, *models)
        print(
            f"| {dimension} | {count} | {count / dimension:g} | {row['FID']:.4f} | {row['E[FID_N]']:.4f} | "
            f"{row['sd']:.4f} | {row['mean se']:.4f} | {row['coverage']:.1%} | {row['paired']:.1%} | "
            f"{row['narrower']:.2f} | {row['infinite']:.1%} |",
            flush=True,
        )
    print("\n| metric | sd | mean SE | mean held |\n|---|---|---|---|")
    for name, (deviation, error, held) in other_rows(1000, repeats).items():
        print(f"| {name} | {deviation:.5f} | {error:.5f} | {held:.1%} |")


if __name__ == "__main__":
    main()
