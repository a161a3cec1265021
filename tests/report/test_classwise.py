"""Results class by class: shares with Wilson's interval, KID with its error, and the classes that are drawn."""

import csv
import io

import numpy as np
import pytest

from ditgta.report.classwise import class_results, csv_by_class, share_interval, shown_labels
from ditgta.report.evidence import read_score
from tests.report.suite import findings, write_score


def test_wilsons_interval_holds_its_level_where_the_plain_one_fails():
    for share, count, low, high in ((0.0, 50, 0.0, 0.0713), (1.0, 50, 0.9287, 1.0), (0.3, 50, 0.191, 0.4375)):
        found = share_interval(share, count)  # values of the formula in Wilson (1927), worked out by hand
        assert (found.low, found.high) == (pytest.approx(low, abs=1e-3), pytest.approx(high, abs=1e-3))
    random = np.random.default_rng(0)
    shares = random.binomial(50, 0.95, 4000) / 50
    held = [interval.low <= 0.95 <= interval.high for interval in (share_interval(p, 50) for p in shares)]
    assert np.mean(held) > 0.93


def test_shares_are_those_of_each_class_and_seeds_do_not_narrow_the_interval(tmp_path):
    labels = np.arange(48) % 4
    scores = []
    for seed, wrong in ((0, 3), (1, 6)):
        found = findings(labels, 20) | {"predicted": np.where(np.arange(48) < 4 * wrong, 3, labels)}
        path = write_score(tmp_path / f"{seed}.json", "gta", seed, 10, 9.0 + seed, None, findings=found)
        scores.append(read_score(path))
    one, both = class_results(scores[:1]), class_results(scores)
    assert [result.accuracy.value for result in one] == [0.75, 0.75, 0.75, 1.0]
    assert [result.accuracy.value for result in both] == [0.625, 0.625, 0.625, 1.0]
    assert both[0].count == 12 and both[0].accuracy == share_interval(0.625, 12)
    assert both[2].kid.value == pytest.approx(3 * 0.0095)
    assert both[2].kid.high - both[2].kid.value == pytest.approx(1.959964 * 2e-4)
    lines = list(csv.DictReader(io.StringIO(csv_by_class(scores, ["zero", "one"]))))
    assert len(lines) == 2 * 4 * 2 and lines[0]["class"] == "zero" and lines[-1]["class"] == ""
    (line,) = [x for x in lines if (x["seed"], x["label"], x["metric"]) == ("1", "1", "class_accuracy")]
    assert (
        float(line["value"]) == 0.5
        and float(line["se"]) == pytest.approx(np.sqrt(0.25 / 11))
        and line["n"] == "12"
    )


def test_what_the_scorer_does_not_know_is_absent(tmp_path):
    found = findings(np.arange(48) % 4, 20)
    del found["predicted"]
    known = write_score(tmp_path / "a.json", "gta", 0, 10, 9.0, None, findings=found)
    assert all(
        r.accuracy is None and r.kid is not None and r.count == 12 for r in class_results([read_score(known)])
    )
    assert class_results([read_score(write_score(tmp_path / "b.json", "gta", 0, 10, 9.0, None))]) == []


def test_of_many_classes_the_extremes_are_drawn(tmp_path):
    labels = np.arange(120) % 40
    score = read_score(
        write_score(tmp_path / "a.json", "gta", 0, 10, 9.0, None, findings=findings(labels, 20))
    )
    assert shown_labels({"gta": class_results([score])}, "kid") == [*range(10), *range(30, 40)]
