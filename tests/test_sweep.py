"""Sweeps of a suite: the rows beside its table, the two noises, where results lie, and what is refused."""

import pytest

from ditgta import config
from ditgta.config.sampling import CHOICE_SEED
from ditgta.layout import Layout
from ditgta.planning.estimate import plan
from ditgta.planning.scale import World, memory_of
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


def loaded(
    scale: object = None,
    suite: dict | None = None,
    decays: object = None,
    sampling: dict | None = None,
    **more,
) -> config.Config:
    sampling = {**(sampling or {}), **({} if scale is None else {"cfg_scale": scale})}
    if decays is not None:
        more = {"rope": {**EXPERIMENTS["rope"], "training": {"ema_decay": decays}}, **more}
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


@pytest.mark.parametrize("decays", [None, 0.9999, "0.9999", [0.9999]])
def test_one_average_is_no_sweep_and_keeps_its_addresses(decays):
    found = Layout(loaded(decays=decays))
    owners = {"sample": ("s", "rope"), "score": ("s", "rope"), "table": "s"}
    assert {stage: found.path(stage, owner)[-8:] for stage, owner in owners.items()} == HASHES
    assert found.path("train", "rope")[-8:] == "005f0e34" and not found.averaged_rows("s")
    assert found.path("loss", ("s", "rope"))[-8:] == "3a094c92"


def test_averages_are_tried_at_each_scale():
    found = Layout(loaded([1.5, 3], decays=[0.9, 0.99]))
    names = [name for name in found.config.swept("s") if name.startswith("rope")]
    points = ["cfg1.5-ema0.9-choice", "cfg1.5-ema0.99", "cfg1.5-ema0.99-choice"]
    points += ["cfg3-ema0.9", "cfg3-ema0.9-choice", "cfg3-ema0.99", "cfg3-ema0.99-choice"]
    assert names == [f"rope-{point}" for point in points]
    assert "a-cfg3" in found.config.swept("s"), "a row with one average is tried at the scales alone"
    ways = {name: found.config.sampling("s", name) for name in ("rope", *names)}
    assert ways["rope"].ema_decay is None and ways["rope-cfg3-ema0.9"].ema_decay is None, "the first"
    assert (ways["rope-cfg3-ema0.99"].ema_decay, ways["rope-cfg3-ema0.99"].cfg_scale) == (0.99, 3)
    assert len({found.path("sample", ("s", name)) for name in ("rope", *names)}) == 8
    assert found.path("train", names[-1]) == found.path("train", "rope")


def test_losses_are_of_each_average_once():
    found = Layout(loaded([1.5, 3], decays=[0.9, 0.99, 0.5]))
    rows = found.averaged_rows("s")
    assert [row.experiment for row in rows[::4]] == ["rope-cfg1.5-ema0.99", "rope-cfg1.5-ema0.5"]
    assert len(found.files("losses", "s")) == len({found.losses("s", row) for row in rows}) + 8 == 16
    known = found.losses("s", rows[0]._replace(experiment="rope"))
    assert known not in {found.losses("s", row) for row in rows}
    assert found.config.loss("s", "rope-cfg3-ema0.5-choice").ema_decay == 0.5


def test_a_suite_or_a_row_may_name_its_average():
    suite = loaded(decays=[0.9, 0.99], sampling={"ema_decay": 0.99}, suite={"experiments": ["rope"]})
    assert suite.sampling("s", "rope").ema_decay == 0.99 == suite.loss("s", "rope").ema_decay
    assert not suite.swept("s") and not Layout(suite).averaged_rows("s")
    first = loaded(decays=[0.9, 0.99], sampling={"ema_decay": 0.9}, suite={"experiments": ["rope"]})
    own = {"like": "rope", "sampling": {"ema_decay": 0.99}}
    row = loaded([1, 2], {"experiments": ["own"]}, decays=[0.9, 0.99], own=own)
    assert first.sampling("s", "rope").ema_decay is None
    assert list(row.swept("s")) == ["own-cfg1-choice", "own-cfg2", "own-cfg2-choice"]
    assert {row.sampling("s", name).ema_decay for name in ("own", *row.swept("s"))} == {0.99}


