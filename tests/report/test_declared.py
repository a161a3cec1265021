"""Contrasts of several rows, and published values beside a table's own."""

import csv
import io
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import t

from ditgta.report.chapters import page
from ditgta.report.comparisons import compare, scale_of
from ditgta.report.evidence import Score
from ditgta.report.exports import differences_csv
from ditgta.report.model import LOSS, METRICS, Cell, Declared
from ditgta.report.published import distance_error
from ditgta.report.render import render
from ditgta.report.sentences import answer, caveats
from ditgta.report.statistics import (
    Contest,
    Inference,
    Spread,
    contrast_of_runs,
    difference_of_runs,
    judge,
)
from ditgta.runtime.errors import InputError
from ditgta.stages import table
from tests.report.suite import SAMPLING, SCORER, write_score

LEVELS = {"none": 40.0, "vo": 36.0, "rope": 26.0, "gta": 25.0}
EFFECTS = [
    {"name": "rotating q, k", "weights": {"rope": 0.5, "gta": 0.5, "none": -0.5, "vo": -0.5}},
    {"name": "rotating v, o", "weights": {"vo": 0.5, "gta": 0.5, "none": -0.5, "rope": -0.5}},
    ["gta", "none"],
    {"name": "interaction", "weights": {"gta": 1, "rope": -1, "none": 1, "vo": -1}},
]
PAIRS = [["gta", "rope"], ["gta", "abs"], ["abs", "rope"]]
SPEC = {"differences": EFFECTS, "experiments": list(LEVELS), "milestones": [10], "primary": "fid"}


def scores_of(root, seeds=(0,), spread=0.0, levels=LEVELS, **changes):
    """Score files of a two-by-two, each training seed with noise of its own."""
    random, found = np.random.default_rng(1), []
    for name, level in levels.items():
        for seed in seeds:
            fid = level * math.exp(spread * random.standard_normal())
            sampling = {**SAMPLING, "training_seed": seed if len(seeds) > 1 else None}
            path = root / f"{name}-{seed}.json"
            write_score(path, name, seed, 10, fid, None, sampling=sampling, **changes)
            found.append(table.read_score(path))
    return found


def effects(built):
    return {c.title: c for c in built.comparisons if c.metric.key == "fid"}


def test_effects_of_one_seed_are_paired_sums(tmp_path):
    scores = scores_of(tmp_path)
    found = effects(table.build(scores, None, [], SPEC))
    psi = {score.experiment: score.influence["fid"] for score in scores}
    assert {title: c.value for title, c in found.items()} == pytest.approx(
        {"rotating q, k": -12.5, "rotating v, o": -2.5, "gta − none": -15.0, "interaction": 3.0}
    )
    inner = psi["gta"] + psi["none"] - psi["rope"] - psi["vo"]
    interaction = found["interaction"]
    assert interaction.se == pytest.approx(np.std(inner, ddof=1) / np.sqrt(48)) and interaction.paired
    assert interaction.high - interaction.value == pytest.approx(1.959964 * interaction.se)
    unpaired = np.hypot.reduce([np.std(p, ddof=1) / np.sqrt(48) for p in psi.values()])
    assert interaction.se < 0.5 * unpaired
    assert interaction.verdict == "one run: no verdict"


def test_effects_of_several_seeds_have_the_spread_of_runs(tmp_path):
    scores = scores_of(tmp_path, seeds=(0, 1, 2), spread=0.013)
    built = table.build(scores, None, [], SPEC)
    values = {
        name: [s.content["metrics"]["fid"]["value"] for s in scores if s.experiment == name]
        for name in LEVELS
    }
    squares = [np.var(np.log(v), ddof=1) for v in values.values()]
    means = {name: np.mean(v) for name, v in values.items()}
    found = effects(built)["rotating v, o"]
    expected = (means["vo"] + means["gta"] - means["none"] - means["rope"]) / 2
    se = math.sqrt(np.mean(squares)) * math.hypot(*(m / 2 for m in means.values())) / math.sqrt(3)
    assert found.value == pytest.approx(expected)
    assert found.se == pytest.approx(se)
    assert found.high - found.value == pytest.approx(t.ppf(0.975, 8) * se)
    words = effects(built)["rotating q, k"]
    assert words.verdict.startswith("lowers FID (adjusted p") and words.winner == "rotating q, k"
    assert '"rotating v, o = 0.5 vo + 0.5 gta − 0.5 none − 0.5 rope",,10,fid' in differences_csv(built)
    text = render("table.md", table=built)
    assert "rotating v, o = 0.5 vo + 0.5 gta − 0.5 none − 0.5 rope" in text
    assert "A contrast of several rows is the weighted sum of their values" in text
    html = page(built, table.draw(built, [], {}))
    assert (
        answer(table.build(scores, None, [], {**SPEC, "differences": EFFECTS[:1]}))
        == "rotating q, k lowers FID."
    )
    assert "<small>gta + none − rope − vo</small>" in html and "Published values" not in html


