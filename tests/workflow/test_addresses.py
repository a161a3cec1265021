"""What is planned where results are there: nothing, whatever happened to their times, and what is new, exactly."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Outcome, run_snakemake
from tests.pictures import pictures
from tests.workflow.finished import OWN, SUITES, copy_without_times, finish, make_sources


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A folder with sources, and with all results of all suites on them."""
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    make_sources(folder)
    finish(*SUITES)
    return folder


@pytest.fixture
def plan(folder) -> Callable[..., Outcome]:
    """Plans all suites in the folder."""

    def planned(*words: str, change: dict | None = None, place: Path = folder) -> Outcome:
        configs = (OWN, change) if change else (OWN,)
        outcome = run_snakemake(place, "--dry-run", *(words or SUITES), configs=configs)
        assert outcome.code == 0, outcome.text
        return outcome

    return planned


def test_a_copy_without_times_and_memory_is_taken_as_it_is(plan, folder, tmp_path):
    assert plan().jobs == {}
    copy_without_times(folder, tmp_path / "copy")
    for path in (tmp_path / "copy").rglob("*.json"):
        path.touch()  # whatever comes first in the workflow is younger than what comes last
    shutil.rmtree(folder)
    assert plan(place=tmp_path / "copy").jobs == {}


def test_results_are_used_where_their_sources_are_not(plan, folder):
    for name in ("pics", "right", "vae"):
        shutil.rmtree(folder / name)
    for name in ("given.pt", "w.pth", "ref.npz"):
        (folder / name).unlink()
    assert plan().jobs == {}


def test_another_option_of_a_row_is_that_row_alone_and_the_old_one_stays(plan):
    change = {"experiments": {"m-rope": {"training": {"learning_rate": 2e-3}}}}
    outcome = plan(change=change)
    assert outcome.jobs == {"train": 2, "sample": 2, "score": 2, "tabulate": 1}
    assert "Train m-rope" in outcome.text and "Train m-gta" not in outcome.text
    finish("mini", change=change)
    assert plan(change=change).jobs == {} and plan().jobs == {}


TRAINED = {"train": 1, "sample": 1}


@pytest.mark.parametrize(
    ("name", "jobs"),
    [
        (
            "right/cats/3.png",
            {"list_images": 1, "fit_autoencoder": 1, "encode": 1, "fit_scorer": 1, **TRAINED, "score": 2},
        ),
        ("given.pt", {"import_checkpoint": 1, "sample": 1, "score": 1}),
        (
            "vae/diffusion_pytorch_model.safetensors",
            {"fit_autoencoder": 1, "encode": 1, **TRAINED, "score": 1},
        ),
        ("w.pth", {"fit_scorer": 1, "score": 2}),
        ("ref.npz", {"score": 2}),
    ],
)
def test_what_a_file_holds_decides_and_nothing_else_depends_on_it(plan, folder, name, jobs):
    before = (folder / name).read_bytes()
    (folder / name).write_bytes(b"x" * len(before))
    assert plan().jobs == {**jobs, "tabulate": 1}
    (folder / name).write_bytes(before)
    assert plan().jobs == {}


def test_pictures_that_come_or_go_are_noticed(plan, folder):
    (folder / "right/cats/3.png").unlink()
    assert plan("other-images").jobs["train"] == 1
    pictures(folder / "right", seed=1)
    assert plan("other-images").jobs == {}
    pictures(folder / "right", count=7, seed=1)
    assert plan("other-images").jobs["train"] == 1


def test_moved_pictures_are_the_same_pictures(plan, folder):
    (folder / "pics").rename(folder / "elsewhere")
    moved = {"experiments": {"mini": {"images": {"source": "elsewhere/"}}}}
    assert plan(change=moved).jobs == {}
    more = {"experiments": {**moved["experiments"], "m-abs": {"like": "mini", "model": {"posenc": "abs"}}}}
    more["suites"] = {"mini": {"experiments": ["m-gta", "m-abs"]}}
    expected = {"list_images": 1, "train": 2, "sample": 2, "score": 2, "tabulate": 1}
    assert plan("mini", change=more).jobs == expected, "they are listed again, and nothing else"


def test_a_renamed_experiment_is_the_same_experiment(plan):
    renamed = {
        "experiments": {"new-name": {"like": "m-gta"}},
        "suites": {"mini": {"experiments": ["new-name", "m-rope"]}},
    }
    assert plan("mini", change=renamed).jobs == {"tabulate": 1}


def test_a_milestone_between_others_trains_itself_alone(plan):
    outcome = plan("mini", change={"suites": {"mini": {"milestones": [2, 3, 4]}}})
    assert outcome.jobs == {"train": 2, "sample": 2, "score": 2, "tabulate": 1}
    assert outcome.text.count("to step 3;") == 2 and "to step 4;" not in outcome.text


