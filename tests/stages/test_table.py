"""The table stage from files to files: numbers, verdicts, pictures, absent values, seeds and refusals."""

import csv
import json
import re
from dataclasses import asdict
from html import unescape

import numpy as np
import pytest
import yaml
from PIL import Image
from scipy.stats import t, ttest_ind

from ditgta import DiT
from ditgta.report import chapters, pictures
from ditgta.report.evidence import run_of
from ditgta.report.figures import PALETTE
from ditgta.report.grid import Grid, draw
from ditgta.report.milestones import shelves_of
from ditgta.report.sentences import difference_sentence, headline_notes, headlines
from ditgta.runtime.checkpoints import write_tensors
from ditgta.runtime.errors import InputError
from ditgta.stages import table
from tests.report.page import Page
from tests.report.suite import CLASSES, FID, make_suite, noise_pixels, write_samples, write_score

pytestmark = pytest.mark.usefixtures("quick_figures")

FIGURES = ("differences", "fid", "inception_score", "losses", "sweep")
FORMS = ("png", "pdf", "svg")
PICTURES = {"samples.png", "milestones.png", "nearest.png", "sizes.png"}
PICTURES |= {f"{name}.{form}" for name in FIGURES for form in FORMS}
BY_CLASS = {f"{name}.{form}" for name in ("class_accuracy", "class_kid") for form in FORMS}
FILES = {
    "table.csv",
    "differences.csv",
    "losses.csv",
    "classes.csv",
    "table.tex",
    "table.md",
    "table.html",
    "table.json",
    "sizes.csv",
    "sweep.csv",
} | PICTURES


@pytest.fixture(scope="module")
def suite(tmp_path_factory):
    """The arguments and the written folder of a suite of three encodings, two milestones and one seed."""
    root = tmp_path_factory.mktemp("suite")
    arguments = make_suite(root)
    table.run(**arguments, out=root / "table")
    return arguments, root / "table"


def rows_of(folder):
    with open(folder / "table.csv", newline="") as file:
        return list(csv.DictReader(file))