@pytest.mark.parametrize(
    ("levels", "said", "ranks"),
    [
        (
            {"abs": 30.0, "rope": 30.1, "gta": 20.0},
            "gta is better than every other row in FID; abs − rope is undecided.",
            ["2–3", "2–3", "1"],
        ),
        (
            # the ranks stay where only undecided rows change places
            {"abs": 30.1, "rope": 30.0, "gta": 20.0},
            "gta is better than every other row in FID; abs − rope is undecided.",
            ["2–3", "2–3", "1"],
        ),
        (
            {"abs": 40.0, "rope": 30.1, "gta": 30.0},
            "gta is better than abs and rope is better than abs in FID; gta − rope is undecided.",
            ["3", "1–2", "1–2"],
        ),
        (
            {"abs": 40.0, "rope": 30.0, "gta": 20.0},
            "gta is better than every other row in FID.",
            ["3", "2", "1"],
        ),
    ],
)
def test_the_answer_and_the_ranks_say_what_is_undecided(tmp_path, levels, said, ranks):
    spec = {**SPEC, "experiments": list(levels), "differences": PAIRS}
    built = table.build(scores_of(tmp_path, (0, 1, 2), 0.013, levels), None, [], spec)
    assert answer(built) == said
    assert ranks_shown(built) == [ranks] * 3


def ranks_shown(built):
    """The ranks of the rows in Markdown, HTML and LaTeX; None where the table has no such column."""
    forms = {
        "table.md": (r"\| Rank \|", r"\(3 seeds\) \| ([\d–]+) \|"),
        "table.html": (r">Rank</th>", r"3 seeds</small></th>\s*<td>([\d–]+)</td>"),
        "table.tex": (r"& Rank &", r"\(3 seeds\) & ([\d-]+) &"),
    }
    found = []
    for name, (heading, cell) in forms.items():
        text = page(built, table.draw(built, [], {})) if name == "table.html" else render(name, table=built)
        ranks = [rank.replace("--", "–") for rank in re.findall(cell, text)]
        found.append(ranks if re.search(heading, text) else None)
    return found


@pytest.mark.parametrize(
    ("differences", "seeds"),
    [(PAIRS[:2], (0, 1, 2)), (PAIRS, (0,)), (EFFECTS[:1], (0, 1, 2))],
    ids=["a pair was not compared", "one seed", "no pair"],
)
def test_rows_have_no_ranks_where_verdicts_cannot_give_them(tmp_path, differences, seeds):
    built = table.build(scores_of(tmp_path, seeds, 0.013), None, [], {**SPEC, "differences": differences})
    assert ranks_shown(built) == [None] * 3


def test_the_answer_says_why_a_verdict_is_withheld(tmp_path):
    spec = {**SPEC, "experiments": ["abs", "rope", "gta"], "differences": PAIRS}
    scores = scores_of(tmp_path, (0, 1, 2), 0.013, {"abs": 40.0, "rope": 30.0, "gta": 20.0})
    for score in scores:
        if score.experiment == "gta":
            score.content["metrics"]["fid_infinity"]["value"] = 60.0
    assert answer(table.build(scores, None, [], spec)) == (
        "rope is better than abs in FID; no verdict on gta − rope and gta − abs: FID and FID∞ disagree."
    )
    for score in scores:
        del score.content["metrics"]["fid_infinity"]
    assert answer(table.build(scores, None, [], spec)) == (
        "No verdict on 3 of 3 differences: without FID∞ the gap may be FID's bias."
    )
    one = [score for score in scores if score.experiment != "abs" or score.seed == 0]
    cov = {**spec, "training_cov": 0.013, "differences": PAIRS[1:], "primary": "kid"}
    assert "no verdict on gta − abs and abs − rope: a row has one training run" in answer(
        table.build(one, None, [], {**cov, "differences": [["gta", "rope"], *PAIRS[1:]]})
    )
    alone = [score for score in scores if score.experiment != "gta"]
    spec = {**spec, "differences": PAIRS[:2]}
    assert answer(table.build(alone, None, [], spec)) == (
        "No verdict on gta − rope and gta − abs: no scores of gta."
    )


def test_a_contrast_of_two_rows_is_their_difference():
    first, second = [3.0, 3.2, 2.9], [4.0, 4.5, 4.1]
    for pooled in (Spread(0.3, 12), None):
        contrast = contrast_of_runs([first, second], [1, -1], pooled, False, 0.1)
        pair = difference_of_runs(first, second, pooled, 0.1)
        assert contrast.value == pytest.approx(pair.value) and contrast.runs == pytest.approx(pair.runs)
        assert contrast.degrees == pytest.approx(pair.degrees)