def test_milestones_that_are_gone_are_no_reason_to_train_later_ones(plan, folder):
    for path in folder.glob("results/train/m-*/seed0/0000002.*"):
        path.unlink()
    outcome = plan("mini", change={"suites": {"mini": {"milestones": [4, 6]}}})
    assert outcome.jobs == {"train": 2, "import_checkpoint": 1, "sample": 3, "score": 3, "tabulate": 1}
    assert outcome.text.count("to step 6;") == 2
    assert plan("mini").jobs == {}, "samples and scores of the missing ones are there"


def test_what_was_deleted_is_made_again_where_it_is_needed_and_nothing_with_it(plan, folder):
    for stage in ("images", "autoencoder", "latents", "scorer"):
        shutil.rmtree(folder / "results" / stage)
    assert plan().jobs == {}
    outcome = plan("checkpoints", change={"suites": {"mini": {"milestones": [2, 4, 6]}}})
    expected = {"list_images": 1, "fit_autoencoder": 1, "encode": 1, "train": 2, "import_checkpoint": 1}
    assert outcome.jobs == expected and "to step 4;" not in outcome.text


def test_missing_milestones_are_trained_one_after_the_other(plan, folder):
    for path in folder.glob("results/t*/m*"):
        shutil.rmtree(path)
    text = plan("checkpoints", change={"suites": {"mini": {"experiments": ["m-gta"]}}}).text
    first, second = (text.index(f"to step {step};") for step in (2, 4))
    reason = text[second:].split("Reason: ")[1].splitlines()[0]
    assert first < second and "Input files updated by another job" in reason and "/0000002.json" in reason


def test_suites_share_scorer_and_samples(plan):
    second = {
        **OWN["suites"]["mini"],
        "experiments": ["m-rope", "m-gta"],
        "milestones": [4],
        "differences": [["m-gta", "m-rope"]],
    }
    assert plan("second", change={"suites": {"second": second}}).jobs == {"tabulate": 1}
    second["scorer"] = {"epochs": 3}
    jobs = {"fit_scorer": 1, "score": 3, "tabulate": 1}
    assert plan("second", change={"suites": {"second": second}}).jobs == jobs


def test_results_of_version_0_1_are_named_in_one_line(plan, folder):
    (folder / "results/train/gta/seed0").mkdir(parents=True)
    text = plan("mini").text
    assert text.count("results/train/gta: results of version 0.1, which are not used") == 1


def test_all_rows_at_other_sizes_are_other_results(plan):
    jobs = plan("mini", change={"experiments": {"mini": {"images": {"size": 32}}}}).jobs
    assert jobs["list_images"] == jobs["encode"] == 1 and jobs["train"] == 4 and jobs["score"] == 6


def test_further_seeds_are_sampled_and_scored_and_the_first_is_kept(plan):
    """Each training seed has noise of its own, so that a suite with one seed is the beginning of one with several."""
    change = {"suites": {"mini": {"seeds": [0, 1], "experiments": ["m-gta", "m-rope"]}}}
    outcome = plan("mini", change=change)
    assert outcome.jobs == {"train": 4, "sample": 4, "score": 4, "tabulate": 1}
    assert outcome.text.count('"training_seed":1') == 4 and '"training_seed":0' not in outcome.text


def test_latents_made_elsewhere_are_taken_and_decoded_with_their_own_autoencoder(plan, folder):
    (folder / "features").mkdir()
    (folder / "features/dataset.json").write_text("{}")
    row = {"like": "m-vae", "latents": {"from": "features", "format": "edm2"}, "training": {"flip": "none"}}
    change = {
        "experiments": {"m-ready": row},
        "suites": {"ready": {"experiments": ["m-ready"], "milestones": [2]}},
    }
    outcome = plan("ready", change=change)
    expected = {"encode": 1, "train": 1, "sample": 1, "score": 1, "tabulate": 1}
    assert {rule: count for rule, count in outcome.jobs.items() if rule in expected} == expected
    commands = [line for line in outcome.text.splitlines() if line.startswith("Shell command:")]
    (encode,) = (line for line in commands if " -m ditgta latents " in line)
    (sample,) = (line for line in commands if " -m ditgta sample " in line)
    assert "--from features --contents " in encode
    assert "--autoencoder results/latents/" in sample and "/autoencoder " in sample
    finish("ready", change=change)
    assert plan("ready", change=change).jobs == {}
    (folder / "features/dataset.json").write_text("{} ")
    assert plan("ready", change=change).jobs["encode"] == 1
