"""Sweeps of a suite: the rows beside its table, the two noises, where results lie, and what is refused."""

import pytest

from ditgta import config
from ditgta.config.sampling import CHOICE_SEED
from ditgta.layout import Layout
from ditgta.planning.estimate import plan
from ditgta.runtime.errors import InputError

DIGITS = {
    "images": {"size": 12, "hold_out": 0.2},
    "autoencoder": {"pixels": "grey"},
    "model": {"name": "DiT-Pi/2"},
    "training": {"objective": "flow", "posterior": "mean"},
}
EXPERIMENTS = {"a": DIGITS, "rope": {"like": "a", "model": {"posenc": "rope"}}}
# The hashes of a suite with one scale, as they were before there were sweeps.
HASHES = {"sample": "7c29b5c6", "score": "6261c72a", "table": "1e593c2c"}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)


def loaded(scale: object = None, suite: dict | None = None, **more) -> config.Config:
    sampling = {} if scale is None else {"cfg_scale": scale}
    own = {"experiments": ["a", "rope"], "milestones": [5, 10], "seeds": [0, 1], "sampling": sampling}
    return config.load(
        {"suite": "s", "experiments": {**EXPERIMENTS, **more}, "suites": {"s": {**own, **(suite or {})}}}
    )


@pytest.mark.parametrize("scale", [None, 1.5, "1.5", [1.5]])
def test_one_scale_is_no_sweep_and_keeps_its_addresses(scale):
    found = Layout(loaded(scale))
    owners = {"sample": ("s", "rope"), "score": ("s", "rope"), "table": "s"}
    for stage, owner in owners.items():
        assert found.path(stage, owner).endswith(f"-{HASHES[stage]}"), stage
    assert not found.swept_rows("s") and len(found.files("samples", "s")) == 8


def test_a_sweep_has_each_scale_with_two_noises():
    found = Layout(loaded([1.5, 1, 3]))
    points = ["cfg1.5-choice", "cfg1", "cfg1-choice", "cfg3", "cfg3-choice"]
    assert list(found.config.swept("s")) == [f"{row}-{point}" for row in ("a", "rope") for point in points]
    ways = {name: found.config.sampling("s", name) for name in ("rope", *found.config.swept("s"))}
    assert ways["rope"].cfg_scale == 1.5 and ways["rope"].seed == 0
    assert (ways["rope-cfg3"].cfg_scale, ways["rope-cfg3"].seed) == (3, 0)
    assert (ways["rope-cfg3-choice"].cfg_scale, ways["rope-cfg3-choice"].seed) == (3, CHOICE_SEED)
    noises = {options.of_training(seed).noise_seed for options in ways.values() for seed in (0, 1)}
    assert len(noises) == 4, "of each training seed, to choose and to report"
    assert found.path("sample", ("s", "rope")).endswith(HASHES["sample"]), "the first is that of one scale"
    assert found.path("train", "rope-cfg3") == found.path("train", "rope")
    for noun in ("samples", "scores"):
        baseline = noun == "scores"
        assert len(found.files(noun, "s")) == 2 * 3 * 2 * 2 * 2 + baseline
    assert not found.path("table", "s").endswith(HASHES["table"])


def test_a_row_with_a_scale_of_its_own_is_not_swept():
    strong = {"like": "rope", "sampling": {"cfg_scale": 4}}
    found = loaded([1, 2], {"experiments": ["a", "strong"]}, strong=strong)
    assert not [name for name in found.swept("s") if name.startswith("strong")]
    assert found.sampling("s", "strong").cfg_scale == 4


def test_plans_count_every_point():
    one, swept = (
        {stage.stage: stage for stage in plan(loaded(scale), "s", (1000, 10))[0]} for scale in (2, [2, 3])
    )
    assert swept["sample"].jobs == 4 * one["sample"].jobs
    assert swept["sample"].flops == pytest.approx(4 * one["sample"].flops)
    assert swept["score"].jobs == one["score"].jobs + 24 and swept["train"].jobs == one["train"].jobs


@pytest.mark.parametrize(
    ("scale", "words"),
    [
        ([], "cfg_scale: an empty list has nothing to choose from"),
        ([1, 1.0], "cfg_scale: a list to choose from holds each value once"),
        ([1, 1.0000001], "told apart in six digits"),
        ([0, 1], r"cfg_scale: a list to choose from holds numbers above 0 \(got \[0, 1\]\)"),
        ([-1, 1], "holds numbers above 0"),
        ([1, "many"], "holds numbers above 0"),
        ([True, 2], "holds numbers above 0"),
        ([[1, 2], 3], "holds numbers above 0"),
        ([1, float("inf")], "finite"),
        ("many", "cfg_scale: input should be a valid number"),
    ],
)
def test_lists_to_choose_from_are_checked(scale, words):
    with pytest.raises(InputError, match=words) as raised:
        loaded(scale)
    assert len(str(raised.value).splitlines()) == 2, "the heading and one line"


def test_names_and_sizes_that_clash_are_refused():
    with pytest.raises(InputError, match="its row rope-cfg2 has the name of an experiment"):
        loaded([1, 2], **{"rope-cfg2": {"like": "rope"}})
    with pytest.raises(InputError, match="other sizes need one of their own"):
        loaded([1, 2], {"sizes": [{"size": 24}]})
    assert loaded([1, 2], {"sizes": [{"size": 24, "cfg_scale": 2}]}).sized("s")