def test_checkpoints_from_elsewhere_have_one_average(tmp_path):
    (tmp_path / "own.pt").write_bytes(b"weights")
    found = loaded(
        decays=[0.9, 0.99], suite={"experiments": ["own"]}, own={"like": "rope", "checkpoint": "own.pt"}
    )
    assert not found.swept("s")
    with pytest.raises(InputError, match="the decay of an imported checkpoint is unknown"):
        loaded(
            suite={"experiments": ["own"]},
            sampling={"ema_decay": 0.9},
            own={"like": "a", "checkpoint": "own.pt"},
        )


@pytest.mark.parametrize(
    ("decays", "words"),
    [
        ([], "training.ema_decay: an empty list has nothing to choose from"),
        ([0.9, 0.90], "a list to choose from must hold each value once"),
        ([0.9, 1], r"a list to choose from must hold numbers of at least 0 and below 1 \(got \[0.9, 1\]\)"),
        ([-0.1, 0.9], "of at least 0 and below 1"),
        ([0.9, "many"], "of at least 0 and below 1"),
        ([True, 0.9], "of at least 0 and below 1"),
        (1, "ema_decay: input should be less than 1"),
    ],
)
def test_lists_of_decays_are_checked(decays, words):
    with pytest.raises(InputError, match=words) as raised:
        loaded(decays=decays)
    assert len(str(raised.value).splitlines()) == 2, "the heading and one line"


@pytest.mark.parametrize(
    ("sampling", "suite", "words"),
    [
        (
            {"ema_decay": 0.5},
            {},
            r"training keeps no average with decay 0.5; add it to training.ema_decay \(0.9, 0.99\) \(rows: rope\)",
        ),
        (
            {"ema_decay": [0.9, 0.99]},
            {},
            "takes one number; put the list from which rows choose into training.ema_decay",
        ),
        ({}, {"loss": {"ema_decay": 0.9}}, "s.loss.ema_decay: the loss uses the average that is sampled"),
    ],
)
def test_averages_that_are_not_kept_are_refused(sampling, suite, words):
    with pytest.raises(InputError, match=words):
        loaded(decays=[0.9, 0.99], sampling=sampling, suite={"experiments": ["rope"], **suite})


def test_plans_count_every_average():
    one, several = (
        {
            stage.stage: stage
            for stage in plan(loaded(2, {"experiments": ["rope"]}, decays=decays), "s", (1000, 10))[0]
        }
        for decays in (0.9, [0.9, 0.99, 0.5])
    )
    assert several["sample"].jobs == 6 * one["sample"].jobs and several["loss"].jobs == 3 * one["loss"].jobs
    assert several["train"].bytes == pytest.approx(1.5 * one["train"].bytes)
    assert several["train"].flops == one["train"].flops
    held = [
        memory_of(loaded(decays=decays).experiments["rope"], 10, World(1, 1, 1e9, False))
        for decays in (0.9, [0.9, 0.99, 0.5])
    ]
    assert held[1].state == held[1].copy == 1.5 * held[0].state and held[1].work == held[0].work


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
        ([1, 1.0], "cfg_scale: a list to choose from must hold each value once"),
        ([1, 1.0000001], "compared in six digits"),
        ([0, 1], r"cfg_scale: a list to choose from must hold numbers above 0 \(got \[0, 1\]\)"),
        ([-1, 1], "must hold numbers above 0"),
        ([1, "many"], "must hold numbers above 0"),
        ([True, 2], "must hold numbers above 0"),
        ([[1, 2], 3], "must hold numbers above 0"),
        ([1, float("inf")], "finite"),
        ("many", "cfg_scale: input should be a valid number"),
    ],
)
def test_lists_to_choose_from_are_checked(scale, words):
    with pytest.raises(InputError, match=words) as raised:
        loaded(scale)
    assert len(str(raised.value).splitlines()) == 2, "the heading and one line"


def test_names_and_sizes_that_clash_are_refused():
    with pytest.raises(InputError, match="its row rope-cfg2 has the same name as an experiment"):
        loaded([1, 2], **{"rope-cfg2": {"like": "rope"}})
    with pytest.raises(InputError, match="which other sizes cannot use"):
        loaded([1, 2], {"sizes": [{"size": 24}]})
    assert loaded([1, 2], {"sizes": [{"size": 24, "cfg_scale": 2}]}).sized("s")
