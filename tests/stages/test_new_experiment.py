"""New experiment: what is seen in a folder, what is proposed for it, and that it is written only when told so."""

import difflib
import shlex
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image, ImageDraw

from ditgta import config
from ditgta.__main__ import main
from ditgta.data import survey as module
from ditgta.data.images import ImageIndex
from ditgta.data.survey import Survey, survey
from ditgta.planning import estimate
from ditgta.planning.machine import machine_of
from ditgta.stages import new_experiment
from tests.conftest import ROOT, run_snakemake


@pytest.fixture
def shapes(tmp_path, monkeypatch) -> Path:
    """A working directory with config.yaml and a folder of 120 pictures: discs, squares and bars of all sizes and colours."""
    monkeypatch.chdir(tmp_path)
    Path("config.yaml").write_text((ROOT / "config.yaml").read_text())
    rng = np.random.default_rng(0)
    for kind in ("bar", "disc", "square"):
        Path("shapes", kind).mkdir(parents=True)
        for i in range(40):
            width, height = rng.integers(40, 70, 2)
            picture = Image.new("RGB", (width, height), tuple(rng.integers(0, 90, 3).tolist()))
            draw, ink = ImageDraw.Draw(picture), tuple(rng.integers(140, 256, 3).tolist())
            x, y, r = *rng.uniform(15, 25, 2), rng.uniform(8, 14)
            if kind == "disc":
                draw.ellipse([x - r, y - r, x + r, y + r], fill=ink)
            else:
                draw.rectangle([x - r, y - r * (0.4 if kind == "bar" else 1), x + r, y + r], fill=ink)
            picture.save(f"shapes/{kind}/{i}.png")
    return Path("shapes")


def proposed(capsys) -> tuple[dict, str]:
    """Returns the YAML that was printed, and all of what was printed."""
    text = capsys.readouterr().out
    return yaml.safe_load(text[text.index("experiments:\n") : text.index("\nsuite ")]), text


def test_a_proposal_is_printed_with_its_plan_and_nothing_is_written(shapes, capsys):
    before = Path("config.yaml").read_bytes()
    assert main(["new-experiment", "--images", "shapes", "--hours", "0.5"]) == 0
    proposal, text = proposed(capsys)
    assert "120 images of 3 classes with 40 each" in text and "no faults" in text
    assert "all of them were decoded: short sides of 4" in text
    assert "24 held-out images against 128 features: use KID" in text
    assert "core of this machine" in text and "stage         jobs" in text
    loaded = config.load({"suite": "shapes", **proposal})
    suite = loaded.suites["shapes"]
    assert suite.experiments == ("shapes-abs", "shapes-rope", "shapes-gta")
    assert [loaded.experiments[name].model.posenc for name in suite.experiments] == ["abs", "rope", "gta"]
    assert ("shapes-gta", "shapes-rope") in suite.differences and len(suite.differences) == 3
    assert suite.seeds == (0, 1, 2) and suite.primary == "loss"
    assert loaded.experiments["shapes-gta"].images.hold_out == 0.2
    assert (
        "a gap of 3.5 times the spread of the runs is found, 7.6% if retraining moves a row's held-out loss by 2.1%"
        in text
    )
    steps, batch = suite.milestones[-1], loaded.experiments["shapes-gta"].training.batch_size
    assert f"each image is seen {steps * batch / 96:,.0f} times" in text, "of the 96 that are not held out"
    assert loaded.experiments["shapes-gta"].images.size == 32  # the sides of most are below 64
    assert {path.name for path in Path().iterdir()} == {"config.yaml", "shapes"}
    assert Path("config.yaml").read_bytes() == before


def test_write_makes_a_file_of_its_own(shapes, capsys):
    before = Path("config.yaml").read_bytes()
    words = ["new-experiment", "--images", "shapes", "--hours", "0.1", "--write"]
    assert main(words) == 0
    said = "written to shapes.yaml; start it with: snakemake --cores all shapes --configfile shapes.yaml\n"
    assert said in capsys.readouterr().out
    assert Path("config.yaml").read_bytes() == before
    loaded = config.load(config.read([Path("shapes.yaml")]))
    assert {"digits", "paper", "shapes"} <= set(loaded.suites)
    written = Path("shapes.yaml").read_bytes()
    assert main(words) == 2
    assert (
        "experiment shapes is already in the configuration; choose another --name" in capsys.readouterr().err
    )
    assert Path("shapes.yaml").read_bytes() == written


