"""Where results lie: what is in an address and what is not, who shares a result, and what finds it again."""

import shutil
from pathlib import Path

import pytest
import yaml

from ditgta import config
from ditgta.config.names import NOUNS, PUBLISHED_SCORER
from ditgta.layout import Layout, Row, old_results
from ditgta.runtime.addresses import hash_in, readable
from ditgta.runtime.errors import InputError
from ditgta.runtime.yaml_text import as_text
from tests.pictures import pictures

SUITE = {"experiments": ["a"], "milestones": [10]}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def layout(experiments: dict | None = None, suites: dict | None = None) -> Layout:
    raw = {"suite": "s", "experiments": experiments or {"a": {}}, "suites": suites or {"s": SUITE}}
    return Layout(config.load(raw))


def training(**options) -> str:
    return layout({"a": options}).path("train", "a")


def test_the_contract():
    row = Row("a", 1, 3500)
    found = layout(suites={"s": {**SUITE, "seeds": [1], "milestones": [3500]}})
    address = hash_in(Path(found.path("train", "a")).name)
    assert found.checkpoint(row) == f"results/train/a-{address}/seed1/0003500.safetensors"
    assert found.run("a", 1) == f"results/train/a-{address}/seed1/run"
    assert readable(Path(found.samples("s", row)).parents[1].name) == "a"
    assert found.samples("s", row).endswith("/seed1/0003500")
    assert found.scores("s", row).startswith("results/score/a-") and found.scores("s", row).endswith(
        "/seed1/0003500.json"
    )
    assert found.baseline("s").startswith("results/score/baseline-")
    assert found.files("table", "s")[0].startswith("results/table/s-")
    assert {
        len(hash_in(Path(found.path(stage, "a")).name)) for stage in ("images", "autoencoder", "latents")
    } == {8}
    assert all(found.files(noun, "s") for noun in NOUNS if noun != "losses")
    assert found.files("losses", "s") == [] and found.reference("s") == found.path("images", "a")


def test_held_out_images_bring_losses_and_a_reference():
    suites = {
        "s": {**SUITE, "primary": "loss"},
        "p": {**SUITE, "scorer": {"weights": PUBLISHED_SCORER["url"]}},
    }
    found = layout({"a": {"images": {"hold_out": 0.2}}}, suites)
    (losses,) = found.files("losses", "s")
    assert losses.startswith("results/loss/a-") and losses.endswith("/seed0/0000010.json")
    assert found.reference("s") == f"{found.path('images', 'a')}/held-out"
    assert found.reference("p") == found.path("images", "a"), "the published network keeps the custom"
    assert found.path("scorer", "s") != layout().path("scorer", "s")
    assert found.path("train", "a") != layout().path("train", "a"), "it is trained on fewer images"
    fewer = layout({"a": {"images": {"hold_out": 0.2}}}, {"s": {**SUITE, "loss": {"timesteps": 10}}})
    assert fewer.files("losses", "s") != [losses] and fewer.path("train", "a") == found.path("train", "a")


def test_held_out_images_of_their_own_leave_trainings_as_they_are(folder):
    for name in ("train", "val"):
        pictures(folder / name, count=2)
    plain, named = ({"source": "train"}, {"source": "train", "held_out": "val"})
    without, found = layout({"a": {"images": plain}}), layout({"a": {"images": named}})
    assert found.path("train", "a") == without.path("train", "a")
    assert found.path("images", "a") != without.path("images", "a") and found.files("losses", "s")


def test_options_that_change_results_are_in_the_address_and_others_are_not():
    free = {
        "log_every": 7,
        "snapshot_every": 9,
        "micro_batch": 2,
        "checkpoint_gradients": True,
        "tracker": "wandb",
    }
    assert training(training=free) == training()
    for section, change in [
        ("training", {"learning_rate": 1e-3}),
        ("training", {"compile": True}),
        ("model", {"posenc": "rope"}),
        ("model", {"rotary_base": 100}),
        ("model", {"absolute_table": True}),
        ("images", {"size": 64}),
        ("autoencoder", {"steps": 5}),
        ("autoencoder", {"tf32": True}),
        ("autoencoder", {"pretrained": "some/vae"}),
    ]:
        assert training(**{section: change}) != training(), section
    found = layout()
    assert found.specs.training("a", 1) != found.specs.training("a", 0)


