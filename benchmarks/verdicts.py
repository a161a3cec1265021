"""How often a table names a better row where there is none, and finds one where there is: `python -m benchmarks verdicts`.

Whole tables are drawn and judged by the functions of the table stage: FID and FID at infinity of every row and training seed,
the declared differences, their verdicts.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.rows import Row
from ditgta.report.comparisons import scale_of
from ditgta.report.declared import Declared, comparisons_of
from ditgta.report.evidence import Score
from ditgta.report.model import METRICS, Comparison
from ditgta.runtime.streams import generator

COV = 0.013  # of one training run, by Dufour, Efros and Perez (2026): 1 to 2 %
ZOO = [f"row {i}" for i in range(12)]
NINE = [(ZOO[i], ZOO[i - 1]) for i in range(1, 10)]
THREE = ZOO[:3]
TWO = [(THREE[2], THREE[1]), (THREE[2], THREE[0])]
METRIC = {metric.key: metric for metric in METRICS}
STEP = 100


def table(
    rows: Sequence[str],
    pairs: Sequence[tuple[str, str]],
    seeds: int,
    repeat: int,
    gaps: Mapping[str, float] | None = None,
    bias: Mapping[str, float] | None = None,
    spreads: Mapping[str, float] | None = None,
    shared: float = 0.0,
) -> tuple[list[Comparison], str]:
    """Draws one table; returns its differences in FID, judged, and the row in bold.

    Args:
        gaps: by how much a row's log FID truly lies above the others'.
        bias: the same of what is FID's alone, and not of FID at infinity.
        spreads: standard deviation of a row's runs instead of COV.
        shared: standard deviation of the samples' error, common to the training seeds of a row; 0: each seed has noise of its
            own, as part of its luck.
    """
    gaps, bias, spreads = gaps or {}, bias or {}, spreads or {}
    random = generator(0, "verdicts", seeds, repeat)
    groups = {}
    for row in rows:
        noise = random.standard_normal(200) * shared * math.sqrt(200)
        psi = noise - noise.mean()
        scores = []
        for seed in range(seeds):
            level = gaps.get(row, 0.0) + spreads.get(row, COV) * random.standard_normal() + noise.mean()
            values = {
                "fid": 10 * math.exp(level + bias.get(row, 0.0)),
                "fid_infinity": 9 * math.exp(level + 0.2 * COV * random.standard_normal()),
            }
            scores.append(_score(row, seed, values, psi, own_noise=not shared))
        groups[row, STEP] = scores
    metrics = [METRIC["fid"], METRIC["fid_infinity"]]
    scales = {STEP: {metric: scale_of(list(groups.values()), metric) for metric in metrics}}
    declared = [Declared(pair) for pair in pairs]
    comparisons, best = comparisons_of(groups, scales, declared, METRIC["fid"], STEP, None)
    return [comparison for comparison in comparisons if comparison.primary], best


def _score(row: str, seed: int, values: dict[str, float], psi: np.ndarray, own_noise: bool) -> Score:
    """Return a score file's content in memory, `psi` being the influence values of log FID."""
    sampling = {"seed": 0, "training_seed": seed if own_noise else None}
    se = float(psi.std(ddof=1) / math.sqrt(len(psi)))
    metrics = {name: {"value": value, "se": se * value, "reason": None} for name, value in values.items()}
    content = {"metrics": metrics, "num_samples": len(psi), "spec": {"sampling": sampling}}
    influence = {name: psi * value for name, value in values.items()}
    return Score(Path("scores.json"), content, row, seed, STEP, influence)


def named(repeats: int, rows: Sequence[str], pairs: Sequence[tuple[str, str]], seeds: int, **world) -> float:
    """Return the share of tables in which a verdict names any row better."""
    tables = (table(rows, pairs, seeds, repeat, **world)[0] for repeat in range(repeats))
    return float(np.mean([any(comparison.winner for comparison in table) for table in tables]))


def power(
    repeats: int, rows: Sequence[str], pairs: Sequence[tuple[str, str]], seeds: int, gap: float
) -> float:
    """Return the share of tables in which the first declared difference, a true gap, has its verdict."""
    first = pairs[0][0]
    tables = (table(rows, pairs, seeds, repeat, gaps={first: -gap})[0] for repeat in range(repeats))
    return float(np.mean([comparisons[0].winner == first for comparisons in tables]))


def printed_gap(repeats: int, seeds: int) -> tuple[float, float]:
    """Return the median gap that undecided tables say they would have found, and the power at it."""
    gaps = []
    for repeat in range(repeats):
        verdict = table(THREE, TWO[:1], seeds, repeat)[0][0].verdict
        gaps += [float(text) / 100 for text in re.findall(r"a gap of ([\d.]+) %", verdict)]
    gap = float(np.median(gaps))
    return gap, power(repeats, THREE, TWO[:1], seeds, math.log1p(gap))


def rows(quick: bool) -> Iterable[Row]:
    """Yield the share of tables with a false verdict, and the power."""
    repeats = 300 if quick else 3000

    def row(what: str, share: float, demand: str, against: str) -> Row:
        # Too few tables are shown without a verdict.
        return Row(f"{what}, {repeats} tables", f"{share:.1%}", against, share, "" if quick else demand)

    def false(what: str, seeds: int, **world) -> Row:
        share = named(repeats, ZOO, NINE, seeds, **world)
        return row(f"a false verdict: 12 rows, 9 differences, {what}", share, "<= 0.06", "5% declared")

    yield Row(
        f"a verdict on one seed, gap of 50 %, {repeats} tables",
        f"{named(repeats, THREE, TWO, 1, gaps={THREE[2]: -0.7}):.1%}",
        "none is earned",
        named(repeats, THREE, TWO, 1, gaps={THREE[2]: -0.7}),
        "<= 0",
    )
    for seeds in (2, 3, 5):
        yield false(f"{seeds} seeds", seeds)
    yield false("3 seeds that share noise, samples' error 1 %", 3, shared=0.01)
    for seeds in (2, 3, 5):
        unequal = {ZOO[0]: 4 * COV, ZOO[5]: 4 * COV}
        yield false(f"{seeds} seeds, two rows spread four times as far", seeds, spreads=unequal)
    biased = {name: 1.1 * COV * math.sqrt(2 / 3) for name in ZOO[::2]}
    yield false("3 seeds, FID biased by 1.1 errors in every other row", 3, bias=biased)
    for rows_, pairs in ((THREE, TWO), (ZOO, NINE)):
        share = power(repeats, rows_, pairs, 3, math.log1p(0.06))
        what = f"a gap of 6 % found: {len(rows_)} rows, {len(pairs)} differences, 3 seeds"
        yield row(what, share, ">= 0.95", "95% demanded")
    gap, share = printed_gap(repeats, 3)
    yield row(
        f"the gap that undecided tables print, {gap:.1%}, found: 3 rows", share, ">= 0.75", "80% printed"
    )
