"""From training runs to verdicts: each formula against SciPy or a simulation, and what may be said when."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from ditgta.report.statistics import (
    BEYOND_DOUBT,
    Contest,
    Inference,
    Spread,
    difference_of_runs,
    holm,
    judge,
    mean_of_runs,
    p_text,
    ranks_of,
    spread_of_runs,
    spreads_agree,
)


def test_spread_is_that_around_the_means_of_the_rows():
    groups = [[1.0, 3.0], [10.0, 10.5, 11.0], [7.0]]
    found = spread_of_runs(groups)
    assert found.degrees == 3 and found.rows == 2
    assert found.sd == pytest.approx(math.sqrt((2.0 + 0.5) / 3))
    assert spread_of_runs([[7.0], [8.0]]) is None


def test_rows_of_unequal_spread_are_kept_apart_by_bartletts_test():
    random, agreed = np.random.default_rng(0), []
    for _ in range(300):
        groups = [random.normal(0, sd, n) for sd, n in ((1, 3), (1, 5), (4, 4), (1, 2))]
        agreed.append(stats.bartlett(*groups).pvalue >= BEYOND_DOUBT)
        assert spreads_agree([*groups, [1.0]]) == agreed[-1]
    assert 0.05 < np.mean(agreed) < 0.95
    assert spreads_agree([[1.0, 2.0]]) and spreads_agree([[1.0, 1.0], [2.0, 2.0]])
    assert not spreads_agree([[1.0, 1.0], [2.0, 3.0]])


def test_two_rows_are_compared_by_students_t():
    first, second = [0.1, 0.4, 0.2], [0.9, 0.7, 0.8]
    found = difference_of_runs(first, second, spread_of_runs([first, second]), 0.0)
    expected = stats.ttest_ind(first, second)
    assert found.p == pytest.approx(expected.pvalue, rel=1e-9)
    low, high = expected.confidence_interval(0.95)
    assert (found.value - found.half_width(), found.value + found.half_width()) == pytest.approx((low, high))
    assert found.se == pytest.approx(np.sqrt(np.var(first, ddof=1) / 3 + np.var(second, ddof=1) / 3))


def test_rows_that_do_not_agree_are_compared_by_welchs():
    first, second = [0.1, 0.4, 0.2], [0.9, 3.7, 0.8, 2.0]
    found = difference_of_runs(first, second, None, 0.0)
    expected = stats.ttest_ind(first, second, equal_var=False)
    assert found.p == pytest.approx(expected.pvalue, rel=1e-9)
    assert found.degrees == pytest.approx(expected.df)


def test_a_spread_of_all_rows_never_narrows_rows_that_spread_further():
    pooled, first, second = Spread(0.1, 22, 12), [0.0, 1.0], [3.0, 5.0]
    found = difference_of_runs(first, second, pooled, 0.0)
    assert found.degrees == 22 and found.runs == pytest.approx(math.sqrt((0.5 + 2.0) / 2))
    assert difference_of_runs([1.0, 1.01], [2.0, 2.01], pooled, 0.0).runs == pytest.approx(0.1)
    assert mean_of_runs([1.0, 1.01], pooled, 0.0).runs == pytest.approx(0.1 / math.sqrt(2))
    assert mean_of_runs(second, pooled, 0.0).runs == pytest.approx(1.0)
    assert mean_of_runs(second, None, 0.0).degrees == 1


def test_one_run_has_the_samples_error_alone():
    assert mean_of_runs([4.0], Spread(0.1, 4, 2), 0.2) == Inference(4.0, None, math.inf, 0.2)
    found = difference_of_runs([4.0], [3.0, 5.0], Spread(0.1, 4, 2), 0.2)
    assert found.runs is None and found.half_width() == pytest.approx(1.959964 * 0.2)
    assert found.smallest_gap() is None
    assert Inference(4.0, None, math.inf, None).half_width() is None


def test_both_errors_add_in_quadrature_and_p_is_the_level_at_which_the_interval_ends_at_zero():
    found = Inference(1.3, 0.4, 2, 0.3)
    assert found.se == pytest.approx(0.5)
    assert found.half_width() == pytest.approx(np.hypot(4.302653 * 0.4, 1.959964 * 0.3), rel=1e-6)
    assert found.half_width(found.p) == pytest.approx(1.3, rel=1e-9)
    assert replace(found, runs=1e-12).p == pytest.approx(2 * stats.norm.sf(1.3 / 0.3), rel=1e-6)
    assert replace(found, samples=0.0).p == pytest.approx(2 * stats.t.sf(1.3 / 0.4, 2), rel=1e-9)
    assert Inference(0.0, 0.0, 4, 0.0).p == 1.0


def test_intervals_over_seeds_that_share_sampling_noise_hold_their_level():
    random, held = np.random.default_rng(0), []
    for _ in range(3000):  # training luck 3, sampling luck that all five seeds share 1, that of each seed 0.3
        values = random.normal(0, 1) + random.normal(0, 3, 5) + random.normal(0, 0.3, 5)
        found = mean_of_runs(values, None, np.hypot(1, 0.3 / np.sqrt(5)))
        held.append(abs(found.value) <= found.half_width())
    assert 0.95 < np.mean(held) < 0.98  # the wider of both errors alone would hold 92.5 %


@pytest.mark.parametrize(("degrees", "level"), [(2, 0.05), (4, 0.05), (6, 0.025), (24, 0.05 / 9)])
def test_the_smallest_gap_is_that_of_the_noncentral_t(degrees, level):
    gap = Inference(0.0, 0.7, degrees, 0.0).smallest_gap(level)
    bound = stats.t.isf(level / 2, degrees)
    power = stats.nct.sf(bound, degrees, gap / 0.7) + stats.nct.cdf(-bound, degrees, gap / 0.7)
    assert power == pytest.approx(0.8, abs=2e-3)


def test_the_smallest_gap_is_found_in_four_of_five_simulations():
    runs, samples, degrees, random = 0.4, 0.3, 6, np.random.default_rng(1)
    gap = Inference(0.0, runs, degrees, samples).smallest_gap()
    shown = runs * np.sqrt(random.chisquare(degrees, 4000) / degrees)
    values = random.normal(gap, math.hypot(runs, samples), 4000)
    found = [Inference(value, run, degrees, samples).p <= 0.05 for value, run in zip(values, shown)]
    assert np.mean(found) == pytest.approx(0.8, abs=0.02)


def test_holm_steps_down():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9, 1.0]) == [1.0, 1.0, 1.0] and holm([]) == []
    random = np.random.default_rng(2)
    for _ in range(
        50
    ):  # by the procedure itself: reject the smallest while it is at most level / how many are left
        values = random.uniform(0, 0.06, 5)
        rejected = set()
        for rank, i in enumerate(np.argsort(values)):
            if values[i] > 0.05 / (5 - rank):
                break
            rejected.add(int(i))
        assert {i for i, p in enumerate(holm(values)) if p <= 0.05} == rejected


def far(value: float = -0.3, se: float = 0.02, degrees: float = 6) -> Inference:
    return Inference(value, se, degrees, 0.0)


def words(*contests: Contest, better: int = -1, cov: float | None = None) -> list[str]:
    return [verdict.words for verdict in judge(contests, better, "FID", cov)]


def test_one_run_earns_no_verdict_however_far_rows_lie_apart():
    one = Inference(-5.0, None, math.inf, 0.01)
    assert words(Contest(("a", "b"), one)) == ["one run: no verdict"]
    verdict = judge([Contest(("a", "b"), one)], -1, "FID", 0.013)[0]
    assert verdict.winner == verdict.loser == "" and verdict.p is None
    close = Inference(-0.0235, None, math.inf, 0.006)
    z = 0.0235 / math.hypot(math.sqrt(2) * 0.013, 0.006)
    assert words(Contest(("a", "b"), close), cov=0.013) == [
        f"lower; z = {z:.1f} if retraining moves FID by 1.3 %"
    ]
    assert words(Contest(("a", "b"), replace(close, value=0.02)), cov=0.02)[0].startswith(
        "higher; z = 0.7 if"
    )
    plain = Contest(("a", "b"), close, relative=False)
    assert words(plain, cov=0.013) == ["one run: no verdict"]  # a share of a level needs levels above zero


def test_several_runs_name_the_better_row():
    contest = Contest(("a", "b"), far(), check=far())
    (verdict,) = judge([contest], -1, "FID", None)
    assert verdict.words == f"a better ({p_text(far().p)})" and (verdict.winner, verdict.loser) == ("a", "b")
    (worse,) = judge([contest], +1, "Precision", None)
    assert worse.words.startswith("a worse") and (worse.winner, worse.loser) == ("b", "a")


def test_undecided_says_what_would_have_been_found():
    near = far(-0.01)
    (found,) = words(Contest(("a", "b"), near, check=near))
    gap = 100 * math.expm1(near.smallest_gap(0.05))
    assert found == f"undecided ({p_text(near.p)}; a gap of {gap:.2g} % would have been found)"
    (plain,) = words(Contest(("a", "b"), near, relative=False, check=near))
    assert f"a gap of {near.smallest_gap(0.05):.2g} would" in plain
    three = words(*[Contest(("a", "b"), near, check=near)] * 3)[0]
    assert f"a gap of {100 * math.expm1(near.smallest_gap(0.05 / 3)):.2g} %" in three


def test_many_differences_need_smaller_p_values():
    edge = far(-0.06)  # p = 0.024
    assert 0.02 < edge.p < 0.03
    assert words(Contest(("a", "b"), edge, check=edge))[0].startswith("a better")
    two = words(*[Contest(("a", "b"), edge, check=edge)] * 3)
    assert all(text.startswith("undecided") for text in two)
    absent = Contest(("a", "c"), None)  # what was declared counts, scored or not
    assert words(Contest(("a", "b"), edge, check=edge), absent, absent)[1:] == ["", ""]
    assert words(Contest(("a", "b"), edge, check=edge), absent, absent)[0].startswith("undecided")


@pytest.mark.parametrize("check", [far(+0.3), far(-0.02), Inference(-0.3, None, math.inf, 0.01)])
def test_fid_must_not_be_contradicted_by_what_has_less_bias(check):
    assert words(Contest(("a", "b"), far(), check=check)) == ["no verdict: FID and FID∞ disagree"]
    blank = Contest(("a", "b"), far(), reason="because")
    assert words(blank) == ["no verdict: because"]
    assert words(replace(blank, inference=far(-0.001)))[0].startswith("undecided")


def test_rows_share_the_places_that_verdicts_leave_open():
    def ranks(rows, *pairs):
        contests = [Contest(pair, far(), check=far()) for pair in pairs]
        found = ranks_of([judge([contest], -1, "FID", None)[0] for contest in contests], rows)
        return [found[row] for row in rows]

    assert ranks("abc", ("a", "b"), ("a", "c")) == [(1, 1), (2, 3), (2, 3)]
    assert ranks("cba", ("a", "b"), ("b", "c")) == [(3, 3), (2, 2), (1, 1)]  # a and c by way of b
    assert ranks("abc", ("a", "b")) == [(1, 2), (2, 3), (1, 3)]
    assert ranks("ab", ("a", "elsewhere")) == ranks("ab") == [(1, 2)] * 2


def test_a_difference_without_a_winner_ranks_nothing():
    blank = judge([Contest(("a", "b"), far(), reason="because")], -1, "FID", None)
    contrast = judge([Contest(("effect", ""), far(), check=far())], -1, "FID", None)
    assert ranks_of([*blank, *contrast], "ab") == {"a": (1, 2), "b": (1, 2)}


def test_p_values_are_short():
    assert p_text(0.0372) == "adjusted p = 0.037" and p_text(2e-5) == "adjusted p < 0.001"
    assert p_text(1.0) == "adjusted p = 1"


def test_whole_tables_name_few_false_rows_and_find_true_ones():
    from benchmarks.verdicts import NINE, THREE, TWO, ZOO, named, power

    assert named(40, THREE, TWO, 1, gaps={THREE[2]: -0.7}) == 0
    assert named(60, ZOO, NINE, 3) <= 4 / 60
    assert power(60, THREE, TWO, 3, math.log1p(0.06)) >= 0.9