def test_options_of_what_is_not_trained_do_not_matter():
    """Those of a trained autoencoder mean nothing to one that is fetched, nor those of a trained scorer."""
    assert len({training(autoencoder={"pretrained": "some/vae", "steps": n}) for n in (5, 6)}) == 1
    suites = [{"s": {**SUITE, "scorer": {"weights": "https://x/w.pth", "epochs": n}}} for n in (1, 2)]
    assert len({layout(suites=suite).path("scorer", "s") for suite in suites}) == 1


def test_an_address_is_one_in_upper_case_too():
    found = layout(suites={"s": {**SUITE, "scorer": {"weights": "HTTPS://x/w.pth"}}})
    assert found.specs.scorer("s") == {"weights": "HTTPS://x/w.pth"}
    assert found.specs.held("HTTPS://x/w.pth") is None


def test_results_of_another_version_are_others(monkeypatch):
    before = training()
    monkeypatch.setattr("ditgta.specs.RESULTS_VERSION", 3)
    assert training() != before


def test_suites_share_what_is_equal():
    second = {**SUITE, "milestones": [10, 20]}
    found = layout(suites={"s": SUITE, "t": second, "u": {**SUITE, "sampling": {"steps": 5}}})
    row = Row("a", 0, 10)
    assert found.samples("s", row) == found.samples("t", row) != found.samples("u", row)
    assert found.scores("s", row) == found.scores("t", row) != found.scores("u", row)
    assert found.path("scorer", "s") == found.path("scorer", "t") == found.path("scorer", "u")
    assert found.baseline("s") == found.baseline("u")
    assert found.path("table", "s") != found.path("table", "t")
    assert found.chain("a") == [10, 20]


def test_equal_experiments_share_a_training_and_its_milestones():
    suites = {"s": {**SUITE, "experiments": ["b"]}, "t": {**SUITE, "milestones": [5]}}
    found = layout({"a": {}, "b": {"like": "a"}}, suites)
    assert found.path("train", "a") == found.path("train", "b")
    assert readable(Path(found.path("train", "a")).name) == "b", (
        "the first that stands in a suite gives the name"
    )
    assert found.chain("a") == found.chain("b") == [5, 10]


def test_a_renamed_experiment_finds_what_is_there():
    before = layout().path("train", "a")
    Path(before).mkdir(parents=True)
    suites = {"s": {**SUITE, "experiments": ["other"]}}
    assert layout({"other": {}}, suites).path("train", "other") == before
    # Where both are there, each has its own.
    own = before.replace("/a-", "/other-")
    Path(own).mkdir()
    assert layout({"other": {}}, suites).path("train", "other") == own


def test_pictures_are_what_they_hold(folder):
    pictures(folder / "pics")
    shutil.copytree(folder / "pics", folder / "elsewhere" / "copy")
    suites = [
        layout({"a": {"images": {"source": source, "size": 16}}})
        for source in ("pics", "pics/", "elsewhere/copy")
    ]
    for stage in ("autoencoder", "latents", "train"):
        hashes = {hash_in(Path(found.path(stage, "a")).name) for found in suites}
        assert len(hashes) == 1, stage
    index = [found.path("images", "a") for found in suites]
    assert index[0] == index[1] != index[2], (
        "where images lie is said by their list, which is made in a moment"
    )
    pictures(folder / "pics", seed=1)
    assert layout({"a": {"images": {"source": "pics", "size": 16}}}).path("train", "a") != suites[0].path(
        "train", "a"
    )