def test_write_adds_to_a_file_that_is_named_and_keeps_comments(shapes, capsys):
    Path("mine.yaml").write_text("# mine\nsuites:\n  digits:\n    seeds: [0, 1]  # two\n")
    before = Path("mine.yaml").read_text()
    words = ["new-experiment", "--images", "shapes", "--hours", "0.1", "--configfile", "mine.yaml", "--write"]
    assert main(words) == 0
    assert "snakemake --cores all shapes --configfile mine.yaml\n" in capsys.readouterr().out
    after = Path("mine.yaml").read_text()
    matcher = difflib.SequenceMatcher(None, before.splitlines(), after.splitlines(), autojunk=False)
    assert {tag for tag, *_ in matcher.get_opcodes()} == {"equal", "insert"}
    loaded = config.load(config.read([Path("mine.yaml")]))
    assert loaded.suites["digits"].seeds == (0, 1) and "shapes" in loaded.suites


def test_a_folder_named_like_a_number_is_a_suite_like_any_other(shapes, capsys):
    for name in ("2024", "1e3"):
        shapes = shapes.rename(name)
        file = Path(f"new-{name}.yaml").absolute()
        words = ["--images", name, "--hours", "0.02", "--configfile", str(file), "--write"]
        assert main(["new-experiment", *words]) == 0
        command = capsys.readouterr().out.splitlines()[-1].partition("snakemake ")[2]
        outcome = run_snakemake(Path.cwd(), *shlex.split(command), "--dry-run", place=())
        assert outcome.code == 0 and outcome.jobs["tabulate"] == 1, outcome.text


def test_all_faults_are_listed_and_left_out(shapes, capsys):
    (shapes / "disc/0.png").write_text("no picture")
    (shapes / "bar/0.png").write_bytes((shapes / "bar/0.png").read_bytes()[:60])
    (shapes / "empty").mkdir()
    assert main(["new-experiment", "--images", "shapes", "--hours", "0.1"]) == 0
    proposal, text = proposed(capsys)
    assert "3 errors in the images of shapes" in text
    for line in ("'bar/0.png' is damaged", "'disc/0.png' is not a PNG", "'empty/' is a class without images"):
        assert line in text
    assert proposal["experiments"]["shapes"]["images"]["on_error"] == "skip"


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--images", "nowhere"], "the image folder nowhere does not exist"),
        (["--images", "shapes/disc"], "holds no class folders"),
        (["--images", "shapes", "--hours", "-1"], "--hours must be more than 0"),
        (["--images", "shapes", "--name", "digits"], "experiment digits is already in the configuration"),
        (["--images", "shapes", "--name", "a/b"], "names become folders"),
        (["--images", "shapes", "--configfile", "none.yaml", "new.yaml"], "none.yaml does not exist"),
    ],
)
def test_a_mistake_is_named(shapes, capsys, words, line):
    assert main(["new-experiment", *words]) == 2
    assert line in capsys.readouterr().err


def test_a_large_folder_is_looked_at_in_part(shapes, monkeypatch):
    monkeypatch.setattr(module, "MOST_LOOKED_AT", 30)
    (shapes / "disc/0.png").write_text("no picture")
    found = survey(shapes)
    assert (found.looked_at, found.index.count, found.classes) == (30, 120, 3)
    assert "30 of them, evenly spread, were decoded" in found.text() and "may find more" in found.text()


def proposal_for(
    count: int, classes: int, sides: list[int], gpus: int, hours: float
) -> tuple[dict, list[str], dict]:
    """Returns the proposal for a folder and machine that are not there, the notes, and the hours of its stages."""
    labels, names = np.arange(count) % classes, [str(i) for i in range(classes)]
    found = Survey(ImageIndex(Path("x"), [""] * count, labels, names, 0), len(sides), np.sort(sides), [])
    machine = machine_of("a100" if gpus else "laptop", gpus or 2, efficiency=0.25)

    def hours_of(proposal):
        loaded = config.load({"suite": "x", **proposal})
        stages = estimate.plan(loaded, "x", (count, classes))[0]
        return new_experiment.hours_of_stages(loaded, "x", stages, machine, gpus)

    proposal, notes = new_experiment.propose("x", "x", found, hours, gpus, hours_of)
    return proposal, notes, hours_of(proposal)


