"""Rows at other sizes: how a suite names them, where their results lie, and what is refused."""

from pathlib import Path

import pytest

from ditgta import config
from ditgta.layout import Layout, Sized
from ditgta.runtime.errors import InputError
from ditgta.runtime.files import spec_text

DIGITS = {
    "images": {"size": 12, "hold_out": 0.2, "placement": {"scales": [8], "grid": 2}},
    "autoencoder": {"pixels": "grey"},
    "model": {"name": "DiT-Pi/2"},
    "training": {"objective": "flow", "posterior": "mean"},
}
EXPERIMENTS = {
    "a": DIGITS,
    "rope": {"like": "a", "model": {"posenc": "rope"}},
    "learned": {"like": "a", "model": {"posenc": "abs-learned"}},
}
SUITE = {"experiments": ["rope", "learned"], "milestones": [5, 10], "seeds": [0, 1]}
SIZES = [
    {"size": 24, "positions": ["extrapolate", "interpolate", "ntk"]},
    {"size": [12, 18], "positions": "interpolate", "temperature": ["1", "log"], "cfg_scale": [1, 2.5]},
]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)


def loaded(suite: dict | None = None, **more) -> config.Config:
    suites = {"s": {**SUITE, "sizes": SIZES, **(suite or {})}, "plain": SUITE}
    return config.load({"suite": "s", "experiments": {**EXPERIMENTS, **more}, "suites": suites})


def test_rows_are_experiments_times_sizes_times_ways():
    found = loaded()
    ways = [
        "12x18-interpolate-cfg1",
        "12x18-interpolate-cfg2.5",
        "12x18-interpolate-log-cfg1",
        "12x18-interpolate-log-cfg2.5",
    ]
    rows = {
        "rope-24-extrapolate", "rope-24-interpolate", "rope-24-ntk", "learned-24-interpolate",
        *(f"{name}-{way}" for name in ("rope", "learned") for way in ways),
    }  # fmt: skip
    assert set(found.sized("s")) == rows, "an encoding has the ways that it knows"
    assert set(found.experiments) == {*EXPERIMENTS, *rows}
    options = found.sampling("s", "rope-12x18-interpolate-log-cfg2.5")
    assert (options.size, options.positions, options.temperature) == ((12, 18), "interpolate", "log")
    assert options.cfg_scale == 2.5 and found.sampling("s", "rope-24-ntk").cfg_scale == 1.5
    assert found.sampling("s", "rope") == found.suites["s"].sampling
    assert found.experiments["rope-24-ntk"].like == "rope"


def test_rows_share_a_training_and_have_samples_and_real_images_of_their_size():
    found = Layout(loaded())
    assert found.path("train", "rope-24-ntk") == found.path("train", "rope")
    assert found.chain("rope") == [5, 10]
    folders = {
        found.path("sample", ("s", name)) for name in (*SUITE["experiments"], *found.config.sized("s"))
    }
    assert len(folders) == 2 + 12
    assert {row.step for row in found.sized_rows("s")} == {10}, "the last milestone"
    assert found.sizes("s") == [None, (24, 24), (12, 18)] and found.sizes("plain") == [None]
    assert found.reference("s") == f"{found.path('images', 'rope')}/held-out"
    for size in found.sizes("s")[1:]:
        listed = found.path("images", Sized("rope", size))
        assert found.reference("s", size) == f"{listed}/held-out" and listed != found.path("images", "rope")
        assert f"{listed}/index.json" in found.files("images", "s")
        assert found.baseline("s", size) in found.files("scores", "s") and found.baseline(
            "s", size
        ) != found.baseline("s")
    assert found.specs.scores("s", "rope-24-ntk")["crops"] == 12 and "crops" not in found.specs.scores(
        "s", "rope"
    )
    assert Path(found.path("images", Sized("rope", (12, 18)))).name.startswith("digits-12x18-")
    assert found.specs.listed("rope", (12, 18))["size"] == [12, 18], "height, width"


def test_what_was_there_before_sizes_keeps_its_place():
    found = Layout(loaded())
    for stage in ("sample", "score", "loss"):
        assert found.path(stage, ("s", "rope")) == found.path(stage, ("plain", "rope"))
    assert found.path("table", "s") != found.path("table", "plain")
    assert "size" not in spec_text(found.specs.table("plain"))


def test_a_suite_of_another_size_has_real_images_of_that_size():
    found = Layout(loaded({"sizes": [], "sampling": {"size": 24, "positions": "interpolate"}}))
    assert found.sizes("s") == [(24, 24)] and found.baseline("s") == found.baseline("s", (24, 24))
    assert found.specs.scores("s", "rope")["reference"]["held_out"]["size"] == [24, 24]


def test_the_size_of_training_by_name_changes_no_place_but_that_of_samples():
    found = Layout(loaded({"sizes": [], "sampling": {"size": 12}}))
    assert found.sizes("s") == [None] and found.reference("s") == found.reference("plain")


def test_a_row_may_differ_in_guidance():
    found = loaded({"experiments": ["rope", "strong"]}, strong={"like": "rope", "sampling": {"cfg_scale": 4}})
    assert (
        found.sampling("s", "strong").cfg_scale == 4 and found.sampling("s", "strong-24-ntk").cfg_scale == 1.5
    )


@pytest.mark.parametrize(
    ("suite", "words"),
    [
        ({"sizes": [{"size": 12}]}, "12 is the training size"),
        (
            {"sizes": [{"size": 13, "positions": "interpolate"}]},
            "13 does not suit the network: sides must be multiples of 2",
        ),
        (
            {"sizes": [{"size": 24}]},
            r"posenc abs-learned cannot be sampled .* use interpolate \(rows: learned\)",
        ),
        (
            {"sizes": [{"size": 6, "positions": "interpolate"}]},
            "a digit of 8 pixels does not fit images of 6",
        ),
        ({"sizes": [SIZES[0], SIZES[0]]}, "rope-24-ntk is listed twice"),
        ({"sizes": [{"positions": "ntk"}]}, "sizes.0.size: missing"),
        ({"sizes": [{"size": None}]}, "sizes.0.size"),
        ({"sizes": [{"size": 24, "positions": "stretch"}]}, "positions.0: input should be 'extrapolate'"),
        ({"sampling": {"size": 24, "positions": "interpolate"}}, "give either sampling.size or sizes"),
        ({"experiments": ["rope", "large"]}, "all rows of a table have the same size; put other sizes"),
        ({"experiments": ["rope", "rope-24"], "sizes": [{"size": 24}]}, "posenc|has the same name"),
    ],
)
def test_mistakes_are_told(suite, words):
    more = {"large": {"like": "rope", "sampling": {"size": 24}}, "rope-24": {"like": "rope"}}
    more["rope-24-extrapolate"] = {"like": "rope"}
    with pytest.raises(InputError, match=words):
        loaded(suite, **more)
