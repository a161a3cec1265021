"""Processor time and error of the Frechet distance against a matrix root: `python -m benchmarks.frechet_speed`."""

import argparse
import time
import warnings
from collections.abc import Callable, Iterable

import numpy as np
import scipy.linalg
from threadpoolctl import threadpool_limits

from benchmarks.rows import Row
from ditgta.runtime.streams import generator
from ditgta.scoring.frechet import frechet_distance, frechet_estimate


def by_matrix_root(mean_1, covariance_1, mean_2, covariance_2) -> float:
    """Return the Frechet distance by scipy's `sqrtm` of the product, as it is usually computed."""
    shift = mean_1 - mean_2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        root = np.asarray(scipy.linalg.sqrtm(covariance_1 @ covariance_2))
    return float(shift @ shift + np.trace(covariance_1) + np.trace(covariance_2) - 2 * np.trace(root).real)


def by_eigendecomposition(mean_1, covariance_1, mean_2, covariance_2) -> float:
    """Return the Frechet distance by eigendecompositions of both covariances, their null spaces left out."""
    factors = []
    for covariance in (covariance_1, covariance_2):
        values, vectors = np.linalg.eigh(covariance)
        kept = values > len(values) * np.finfo(np.float64).eps * values[-1]
        factors.append(vectors[:, kept] * np.sqrt(values[kept]))
    shift = mean_1 - mean_2
    root = np.linalg.svd(factors[0].T @ factors[1], compute_uv=False).sum()
    return float(shift @ shift + np.trace(covariance_1) + np.trace(covariance_2) - 2 * root)


def cases(dimension: int) -> dict[str, tuple[np.ndarray, ...]]:
    """Return (mean, covariance, mean, covariance) of regular, ill-conditioned and singular pairs."""

    def sampled(count: int, index: int) -> tuple[np.ndarray, np.ndarray]:
        random = generator(0, "features", count, index)
        scales = np.geomspace(1, 1e-2, dimension)[random.permutation(dimension)]
        features = random.standard_normal((count, dimension)) * scales + 0.1 * random.standard_normal(
            dimension
        )
        return features.mean(axis=0), np.cov(features, rowvar=False)

    def conditioned(number: float, index: int) -> tuple[np.ndarray, np.ndarray]:
        random = generator(0, "spectrum", index)
        basis = np.linalg.qr(random.standard_normal((dimension, dimension)))[0]
        factor = basis * np.sqrt(np.geomspace(1, 1 / number, dimension))
        covariance = factor @ factor.T
        return 0.1 * random.standard_normal(dimension), (covariance + covariance.T) / 2

    constant = []
    for index in (0, 1):
        mean, covariance = sampled(4 * dimension, index)
        dead = generator(0, "dead").permutation(dimension)[: dimension // 50]
        covariance[dead] = covariance[:, dead] = 0
        constant.append((mean, covariance))
    regular = sampled(4 * dimension, 0), sampled(4 * dimension, 1)
    return {
        "regular": (*regular[0], *regular[1]),
        "condition 1e10": (*conditioned(1e10, 0), *conditioned(1e10, 1)),
        "one singular (N = d/2)": (*regular[0], *sampled(dimension // 2, 2)),
        "both singular (N = d/2)": (*sampled(dimension // 2, 2), *sampled(dimension // 2, 3)),
        "constant features": (*constant[0], *constant[1]),
    }


def _timed(function: Callable, *arguments) -> tuple[float, float]:
    """Return a value and the seconds of one thread's work, which other programs on the machine do not change much."""
    with threadpool_limits(limits=1):
        start = time.process_time()
        value = function(*arguments)
        return value, time.process_time() - start


def measure(dimension: int) -> Iterable[tuple[str, float, float, float, float]]:
    """Yield (case, seconds of sqrtm, seconds here, error of sqrtm, error here), errors against eigendecompositions."""
    for name, arguments in cases(dimension).items():
        exact = by_eigendecomposition(*arguments)
        root, root_seconds = _timed(by_matrix_root, *arguments)
        here, seconds = _timed(frechet_distance, *arguments)
        yield name, root_seconds, seconds, *(abs(value - exact) / exact for value in (root, here))


def rows(quick: bool) -> Iterable[Row]:
    """Yield a row for the processor time of each case, and one for the worst error of all."""
    dimension = 512 if quick else 2048
    timings = list(measure(dimension))
    for name, root_seconds, seconds, _, _ in timings:
        yield Row(
            f"Frechet distance, d = {dimension}, {name}",
            f"{seconds:.2f} s",
            f"{root_seconds:.2f} s (scipy's sqrtm)",
            root_seconds / seconds,
            "" if quick else ">= 8",
        )
    worst = [max(case[place] for case in timings) for place in (3, 4)]
    yield Row(
        f"Frechet distance, d = {dimension}, worst relative error",
        f"{worst[1]:.1e}",
        f"{worst[0]:.1e} (scipy's sqrtm)",
        worst[1] / worst[0],
        "<= 1",
    )


def main() -> None:
    """Prints one table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dimension", type=int, default=2048)
    dimension = parser.parse_args().dimension
    print(f"d = {dimension}, one thread\n")
    print("| case | sqrtm s | here s | ratio | error of sqrtm | error here |\n|---|---|---|---|---|---|")
    for name, root_seconds, seconds, root_error, error in measure(dimension):
        print(
            f"| {name} | {root_seconds:.2f} | {seconds:.2f} | {root_seconds / seconds:.1f} | "
            f"{root_error:.1e} | {error:.1e} |",
            flush=True,
        )
    features = generator(0, "influence").standard_normal((4 * dimension, dimension))
    _, seconds = _timed(frechet_estimate, features, *cases(dimension)["regular"][:2])
    print(f"\nvalue and {len(features)} influence values from features: {seconds:.2f} s")


if __name__ == "__main__":
    main()
