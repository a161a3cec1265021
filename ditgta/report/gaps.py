"""Which gap a suite's training runs can find, said before they are run."""

import math

from ditgta.report.statistics import LEVEL, POWER, Inference

# Shares by which retraining moves a metric: FID at ImageNet's scale (arXiv 2606.20536), and the held-out loss in the default suite
# (docs/miniature.md) and, at most, of small pictures after few steps.
FID, LOSS, LOSS_AT_MOST = 0.013, 0.021, 0.058


def gap_text(rows: int, runs: int, differences: int, primary: str, features: int) -> str:
    """Return which gap so many runs of each row can find, as far as the spread of the primary metric is known: loss, fid or kid.

    `features`: of the scorer, which decide what FID needs.
    """
    luck = Inference(0.0, math.sqrt(2 / runs), rows * (runs - 1), 0.0)
    gap = luck.smallest_gap(LEVEL / differences)
    few = "a class has too few images to hold some out"
    if primary == "loss":
        usual, most = (math.expm1(gap * spread) for spread in (LOSS, LOSS_AT_MOST))
        found = (
            f"{usual:.1%} if retraining moves a row's held-out loss by {LOSS:.1%}, as in the default suite (docs/miniature.md), "
            f"{most:.0%} if by {LOSS_AT_MOST:.1%}, as with small pictures after few steps; primary metric: held-out loss"
        )
    elif primary == "fid":
        found = (
            f"{gap * FID:.1%} if retraining moves a row's FID by {FID:.1%}, as at ImageNet's scale; "
            f"primary metric: FID: {few}"
        )
    else:
        found = (
            f"and that of KID is not known before; primary metric: KID: {few}, and a verdict on FID needs "
            f"more than {features:,} of them and {2 * features + 2:,} samples"
        )
    return (
        f"{runs} training seeds before more steps, because one run gets no verdict: at {POWER:.0%} power a gap of {gap:.1f} times "
        f"the spread of the runs is found, {found}"
    )