def rewrite(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def count_colour(image: Image.Image, colour: str) -> int:
    wanted = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
    return int((np.abs(np.asarray(image.convert("RGB")).astype(int) - wanted).max(-1) <= 3).sum())


def test_all_files_are_written_and_nothing_else(suite):
    assert {path.name for path in suite[1].iterdir()} == FILES | BY_CLASS


def test_the_page_shows_training_as_strips(suite):
    text = (suite[1] / "table.html").read_text()
    assert text.count("the same noise and label at every milestone") == 4
    assert Image.open(suite[1] / "milestones.png").width > 4 * 2 * 64


def test_csv_returns_every_value_exactly(suite):
    arguments, out = suite
    rows = rows_of(out)
    assert len(rows) == 7 * 10
    for path in arguments["scores"]:
        content = json.loads(path.read_text())
        spec = content["spec"]
        for metric, entry in content["metrics"].items():
            key = (spec["experiment"], str(spec["seed"]), str(spec["step"]), metric)
            (row,) = [r for r in rows if (r["experiment"], r["seed"], r["step"], r["metric"]) == key]
            assert float(row["value"]) == entry["value"] and float(row["se"]) == entry["se"]
            assert (row["n"], row["posenc"], row["suite"], row["reason"]) == (
                "48",
                spec["posenc"],
                "digits",
                "",
            )
    baseline = [row for row in rows if row["experiment"] == "real against real"]
    assert (
        len(baseline) == 10
        and baseline[0]["seed"] == baseline[0]["step"] == ""
        and float(baseline[0]["value"]) == 1.9
    )


def test_paired_difference_of_one_seed(suite):
    arguments, _ = suite
    built = table.build([table.read_score(p) for p in arguments["scores"]], None, [], arguments["spec"])
    (found,) = [
        c for c in built.comparisons if (c.second, c.step, c.metric.key) == ("rope", 2_500_000, "fid")
    ]
    psi = {
        name: np.load(arguments["scores"][0].parent / f"{name}-0-2500000.npz")["fid"]
        for name in ("gta", "rope")
    }
    se = np.std(psi["gta"] - psi["rope"], ddof=1) / np.sqrt(48)
    assert found.value == pytest.approx(0.24 * (FID["gta"] - FID["rope"])) and found.se == pytest.approx(se)
    assert found.high - found.value == pytest.approx(1.959964 * se)
    assert found.paired and found.primary and found.verdict == "one run: no verdict" and not found.winner
    unpaired = np.hypot(*(np.std(p, ddof=1) / np.sqrt(48) for p in psi.values()))
    assert se < 0.6 * unpaired


def test_strata_narrow_rows_and_differences(tmp_path):
    scores = []
    for name, level in (("a", 10.0), ("b", 11.0)):
        path = write_score(tmp_path / f"{name}.json", name, 0, 10, level, None)
        arrays, strata = dict(np.load(path.with_suffix(".npz"))), np.arange(48) % 4
        between = 5 * np.array([1.0, -1.0, 2.0, -2.0])[strata] * (1 if name == "a" else 2)
        np.savez(
            path.with_suffix(".npz"),
            **arrays | {"fid": arrays["fid"] + between, "strata of samples": strata},
        )
        scores.append(table.read_score(path))
    (found,) = [
        c
        for c in table.build(scores, None, [], {"differences": [["a", "b"]]}).comparisons
        if c.metric.key == "fid"
    ]
    psi = scores[0].influence["fid"] - scores[1].influence["fid"]
    within = [np.var(psi[np.arange(48) % 4 == c], ddof=1) for c in range(4)]
    assert found.se == pytest.approx(np.sqrt(12 * np.sum(within)) / 48)
    assert found.se < 0.5 * np.std(psi, ddof=1) / np.sqrt(48)


def test_recall_has_the_error_of_its_groups_too(tmp_path):
    scores = []
    for name in ("a", "b"):
        path = write_score(tmp_path / f"{name}.json", name, 0, 10, 10.0, None)
        groups = np.random.default_rng(len(scores)).normal(0, 0.1, 10)
        np.savez(
            path.with_suffix(".npz"), **dict(np.load(path.with_suffix(".npz"))) | {"recall.groups": groups}
        )
        scores.append(table.read_score(path))
    (found,) = [
        c
        for c in table.build(scores, None, [], {"differences": [["a", "b"]]}).comparisons
        if c.metric.key == "recall"
    ]
    parts = [scores[0].influence[key] - scores[1].influence[key] for key in ("recall", "recall.groups")]
    assert found.se == pytest.approx(np.hypot(*(np.std(p, ddof=1) / np.sqrt(len(p)) for p in parts)))


VERDICTS = re.compile(r"\b(better|worse|undecided|inconclusive|told apart)\b(?! end)")


def text_of(folder, name: str) -> str:
    """What a reader of a written form reads of the table and its differences, without the words that explain them."""
    text = (folder / name).read_text()
    if name == "table.html":
        text = text[text.index("<h2>Table") : text.index("<h2>Scores against steps")]
        text = re.sub(r"<p class=note>.*?</p>", "", text)
        return "".join(Page(f"<div><section>{text[: text.rindex('</section>')]}</section></div>").text)
    return "\n".join(line for line in text.splitlines() if line.startswith("|") or name == "table.csv")


@pytest.mark.parametrize("name", ["table.html", "table.md", "table.csv"])
def test_one_seed_is_never_called_better_or_bold(suite, name):
    text = (suite[1] / name).read_text()
    assert not VERDICTS.search(text_of(suite[1], name))
    assert "**" not in text and "<strong" not in text
    if name != "table.csv":
        assert text.count("one run: no verdict") >= 4  # two differences, each in the headline and its row
        assert "Nothing is bold, because one training run gets no verdict." in text


@pytest.mark.parametrize("name", ["table.html", "table.md"])
def test_a_declared_spread_of_training_gives_one_seed_a_z(suite, tmp_path, name):
    arguments = suite[0]
    table.run(**arguments | {"spec": arguments["spec"] | {"training_cov": 0.013}}, out=tmp_path)
    words = text_of(tmp_path, name)
    assert len(re.findall(r"lower; z = \d+\.\d if retraining moves FID by 1.3 %", words)) == 2
    assert not VERDICTS.search(words) and "<strong" not in (tmp_path / name).read_text()


@pytest.fixture(scope="module")
def seeds(tmp_path_factory):
    """The arguments and the written folder of a suite of three encodings, two milestones and three seeds."""
    root = tmp_path_factory.mktemp("seeds")
    arguments = make_suite(root, seeds=(0, 1, 2))
    table.run(**arguments, out=root / "table")
    return arguments, root / "table"


def built_of(arguments: dict, **spec):
    scores = [table.read_score(path) for path in arguments["scores"]]
    return table.build(scores, None, [], arguments["spec"] | spec)


def best_cells(built):
    """The cells that are bold."""
    return [(r.experiment, r.step, m.key) for r in built.rows for m in built.metrics if built.is_best(r, m)]


def test_several_seeds_earn_verdicts_in_the_primary_metric_at_the_last_milestone(seeds):
    built = built_of(seeds[0])
    judged = [c for c in built.comparisons if c.primary]
    assert [(c.second, c.step, c.metric.key, c.winner) for c in judged] == [
        ("rope", 2_500_000, "fid", "gta"),
        ("abs", 2_500_000, "fid", "gta"),
    ]
    logs = [np.log(FID[name] * (1 + 0.004 * np.arange(3))) for name in FID]
    spread = np.sqrt(np.mean([np.var(x, ddof=1) for x in logs]))
    (rope,) = [c for c in judged if c.second == "rope"]
    gap = np.log(FID["gta"] / FID["rope"])
    p = 2 * t.sf(abs(gap) / (spread * np.sqrt(2 / 3)), 6)
    assert rope.verdict == "gta better (adjusted p < 0.001)" and 1e-4 < p < 1e-3
    levels = [0.24 * np.mean(FID[name] * (1 + 0.004 * np.arange(3))) for name in ("gta", "rope")]
    half = t.ppf(0.975, 6) * spread * np.hypot(*levels) / np.sqrt(3)
    assert (rope.low, rope.high) == pytest.approx((rope.value - half, rope.value + half), rel=1e-6)
    assert rope.seeds == 3 and built.own_noise and built.scale.pooled.degrees == 6
    assert best_cells(built) == [("gta", 2_500_000, "fid")]
    assert not [c for c in built.comparisons if c.verdict and not c.primary]


@pytest.mark.parametrize("name", ["table.html", "table.md"])
def test_verdicts_of_several_seeds_are_written(seeds, name):
    words, text = text_of(seeds[1], name), (seeds[1] / name).read_text()
    assert len(re.findall(r"gta better \(adjusted p", words)) == 2 and "no verdict" not in words
    assert len(VERDICTS.findall(words)) == 2  # nothing of other metrics and milestones
    bold = re.findall(r"<strong>(.*?)</strong>|\*\*([\d.]+)\*\*", text)
    assert len(bold) == 1 and float("".join(bold[0])) == pytest.approx(0.24 * FID["gta"] * 1.004, abs=1e-3)
    assert "pooled over 3 rows (6 degrees of freedom" in text and "all 2 declared differences (Holm)" in text
    assert "its own noise and labels" in text


def test_texts_say_what_holds_for_one_seed_and_what_for_several(suite, seeds):
    pages = ((folder / "table.html").read_text() for _, folder in (suite, seeds))
    one, several = (" ".join("".join(Page(page).text).split()) for page in pages)
    assert "training runs are not paired" in several and "training runs are not paired" not in one
    assert "nothing else" in one and "nothing else" not in several
    assert "common effects cancel" in one and "common effects cancel" not in several
    assert "intervals use Student's t. The spread of the runs is pooled over 3 rows" in several
    assert "theirs is used. Verdicts compare logarithms." in several


def test_latex_aligns_numbers_by_siunitx(seeds):
    text = (seeds[1] / "table.tex").read_text()
    header, *rows = [line for line in text.splitlines() if "&" in line]
    columns = re.findall(r"S\[table-format=(-?)(\d+)\.(\d+)(?:\((\d)\))?\]", text)
    assert len(columns) == header.count("& {") == header.count("&") - 1
    assert text.startswith("% \\usepackage{booktabs, siunitx}") and text.count("\\bfseries ") == 1
    for line in rows:
        cells = line.removesuffix(r" \\").split(" & ")[2:]
        for cell, (sign, before, behind, digits) in zip(cells, columns, strict=True):
            if cell == "{--}":
                continue
            value, _, spread = cell.removeprefix(r"\bfseries ").partition(r" \pm ")
            whole, _, fraction = value.lstrip("-").partition(".")
            assert len(whole) <= int(before) and len(fraction) <= int(behind) and (sign or value[0] != "-")
            assert len(spread.replace(".", "").lstrip("0")) <= int(digits or 0)


@pytest.mark.parametrize("name", ["table.html", "table.md"])
def test_undecided_is_written_with_the_gap_that_would_have_been_found(tmp_path, name):
    arguments = make_suite(tmp_path, milestones=(600,), seeds=(0, 1, 2))
    for path in arguments["scores"]:
        if path.name.startswith(("gta", "rope")):
            content, other = json.loads(path.read_text()), path.name.replace("gta", "rope")
            content["metrics"]["fid"] = json.loads((path.parent / other).read_text())["metrics"]["fid"]
            path.write_text(json.dumps(content))
    table.run(**arguments, out=tmp_path / "table")
    words = text_of(tmp_path / "table", name)
    assert re.search(r"undecided \(adjusted p = 1; a gap of [\d.]+ % would have been found\)", words)
    assert "gta better" in words  # than abs
    assert "**" not in words and "<strong>" not in (tmp_path / "table" / name).read_text()


def test_fid_that_its_limit_contradicts_has_no_verdict(seeds, tmp_path):
    scores = []
    for path in seeds[0]["scores"]:
        score = table.read_score(path)
        if score.experiment == "gta":
            score.content["metrics"]["fid_infinity"]["value"] *= 1.1
        scores.append(score)
    built = table.build(scores, None, [], seeds[0]["spec"])
    verdicts = {c.second: (c.verdict, c.winner) for c in built.comparisons if c.primary}
    assert verdicts["rope"] == ("no verdict: FID and FID∞ disagree", "")
    for score in scores:
        del score.content["metrics"]["fid_infinity"]
    assert table.build(scores, None, [], seeds[0]["spec"]).primary.key == "kid"
    built = table.build(scores, None, [], seeds[0]["spec"] | {"primary": "fid"})
    assert {c.verdict for c in built.comparisons if c.primary} == {
        "no verdict: without FID∞ the gap may be FID's bias"
    }
    assert not best_cells(built)


def test_the_primary_metric_is_the_declared_one_or_the_best_that_is_known(seeds, tmp_path):
    assert built_of(seeds[0]).primary.key == "fid"
    other = built_of(seeds[0], primary="precision")
    assert {(c.metric.key, c.winner) for c in other.comparisons if c.primary} == {("precision", "gta")}
    assert all("better" in c.verdict for c in other.comparisons if c.primary)
    with pytest.raises(
        InputError, match="primary: nothing is not a metric of these scores; choose one of fid"
    ):
        built_of(seeds[0], primary="nothing")
    few = {"fid": {"value": 10.0, "se": None, "reason": "too few samples"}}
    score = table.read_score(write_score(tmp_path / "a.json", "a", 0, 10, 10.0, None, metrics=few))
    assert table.build([score], None, [], {}).primary.key == "kid"
    score.content["scorer"] = {"published": True}
    assert table.build([score], None, [], {}).primary.key == "kid"
    del score.content["metrics"]["kid"]
    assert table.build([score], None, [], {}).primary.key == "fid", "of statistics there is no KID"


def test_kid_as_primary_gives_verdicts_where_it_is_negative_too(seeds):
    scores = [table.read_score(path) for path in seeds[0]["scores"]]
    built = table.build(scores, None, [], seeds[0]["spec"] | {"primary": "kid"})
    assert {c.winner for c in built.comparisons if c.primary} == {"gta"}
    for score in scores:
        score.content["metrics"]["kid"]["value"] -= 0.0061
    (found, _) = [
        c
        for c in table.build(scores, None, [], seeds[0]["spec"] | {"primary": "kid"}).comparisons
        if c.primary
    ]
    assert "have no logarithm" in difference_sentence(
        table.build(scores, None, [], seeds[0]["spec"] | {"primary": "kid"})
    )
    values = [
        np.array([s.value(found.metric) for s in scores if (s.experiment, s.step) == (name, 2_500_000)])
        for name in ("gta", "rope")
    ]
    assert min(map(np.min, values)) < 0
    welch = ttest_ind(*values, equal_var=False)
    assert (found.low, found.high) == pytest.approx(tuple(welch.confidence_interval(0.95)))


def test_a_milestone_that_is_not_last_or_not_scored_has_no_verdict(seeds):
    scores = [table.read_score(path) for path in seeds[0]["scores"] if "200000." in path.name]
    built = table.build(scores, None, [], seeds[0]["spec"])
    assert built.comparisons and not any(c.primary or c.verdict for c in built.comparisons)
    assert "Verdicts" not in difference_sentence(built) and "Welch" not in difference_sentence(built)
    built = table.build(scores, None, [], seeds[0]["spec"] | {"milestones": [200_000]})
    assert sum(c.primary for c in built.comparisons) == 2


def test_seeds_that_share_noise_have_its_error_in_quadrature(tmp_path):
    shared = make_suite(tmp_path, milestones=(600,), seeds=(0, 1, 2), own_noise=False)
    table.run(**shared, out=tmp_path / "table")
    built = built_of(shared)
    assert built.own_noise is False
    scores = [table.read_score(path) for path in shared["scores"]]
    (found,) = [c for c in built.comparisons if c.primary and c.second == "rope"]
    psi = {
        name: np.mean([s.influence["fid"] for s in scores if s.experiment == name], 0)
        for name in ("gta", "rope")
    }
    samples = np.std(psi["gta"] - psi["rope"], ddof=1) / np.sqrt(48)
    runs = built.scale.pooled.sd * np.hypot(found.levels[0][0], found.levels[1][0]) / np.sqrt(3)
    assert found.se == pytest.approx(np.hypot(runs, samples), rel=1e-6)
    text = (tmp_path / "table" / "table.html").read_text()
    assert "Training seeds share the samples" in text and "its own noise and labels" not in text


def test_a_row_of_one_run_among_rows_of_several_has_no_verdict(seeds):
    paths = [path for path in seeds[0]["scores"] if not re.match(r"rope-[12]-", path.name)]
    built = table.build([table.read_score(path) for path in paths], None, [], seeds[0]["spec"])
    verdicts = {c.second: c.verdict for c in built.comparisons if c.primary}
    assert verdicts["rope"] == "one run: no verdict" and verdicts["abs"].startswith("gta better")
    assert not best_cells(built)


def pair(tmp_path, level, other, **changes):
    """Returns the comparison a - b of two score files with these FIDs."""
    scores = [
        write_score(tmp_path / "a.json", "a", 0, 10, level, None, **changes),
        write_score(tmp_path / "b.json", "b", 0, 10, other, None),
    ]
    spec = {"experiments": ["a", "b"], "differences": [["a", "b"]]}
    return table.build([table.read_score(path) for path in scores], None, [], spec)


def test_other_sampling_breaks_pairs_and_is_said(tmp_path):
    spec = json.loads(write_score(tmp_path / "x.json", "a", 0, 10, 10.0, None).read_text())["spec"]
    spec["sampling"]["seed"] = 1
    built = pair(tmp_path, 10.0, 11.0, spec=spec)
    (a, b) = (row.cells["fid"].se for row in built.rows)
    assert not built.comparisons[0].paired and built.comparisons[0].se == pytest.approx(np.hypot(a, b))
    assert any("sampled in different ways" in warning for warning in built.warnings)


def test_several_seeds_give_mean_deviation_and_students_interval(seeds):
    built = built_of(seeds[0])
    row = next(row for row in built.rows if row.experiment == "gta")
    values = [FID["gta"] * (1 + 0.004 * seed) for seed in range(3)]
    assert row.seeds == (0, 1, 2)
    assert row.cells["fid"].value == pytest.approx(np.mean(values))
    assert row.cells["fid"].sd == pytest.approx(np.std(values, ddof=1))
    errors = [
        json.loads(path.read_text())["metrics"]["fid"]["se"]
        for path in seeds[0]["scores"]
        if re.match(r"gta-\d-200000\.", path.name)
    ]
    assert row.cells["fid"].se == pytest.approx(np.sqrt(np.square(errors).sum()) / 3)
    logs = [np.log(FID[name] * (1 + 0.004 * np.arange(3))) for name in FID]
    half = t.ppf(0.975, 6) * np.sqrt(np.mean([np.var(x, ddof=1) for x in logs]) / 3)
    middle = np.exp(np.mean(np.log(values)))
    assert (row.cells["fid"].low, row.cells["fid"].high) == pytest.approx(
        (middle * np.exp(-half), middle * np.exp(half)), rel=1e-6
    )
    assert "3 seeds" in (seeds[1] / "table.html").read_text()
    assert "(3 seeds)" in (seeds[1] / "table.md").read_text()


def test_one_seeds_interval_of_fid_is_one_of_its_logarithm(suite):
    cell = built_of(suite[0]).rows[0].cells["fid"]
    assert (cell.low, cell.high) == pytest.approx(
        tuple(cell.value * np.exp(sign * 1.959964 * cell.se / cell.value) for sign in (-1, 1))
    )
    kid = built_of(suite[0]).rows[0].cells["kid"]
    assert kid.high - kid.value == pytest.approx(1.959964 * kid.se)


def test_html_is_self_contained_and_holds_the_numbers(suite):
    text = (suite[1] / "table.html").read_text()
    page = Page(text)
    assert page.faults == [] and len(text) < 1_500_000
    pictures = [a for a in page.addresses if not a.startswith("#")]
    assert pictures and all(a.startswith("data:image/") and ";base64," in a for a in pictures)
    assert all(f'id="{a[1:]}"' in text or f"id={a[1:]}>" in text for a in page.addresses if a.startswith("#"))
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    assert not re.search(r"https?://|@import|url\((?!#)|javascript:", text)
    words = "".join(page.text)
    for wanted in (
        "31.930",
        "25.150",
        "one run: no verdict",
        "real against real",
        "98.2 %",
        "compare only within this table",
    ):
        assert wanted in words
    assert re.findall("<h2>(.*?)</h2>", text) == [
        "Table",
        "Differences",
        "Scores against steps",
        "Losses",
        "Samples",
        "Memorisation: nearest training images",
        "Class by class",
        "Cost",
        "How to read this",
        "Provenance",
    ]
    assert "prefers-color-scheme:dark" in text and "@media print" in text


def test_figures_are_svg_with_the_values_as_titles_and_names_of_their_own(suite):
    text = (suite[1] / "table.html").read_text()
    found = re.findall(r"<svg class=figure.*?</svg>", text)
    assert len(found) >= 12 and all('aria-label="' in figure for figure in found)
    fid = next(figure for figure in found if 'aria-label="FID against' in figure)
    assert "<title>gta at 200K: 25.150 ± 0.0" in fid and "<title>gta at 2.5M: 6.036 ± 0.0" in fid
    ids = re.findall(r' id="([^"]*)"', "".join(found))
    assert len(ids) == len(set(ids)) and all("white" not in f and "#ffffff" not in f for f in found)
    for name in FIGURES:
        assert (suite[1] / f"{name}.pdf").read_bytes().startswith(b"%PDF")
        assert "<svg" in (suite[1] / f"{name}.svg").read_text()
    written = (suite[1] / "fid.svg").read_text()
    assert "<title>gta at 200K: 25.150 ± 0.0" in written and 'id="tip ' not in written


def test_the_page_begins_with_the_answer_and_its_picture(suite, seeds):
    one, several = ((folder / "table.html").read_text() for _, folder in (suite, seeds))
    assert "<p class=answer>No verdict: each row has one training run." in one
    assert "<p class=answer>gta is better than every other row in FID.</p>" in several
    for text in (one, several):
        start = text[: text.index("<h2>Table")]
        assert "declared differences with their 95 % intervals: gta − rope; gta − abs" in start
        assert "samples of every encoding side by side" in start
        assert re.findall('<a href="#([^"]*)"', start) == re.findall("<section id=([^>]*)>", text)
    (forest,) = re.findall(r"<svg class=figure[^>]*declared differences.*?</svg>", several)
    assert "<title>gta − rope: −0.135 ± 0.020, 95 % −0.184 … −0.086; gta better (adjusted p" in forest


def test_columns_that_repeat_others_are_folded_unless_verdicts_are_about_them(suite, tmp_path):
    def heads(folder):
        table, *folded = re.findall(
            r"<table class=main><thead>(.*?)</thead>", (folder / "table.html").read_text()
        )
        return [re.findall("<th scope=col>(.*?)</th>", part) for part in (table, "".join(folded))]

    shown, folded = heads(suite[1])
    assert "FID ↓" in shown and "Coverage ↑" not in shown and "Coverage ↑" in folded
    arguments = suite[0]
    table.run(**arguments | {"spec": arguments["spec"] | {"primary": "coverage"}}, out=tmp_path)
    assert "Coverage ↑" in heads(tmp_path)[0]


def test_samples_are_there_class_by_class_at_every_milestone(suite):
    text = (suite[1] / "table.html").read_text()
    for name in CLASSES:
        for step in ("200K", "2.5M"):
            assert f"samples of {name} after {step} steps" in text
    assert text.count("<input type=radio name=milestone") == 2
    shelves = shelves_of([table.read_score(p) for p in suite[0]["scores"]], CLASSES)
    assert [shelf.name for shelf in shelves] == list(CLASSES)
    (label, images), *_ = shelves[1].grids[2_500_000].rows
    assert label == "abs" and len(images) == 12  # of 48 samples in 4 classes
    assert (images[2] == noise_pixels(48, 8, "abs", 0, 2_500_000)[9]).all()


@pytest.mark.slow
def test_a_page_that_would_be_too_large_has_fewer_classes_to_leaf_through(suite, tmp_path, monkeypatch):
    letters = len((suite[1] / "table.html").read_text())
    for most, classes in ((letters, 4), (letters - 1, 2), (1000, 0)):
        monkeypatch.setattr(chapters, "MOST_LETTERS", most)
        table.run(**suite[0], out=tmp_path)
        text = (tmp_path / "table.html").read_text()
        assert len(set(re.findall("samples of ([a-z]*) after", text))) == classes
    Page(text)


def test_the_configuration_that_makes_a_table_again_stands_on_the_page(suite, tmp_path):
    arguments = suite[0]
    config = {"experiments": {"gta": {"model": {"posenc": "gta"}}}, "suite": "digits"}
    table.run(**arguments | {"spec": arguments["spec"] | {"config": config}}, out=tmp_path)
    text = unescape((tmp_path / "table.html").read_text())
    block = text[text.index("cat > config.yaml <<'END'\n") :]
    assert yaml.safe_load(block.split("\n", 1)[1].split("\nEND\n")[0]) == config
    assert block.split("\n")[1] == "suite: digits"  # first, however the keys were sorted
    table.run(**arguments, out=tmp_path)  # the same table: what decides nothing is no other
    assert "cat > config.yaml" not in unescape((tmp_path / "table.html").read_text())


def test_headline_says_rows_difference_and_what_its_error_lacks(suite):
    words = " ".join("".join(Page((suite[1] / "table.html").read_text()).text).split())
    gta, rope = 0.24 * FID["gta"], 0.24 * FID["rope"]
    found = re.search(
        r"FID after 2.5M steps: gta ([\d.]+) ± ([\d.]+), rope ([\d.]+) ± [\d.]+, difference −([\d.]+) ± ([\d.]+) "
        r"\(95 % interval −([\d.]+) … −([\d.]+)\), 1 training seed: one run: no verdict\.",
        words,
    )
    values = [float(group) for group in found.groups()]
    assert values[0] == pytest.approx(gta, abs=1e-3) and values[2] == pytest.approx(rope, abs=1e-3)
    assert values[3] == pytest.approx(rope - gta, abs=1e-3) and values[4] < 0.6 * np.hypot(
        values[1], values[1]
    )
    assert values[5] - values[6] == pytest.approx(2 * 1.96 * values[4], rel=0.02)
    assert (
        "So one run of each row gets no verdict, however large the difference is: train several seeds."
        in words
    )


def test_several_seeds_have_the_error_of_runs_in_the_headline(seeds):
    built = built_of(seeds[0])
    cell = next(row for row in built.rows if (row.experiment, row.step) == ("gta", 2_500_000)).cells["fid"]
    (value, error), _ = next(c for c in built.comparisons if c.primary).levels
    assert value == cell.value and error == pytest.approx(
        built.scale.pooled.sd / np.sqrt(3) * value, rel=1e-6
    )
    sentence = headlines(built)[0][1]
    assert sentence.endswith("3 training seeds") and sentence.startswith(
        "FID after 2.5M steps: gta 6.060 ± 0.0"
    )
    assert headline_notes(built) == ["± is the standard error of a mean, from training runs."]


def test_weights_of_unknown_origin_are_not_called_trained_for_the_table(tmp_path):
    scorer = {"name": "Inception-V3 of unknown origin", "sha256": "0" * 64, "published": False}
    path = write_score(tmp_path / "a.json", "a", 0, 10, 9.0, None, scorer=scorer)
    table.run([path], [], tmp_path / "table", None, None, {})
    words = (tmp_path / "table" / "table.md").read_text()
    assert "weights are not the published ones" in words and "trained for this table" not in words


def test_markdown_has_equal_columns_and_the_numbers(suite):
    text = (suite[1] / "table.md").read_text()
    tables = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    assert len(tables) == 2
    for lines in tables:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1
    assert "| 200K | gta | 25.150 ± " in text and "| 2.5M | " in text and "gta − rope" in text


def test_same_input_gives_same_bytes(suite, tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "FORMS", FORMS[1:])
    table.run(**suite[0], out=tmp_path)
    assert all((tmp_path / name).read_bytes() == (suite[1] / name).read_bytes() for name in FILES)


def test_samples_are_shown_pixel_by_pixel(suite):
    _, out = suite
    picture = Image.open(out / "samples.png")
    chosen = [label + 4 * turn for label in range(4) for turn in range(3)]  # four classes, thrice each
    columns = [(name, "#000000") for name in FID] + [("real", None)]
    rows = [(f"{CLASSES[index % 4]}\n#{index}", [noise_pixels(1, 8)[0]]) for index in chosen]
    halves = [Grid(columns, rows[:6], apart=3), Grid(columns, rows[6:], apart=3)]
    real, offset = noise_pixels(20, 8, "real"), 0
    for half, grid in enumerate(halves):
        assert grid.cell == 96
        for row in range(6):
            index = chosen[6 * half + row]
            images = [noise_pixels(48, 8, name, 0, 2_500_000)[index] for name in FID]
            images.append(real[5 * (index % 4) + index // 4])
            for column, image in enumerate(images):
                left, top, right, bottom = grid.box(row, column)
                cell = np.asarray(picture.crop((left + offset, top, right + offset, bottom)))
                assert (cell[..., 3] == 255).all()
                assert (cell[..., :3] == image.repeat(12, 0).repeat(12, 1)).all()
        offset += draw(grid).width
    assert picture.width == offset


def test_colours_are_those_of_the_rows_in_every_picture(suite):
    _, out = suite
    for name, least in (("fid.png", 500), ("losses.png", 300), ("samples.png", 150), ("nearest.png", 150)):
        image = Image.open(out / name)
        assert min(image.size) > 300
        for colour in PALETTE[:3]:
            assert count_colour(image, colour) > least, (name, colour)
        assert count_colour(image, PALETTE[4]) == 0
    html = (out / "table.html").read_text()
    assert all(f'style="background:{colour}"></i>{name}' in html for name, colour in zip(FID, PALETTE))


def test_baseline_is_a_dashed_line(suite, tmp_path):
    arguments, out = suite
    table.run(**arguments | {"baseline": None}, out=tmp_path)
    dark = [count_colour(Image.open(folder / "fid.png"), "#1f2328") for folder in (out, tmp_path)]
    assert dark[0] > dark[1] + 500
    assert "real against real" not in (tmp_path / "table.csv").read_text()
    assert "class=baseline" not in (tmp_path / "table.html").read_text()


def test_absent_metrics_show_a_dash_and_the_reason(tmp_path):
    arguments = make_suite(tmp_path, milestones=(600,))
    reason = "the reference <file> has no images | no neighbours"
    for path in arguments["scores"]:
        content = json.loads(path.read_text())
        content["metrics"]["precision"] = {"value": None, "se": None, "reason": reason}
        del content["metrics"]["recall"]
        rewrite(path, metrics=content["metrics"], warnings=["N is below 2,049; prefer KID"])
    table.run(**arguments, out=tmp_path / "table")
    html = (tmp_path / "table" / "table.html").read_text()
    assert 'title="the reference &lt;file&gt; has no images | no neighbours">—<sup>a</sup>' in html
    assert "not among the scores" in html and "<file>" not in html
    assert "N is below 2,049; prefer KID (every row)" in html
    rows = [
        row
        for row in rows_of(tmp_path / "table")
        if row["metric"] == "precision" and row["experiment"] == "gta"
    ]
    assert rows[0]["value"] == rows[0]["se"] == "" and rows[0]["reason"] == reason
    assert "— <sup>a</sup>" in (tmp_path / "table" / "table.md").read_text()
    Page(html)


def test_a_single_row_without_anything_else(tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "FORMS", FORMS[1:])
    score = write_score(tmp_path / "mine.json", "mine", 0, 600, 12.0, None, spec={}, num_samples=10)
    score.with_suffix(".npz").unlink()
    table.run([score], [], tmp_path / "table", None, None, {})
    html = (tmp_path / "table" / "table.html").read_text()
    Page(html)
    assert "<strong>" not in html and "mine" in html and "No differences were declared" in html
    assert {path.name for path in (tmp_path / "table").iterdir()} == FILES
    assert all(Image.open(tmp_path / "table" / name).size[0] > 100 for name in FILES if name.endswith("png"))
    other = write_score(tmp_path / "other.json", "other", 0, 600, 9.0, None, spec={}, num_samples=10)
    before = sorted((path.name, path.read_bytes()) for path in (tmp_path / "table").iterdir())
    with pytest.raises(
        InputError, match=r"table holds a table with other options \(scores .*; give another --out"
    ):
        table.run([score, other], [], tmp_path / "table", None, None, {})
    assert before == sorted((path.name, path.read_bytes()) for path in (tmp_path / "table").iterdir())
    table.run([score.rename(tmp_path / "same.json")], [], tmp_path / "table", None, None, {})


def test_names_are_escaped_everywhere(tmp_path):
    name = "<b>&gta|"
    scores = [
        write_score(tmp_path / "a.json", name, 0, 10, 10.0, None),
        write_score(tmp_path / "b.json", "b", 0, 10, 9.0, None),
    ]
    spec = {"suite": "<script>alert(1)</script>", "differences": [[name, "b"]]}
    table.run(scores, [], tmp_path / "table", None, None, spec)
    html = (tmp_path / "table" / "table.html").read_text()
    assert "<b>" not in html and "<script" not in html and "&lt;b&gt;&amp;gta|" in html
    assert "\\<b\\>&gta\\|" in (tmp_path / "table" / "table.md").read_text()


def test_missing_partner_or_milestone_is_said(tmp_path):
    arguments = make_suite(tmp_path)
    scores = [path for path in arguments["scores"] if path.name != "rope-0-2500000.json"]
    table.run(**arguments | {"scores": scores}, out=tmp_path / "table")
    html = (tmp_path / "table" / "table.html").read_text()
    assert "no scores of rope" in html and "No scores of rope at 2.5M steps were given." in html


def test_gone_samples_leave_a_warning(suite, tmp_path):
    arguments = make_suite(tmp_path, milestones=(600,))
    (tmp_path / "samples" / "rope" / "0-600" / "index.json").unlink()
    table.run(**arguments, out=tmp_path / "table")
    assert (
        "samples of rope at 600, training seed 0 were deleted"
        in (tmp_path / "table" / "table.html").read_text()
    )
    widths = [Image.open(folder / "samples.png").width for folder in (tmp_path / "table", suite[1])]
    assert widths[1] - widths[0] == 2 * (96 + 5)  # a column in each half


def test_refusals_name_the_files(tmp_path):
    first = write_score(tmp_path / "a.json", "a", 0, 10, 10.0, None)
    twice = write_score(tmp_path / "b.json", "a", 0, 10, 10.0, None)
    scorer = write_score(tmp_path / "c.json", "c", 0, 10, 10.0, None, scorer={"sha256": "0" * 64})
    reference = write_score(tmp_path / "d.json", "d", 0, 10, 10.0, None, reference={"sha256": "0" * 64})
    (tmp_path / "e.json").write_text("{}")
    for scores, words in (
        ([], "no score files"),
        ([first, twice], "give only one"),
        ([first, scorer], "different scorers"),
        ([first, reference], "different references"),
        ([tmp_path / "e.json"], "not a score file"),
        ([tmp_path / "none.json"], "does not exist"),
    ):
        with pytest.raises(InputError, match=words) as error:
            table.run(scores, [], tmp_path / "table", None, None, {})
        assert "\n" not in str(error.value)
    assert not (tmp_path / "table").exists()


def test_gray_samples_and_unequal_labels(tmp_path):
    labels = np.arange(8) % len(CLASSES)
    gray = noise_pixels(8, 8)[..., :1]
    scores = []
    for name, own in (("a", labels), ("b", labels[::-1])):
        folder = write_samples(tmp_path / name, gray, own)
        scores.append(write_score(tmp_path / f"{name}.json", name, 0, 10, 10.0, folder))
    table.run(scores, [], tmp_path / "table", None, None, {})
    assert "have other labels" in (tmp_path / "table" / "table.html").read_text()
    grid = Image.open(tmp_path / "table" / "samples.png")
    place = Grid([("a", None), ("b", None)], [(f"class {i // 2}\n#{i}", [gray[0]]) for i in range(4)]).box(
        0, 0
    )
    cell = np.asarray(grid.crop(place))
    assert (cell[..., 0] == gray[0, ..., 0].repeat(12, 0).repeat(12, 1)).all()


def test_encodings_are_shown_of_checkpoints_that_are_at_hand(tmp_path):
    """As the last checkpoint of the first seed has them; one that cannot be read is a warning."""
    arguments = make_suite(tmp_path)
    before = table.encodings_of(table.read_runs(arguments["training"]), ["abs", "rope", "gta"])
    assert before == (None, [])
    page = (table.run(**arguments, out=tmp_path / "table"), (tmp_path / "table/table.html").read_text())[1]
    assert "What the encodings say" not in page
    last = {run_of(path, json.loads(path.read_text()))[0]: path for path in sorted(arguments["training"])}
    for name, path in last.items():
        network = DiT.from_name("DiT-Ti/1", 64, "rope-mixed" if name == "rope" else name, downsampling=8)
        model = asdict(network.config) | ({"posenc": f"gone:Own@{'0' * 64}"} if name == "gta" else {})
        ema = {f"ema.{key}": tensor for key, tensor in network.state_dict().items()}
        write_tensors(
            path.with_suffix(".safetensors"),
            ema,
            {"ditgta": json.dumps({"spec": {}, "step": 4, "model": model})},
        )
    picture, (fault,) = table.encodings_of(table.read_runs(arguments["training"]), ["abs", "rope", "gta"])
    assert "the encoding of gta cannot be drawn: " in fault and "there is no gone.py" in fault
    alone, _ = table.encodings_of(table.read_runs(arguments["training"]), ["abs"])
    (width, height), (width_alone, height_alone) = picture.image().size, alone.image().size
    assert height == pytest.approx(2 * height_alone, rel=0.01) and width > width_alone
    table.run(**arguments, out=tmp_path / "table")
    page = Page((tmp_path / "table/table.html").read_text())
    assert "What the encodings say about position" in page.text and not page.faults
    assert any("there is no gone.py" in piece for piece in page.text)


def test_epochs_stand_beside_steps_where_they_are_known(tmp_path):
    """20 images at a batch of 8: 2.5 steps are an epoch. Rows that were trained with other batches have no common number."""
    arguments = make_suite(tmp_path, milestones=(600, 1500))

    def written(batch_sizes):
        for path, size in zip(arguments["scores"], batch_sizes):
            content = json.loads(path.read_text())
            content["samples"]["spec"]["checkpoint"]["spec"]["training"]["batch_size"] = size
            path.write_text(json.dumps(content))
        table.run(**arguments, out=tmp_path / "table")
        markdown, page = ((tmp_path / "table" / name).read_text() for name in ("table.md", "table.html"))
        assert "1.5K steps" in page
        return "| 600 (240 epochs) |" in markdown, "1.5K steps (600 epochs)" in page

    assert written([8] * 6) == (True, True)
    assert written([8, 8, 8, 8, 8, 16]) == (True, False)


def test_a_second_judge_has_columns_and_is_named(tmp_path):
    arguments = make_suite(tmp_path / "made", milestones=(100,))
    rows = [*arguments["scores"], arguments["baseline"]]
    for number, path in enumerate(rows):
        content = json.loads(path.read_text())
        content["metrics"]["fd_dinov2"] = {"value": 300.0 + number, "se": 2.0, "reason": None}
        content["metrics"]["kid_dinov2"] = {"value": 1.5 + number, "se": 0.1, "reason": None}
        rewrite(path, metrics=content["metrics"], judge={"name": "DINOv2 ViT-L/14", "sha256": "77" * 32})
    arguments["spec"]["primary"] = "fd_dinov2"
    table.run(**arguments, out=tmp_path / "out")
    page = (tmp_path / "out/table.html").read_text()
    assert "FD-DINOv2 ↓" in page and "KID-DINOv2 ↓" in page
    assert "Second judge" in page and "DINOv2 ViT-L/14, class token" in page and "77" * 6 in page
    found = {
        row["experiment"]: row["value"] for row in rows_of(tmp_path / "out") if row["metric"] == "fd_dinov2"
    }
    assert float(found["rope"]) == 301 and len(found) == 4
    rewrite(arguments["scores"][0], judge={"name": "DINOv2 ViT-S/14", "sha256": "88" * 32})
    with pytest.raises(InputError, match="scored with different judges"):
        table.run(**arguments, out=tmp_path / "other")


def test_without_a_second_judge_the_page_says_why(tmp_path):
    arguments = make_suite(tmp_path / "made", milestones=(100,))
    for path in arguments["scores"]:
        rewrite(path, judge=None)
    table.run(**arguments, out=tmp_path / "out")
    page = (tmp_path / "out/table.html").read_text()
    assert "none: no weights of DINOv2 were given" in page and "FD-DINOv2" not in page