@pytest.mark.parametrize(
    ("count", "classes", "side", "gpus", "hours", "model", "size", "samples"),
    [
        (1_281_167, 1000, 400, 8, 24, "DiT-B/2", 256, 50_000),
        (1_281_167, 1000, 400, 1, 1, "DiT-Ti/1", 64, 50_000),
        (8000, 100, 400, 1, 15, "DiT-S/2", 256, 7000),
        (8000, 1, 80, 0, 1, "DiT-Ti/2", 64, 2000),
        (60_000, 10, 28, 0, 3, "DiT-Ti/1", 32, 2000),
    ],
)
def test_size_model_and_samples_suit_images_machine_and_time(
    count, classes, side, gpus, hours, model, size, samples
):
    proposal, notes, spent = proposal_for(count, classes, [side] * 100, gpus, hours)
    base, suite = proposal["experiments"]["x"], proposal["suites"]["x"]
    assert (base["model"]["name"], base["images"]["size"]) == (model, size)
    assert suite["sampling"]["num_samples"] == samples
    assert suite["sampling"]["cfg_scale"] == (1.5 if classes > 1 else 1.0)
    assert 0.5 * hours < sum(spent.values()) <= hours
    assert bool(base["autoencoder"]) == bool(suite["scorer"]) == (size >= 128)
    assert any("enlarged" in note for note in notes) == (side < size)
    assert not any("KID" in note or "little" in note for note in notes)


def test_little_time_and_few_images_are_said(capsys):
    proposal, notes, _ = proposal_for(90, 3, [100] * 90, 0, 0.01)
    assert "0.01 hours are too short" in notes[0] and "use KID" in notes[1]
    assert proposal["suites"]["x"]["milestones"][-1] == new_experiment.LEAST_STEPS
    few, notes, _ = proposal_for(3, 1, [100] * 3, 0, 1)
    assert "hold_out" not in few["experiments"]["x"]["images"] and few["suites"]["x"]["primary"] == "kid"
    assert any("a class has too few images to hold some out" in note for note in notes)
    assert few["experiments"]["x"]["training"]["batch_size"] == 1


def draft_of(count: int, classes: int, size: int) -> new_experiment.Draft:
    labels, names = np.arange(count) % classes, [str(i) for i in range(classes)]
    sides = np.full(count, size)
    found = Survey(ImageIndex(Path("x"), [""] * count, labels, names, 0), count, sides, [])
    return new_experiment.Draft("x", "x", found, size, new_experiment.RECIPES[-1], new_experiment.WITH_GPU)


def test_the_images_that_are_compared_with_are_counted():
    """Of a trained scorer the held-out ones; of the published one those of training, as the layout has it."""
    assert draft_of(600, 3, 32).reference == (120, "held-out images")
    assert draft_of(600, 3, 256).reference == (480, "images")
    assert any(
        "120 held-out images against 128 features: use KID" in n for n in draft_of(600, 3, 32).notes(9, 300)
    )


@pytest.mark.parametrize(
    ("size", "samples", "primary"),
    [(256, 3000, "kid"), (256, 4097, "kid"), (256, 4098, "fid"), (32, 257, "kid"), (32, 258, "fid")],
)
def test_without_hold_out_the_primary_metric_can_have_a_verdict(size, samples, primary):
    """FID at infinity needs more samples in each half than there are features."""
    draft = draft_of(9000, 4500, size)
    assert not draft.holds_out
    suite = draft.proposal(1000, samples, 50)["suites"]["x"]
    assert suite["primary"] == primary
    (note,) = [note for note in draft.notes(1000, samples) if "training seeds" in note]
    assert f"primary metric: {primary.upper()}: a class has too few images" in note
    assert ("if retraining moves" in note) == (primary == "fid"), "how far KID moves is not known"


def test_this_machine_is_measured():
    machine = machine_of("here", efficiency=0.5)
    assert machine.devices >= 1 and all(1e9 < rate < 1e16 for rate in machine.rates.values())
    flops = machine.devices * machine.rates["float32"] * 3600
    stage = estimate.Stage("train", 1, flops, 0, "", core_seconds=1800 * machine.cores)
    assert estimate.hours_of([stage], machine) == [pytest.approx((2.5, 2.5))]


@pytest.mark.slow
def test_the_proposal_runs_from_pictures_to_table(shapes, tmp_path):
    assert main(["new-experiment", "--images", "shapes", "--hours", "0.02", "--write"]) == 0
    outcome = run_snakemake(tmp_path, "shapes", "--configfile", str(Path("shapes.yaml").absolute()))
    assert outcome.code == 0, outcome.text[-5000:]
    (page,) = (path.read_text() for path in Path().glob("results/table/shapes-*/table.html"))
    assert all(f"shapes-{posenc}" in page for posenc in new_experiment.POSENCS)