def test_intervals_do_not_depend_on_the_order_of_a_pair(tmp_path):
    pairs = [["gta", "none"], ["none", "gta"], {"name": "x", "weights": {"gta": 1, "none": -1}}]
    scores = scores_of(tmp_path, (0, 1, 2), 0.013, {"none": 60.0, "gta": 5.0})
    spec = {**SPEC, "experiments": ["none", "gta"], "differences": pairs}
    pair, turned, contrast = [c for c in table.build(scores, None, [], spec).comparisons if c.primary]
    assert (pair.low, pair.high, pair.se) == pytest.approx((-turned.high, -turned.low, turned.se))
    assert (pair.low, pair.high, pair.se) == pytest.approx((contrast.low, contrast.high, contrast.se))
    assert pair.high - pair.low > 4 * pair.se  # of 4 degrees of freedom
    assert pair.verdict.startswith("gta better (") and turned.verdict.startswith("none worse (")


def test_intervals_of_rows_that_lie_far_apart_hold_the_true_difference(tmp_path):
    random, held = np.random.default_rng(2), []
    metric, declared = next(m for m in METRICS if m.key == "fid"), Declared(("low", "high"))
    for _ in range(400):
        groups = []
        for name, level in {"low": 10.0, "high": 50.0}.items():
            values = level * (1 + 0.05 * random.standard_normal(3))
            sampling = {**SAMPLING, "seed": 0}
            metrics = [{"fid": {"value": value, "se": 0.0, "reason": None}} for value in values]
            groups.append(
                [
                    Score(
                        Path("scores.json"),
                        {"metrics": m, "spec": {"sampling": {**sampling, "training_seed": seed}}},
                        name,
                        seed,
                        10,
                        {},
                    )
                    for seed, m in enumerate(metrics)
                ]
            )
        found, _ = compare(groups, metric, declared, 10, scale_of(groups, metric))
        held.append(found.low < -40.0 < found.high)
    assert 0.92 <= np.mean(held) <= 0.98


def test_verdicts_on_contrasts_name_the_direction():
    def words(value, better):
        contest = Contest(("x", ""), Inference(value, 0.1, 8, 0.0), relative=False, check=None)
        return judge([contest], better, "FID", None)[0]

    assert words(-2.0, -1).words.startswith("lowers FID") and words(-2.0, -1).winner == "x"
    assert words(2.0, -1).words.startswith("raises FID") and words(2.0, -1).winner == "without x"
    one = Contest(("x", ""), Inference(-1.0, None, math.inf, 0.0), relative=False, moved=50.0)
    assert judge([one], -1, "FID", 0.01)[0].words == "lower; z = 2.0 if retraining moves FID by 1 %"
    assert judge([replace(one, moved=None)], -1, "FID", 0.01)[0].words == "one run: no verdict"


def test_rows_that_a_contrast_lacks_are_named(tmp_path):
    scores = [score for score in scores_of(tmp_path) if score.experiment != "vo"]
    found = effects(table.build(scores, None, [], SPEC))
    assert found["interaction"].value is None and found["interaction"].reason == "no scores of vo"
    assert found["gta − none"].value is not None


@pytest.mark.parametrize("entry", [["a"], {"name": "x"}, {"weights": {"a": 1}}, "ab", 3])
def test_other_forms_of_differences_are_refused(tmp_path, entry):
    with pytest.raises(InputError, match="differences are pairs"):
        table.build(scores_of(tmp_path), None, [], {"differences": [entry]})


PUBLISHED = {"published": {"gta": {"10": 24.0}, "vo": {"10": 36.0}}, "published_source": "a paper"}


def test_published_values_stand_beside_ours(tmp_path):
    scores = scores_of(tmp_path, scorer={**SCORER, "published": True})
    built = table.build(scores, None, [], {**SPEC, **PUBLISHED, "training_cov": 0.02})
    vo, gta = built.published
    assert (gta.experiment, gta.step, gta.value) == ("gta", 10, 24.0)
    se = gta.cell.se
    assert gta.distance == pytest.approx(1.0 / math.hypot(se, se, 0.02 * 25, 0.02 * 24))
    assert vo.distance == pytest.approx(0)
    text = render("table.md", table=built)
    assert "## Published values" in text and "a paper" in text and f"{gta.distance:+.1f}" in text
    html = page(built, table.draw(built, [], {}))
    assert "<h2>Published values</h2>" in html and f"<td>{gta.distance:+.1f}</td>" in html