def test_files_are_what_they_hold(folder):
    def found() -> dict[str, str]:
        experiments = {
            "a": {"checkpoint": "c.pt", "autoencoder": {"pretrained": "./vae"}},
            "b": {"autoencoder": {"pretrained": "my/vae"}},
        }
        scorer = {"weights": "w.pth", "reference": "ref.npz"}
        suites = {"s": {**SUITE, "experiments": ["a", "b"], "scorer": scorer}}
        made = layout(experiments, suites)
        return {
            "checkpoint": made.path("train", "a"),
            "autoencoder": made.path("autoencoder", "a"),
            "hub or folder": made.path("train", "b"),
            "weights": made.path("scorer", "s"),
            "reference": made.baseline("s"),
        }

    for name in ("vae/config.json", "vae/diffusion_pytorch_model.safetensors"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("1")
    for name in ("c.pt", "w.pth", "ref.npz"):
        (folder / name).write_text("1")
    before = found()
    assert found() == before
    for name, changed in [
        ("c.pt", {"checkpoint"}),
        ("vae/diffusion_pytorch_model.safetensors", {"autoencoder"}),
        ("w.pth", {"weights", "reference"}),
        ("ref.npz", {"reference"}),
    ]:
        (folder / name).write_text("2")
        after = found()
        assert {key for key in before if before[key] != after[key]} == changed, name
        (folder / name).write_text("1")
    assert found() == before
    (folder / "my/vae").mkdir(parents=True)
    (folder / "my/vae/config.json").write_text("1")
    assert found()["hub or folder"] != before["hub or folder"]


def test_the_published_scorer_is_one_thing_as_address_and_as_file(folder, monkeypatch):
    (folder / "w.pth").write_text("weights")
    held = layout(suites={"s": {**SUITE, "scorer": {"weights": "w.pth"}}}).specs.scorer("s")["weights"]
    monkeypatch.setitem(PUBLISHED_SCORER, "sha256", held)
    suites = [
        {"s": {**SUITE, "scorer": {"weights": weights}}} for weights in ("w.pth", PUBLISHED_SCORER["url"])
    ]
    assert len({hash_in(Path(layout(suites=suite).path("scorer", "s")).name) for suite in suites}) == 1


def test_an_imported_checkpoint_stands_at_the_last_milestone_alone():
    suites = {"s": {"experiments": ["a", "b"], "milestones": [5, 10], "seeds": [0, 1]}}
    rows = layout({"a": {}, "b": {"checkpoint": "c.pt"}}, suites).rows("s")
    assert rows == [Row("a", 0, 5), Row("a", 0, 10), Row("a", 1, 5), Row("a", 1, 10), Row("b", 0, 10)]


def test_results_of_version_0_1_are_named_in_one_line():
    assert old_results("results") is None
    Path(layout().path("train", "a")).mkdir(parents=True)
    Path("results/logs/x").mkdir(parents=True)
    for name in ("images/digits-32-abc123.features", "score/baseline-12345678"):
        Path("results", name).mkdir(parents=True)
    assert "digits-32-abc123" in old_results("results"), "its hash had six digits"
    for name in ("train/gta/seed0", "sample/digits/gta", "score/digits", "table/digits"):
        Path("results", name).mkdir(parents=True)
    line = old_results("results")
    assert "and 2 more: results of version 0.1, which are not used; `ditgta clean` lists them" in line
    assert "\n" not in line and "a-" not in line


def test_a_second_judge_decides_scores_and_nothing_else(folder):
    (folder / "dinov2.pth").write_bytes(b"weights")
    suites = {"s": SUITE, "t": {**SUITE, "scorer": {"judge": "dinov2.pth"}}}
    found = layout(suites=suites)
    assert found.path("scorer", "s") == found.path("scorer", "t")
    assert found.path("sample", ("s", "a")) == found.path("sample", ("t", "a"))
    before = found.path("score", ("t", "a"))
    assert before != found.path("score", ("s", "a")) and found.baseline("s") != found.baseline("t")
    (folder / "dinov2.pth").rename(folder / "moved.pth")
    moved = {"s": SUITE, "t": {**SUITE, "scorer": {"judge": "moved.pth"}}}
    assert layout(suites=moved).path("score", ("t", "a")) == before, "its content counts, not its name"
    with pytest.raises(InputError, match="download it and name the file"):
        layout(suites={"s": {**SUITE, "scorer": {"judge": "https://example.org/dinov2.pth"}}})


@pytest.mark.parametrize("suite", ["digits", "digits-cfg", "digits-sizes", "paper-bf16"])
def test_the_configuration_of_one_suite_finds_its_results_again(suite):
    """As a table's page holds it: without other suites, `like` and defaults."""
    whole = Layout(config.load(config.read()))
    alone = whole.specs.configuration(suite)
    assert set(alone["experiments"]) == set(whole.config.suites[suite].experiments)
    found = Layout(config.load(yaml.safe_load(as_text(alone))))
    for noun in (
        "table",
        "samples",
        "scores",
    ):  # a result that suites share has its name from the first of them
        ours, theirs = (
            [
                hash_in(part.removesuffix(".json"))
                for file in one.files(noun, suite)
                for part in Path(file).parts[2:3]
            ]
            for one in (found, whole)
        )
        assert ours == theirs and None not in ours