def test_another_scorer_has_no_distance_to_published_values(tmp_path):
    built = table.build(scores_of(tmp_path), None, [], {**SPEC, **PUBLISHED})
    assert [one.distance for one in built.published] == [None, None]
    assert "the scorer is not the network of published scores" in render("table.md", table=built)


def test_errors_of_distances_hold_what_is_known_of_training():
    one = Cell(25.0, se=0.1, values=(25.0,))
    assert distance_error(one, 24.0, None) == pytest.approx(math.hypot(0.1, 0.1))
    several = Cell(25.0, se=0.06, sd=0.3, values=(24.7, 25.0, 25.3), error=0.2)
    assert distance_error(several, 24.0, None) == pytest.approx(math.hypot(0.2, 0.3))
    assert distance_error(several, 24.0, 0.01) == pytest.approx(
        math.hypot(0.06, 0.06 * math.sqrt(3), 0.25 / math.sqrt(3), 0.24)
    )


@pytest.mark.parametrize(("baseline", "is_far"), [(0.5, True), (1.0, False), (0.0, False)])
def test_training_that_is_far_from_the_data_is_said(tmp_path, baseline, is_far):
    """The lowest FID is 25: 50 times a baseline of 0.5, and within the papers' distance of one of 1."""
    scores = scores_of(tmp_path)
    path = write_score(tmp_path / "baseline.json", "", 0, None, baseline, None)
    baseline = replace(table.read_score(path), experiment="real against real", step=None)
    built = table.build(scores, baseline, [], SPEC)
    words = "Training is still far from the data: the lowest FID, 25 of gta, is 50 times that of real images"
    for text in (render("table.md", table=built), page(built, table.draw(built, [], {}))):
        assert (words in text) == is_far
    assert ("hold images out (images.hold_out)" in "".join(caveats(built))) == is_far
    with_loss = replace(built, metrics=[LOSS, *built.metrics])
    assert ("use the held-out loss here" in "".join(caveats(with_loss))) == is_far


@pytest.mark.parametrize(("accuracy", "is_far"), [(0.3, True), (0.7, False)])
def test_samples_that_show_no_class_are_said_to_be_far_from_the_data(tmp_path, accuracy, is_far):
    """Also where FID does not tell, because its baseline is biased: of five classes chance is 0.2."""
    scores = scores_of(tmp_path, (0, 1, 2), 0.013, {"rope": 30.0, "gta": 20.0})
    path = write_score(tmp_path / "baseline.json", "", 0, None, 1.0, None)
    baseline = replace(table.read_score(path), experiment="real against real", step=None)
    for score in [*scores, baseline]:
        value = 0.98 if score is baseline else accuracy
        score.content["metrics"]["class_accuracy"] = {"value": value, "se": 0.01, "reason": None}
    spec = {**SPEC, "experiments": ["rope", "gta"], "differences": [["gta", "rope"]]}
    built = table.build(scores, baseline, [], spec, classes=list("abcde"))
    words = "show the requested class in only 30 % of cases (real images: 98 %, chance: 20 %)"
    assert (words in " ".join(caveats(built))) == is_far
    assert ("training is still far from the data" in answer(built)) == is_far


@pytest.mark.parametrize("declared", [["gta", "rope"], {"name": "effect", "weights": {"gta": 1, "rope": -1}}])
def test_verdicts_stand_as_numbers_beside_their_words(tmp_path, declared):
    """Of logarithms the gap is a share, of a contrast it is in the metric's units; without a test there is neither number."""
    levels = {"rope": 26.0, "gta": 25.9}
    spec = {**SPEC, "differences": [declared], "experiments": list(levels)}
    built = table.build(scores_of(tmp_path, (0, 1, 2), 0.02, levels), None, [], spec)
    lines = list(csv.DictReader(io.StringIO(differences_csv(built))))
    (one,) = [line for line in lines if line["verdict"]]
    p, percent, gap = re.fullmatch(
        r"undecided \(adjusted p = (\S+); a gap of (?:(\S+) %|(\S+)) would have been found\)", one["verdict"]
    ).groups()
    assert float(one["p_adjusted"]) == pytest.approx(float(p), rel=0.06)
    shown = float(percent) / 100 if percent else float(gap)
    assert float(one["detectable_gap"]) == pytest.approx(shown, rel=0.06)
    assert (gap is not None) == isinstance(declared, dict)
    assert all(line["p_adjusted"] == line["detectable_gap"] == "" for line in lines if line is not one)
    single = table.build(scores_of(tmp_path, (0,), 0.02, levels), None, [], spec)
    assert all(
        line["p_adjusted"] == line["detectable_gap"] == ""
        for line in csv.DictReader(io.StringIO(differences_csv(single)))
    )
