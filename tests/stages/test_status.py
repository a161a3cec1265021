"""Status: rows that have not begun, are at work here or elsewhere, have died or are done, and files that are cut off."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from ditgta import config
from ditgta.__main__ import main
from ditgta.layout import Layout
from ditgta.runtime.files import write_json
from ditgta.runtime.lease import LEASE_NAME, Lease
from ditgta.stages import status

RAW = {
    "suite": "pets",
    "experiments": {
        "pets": {"images": {"source": "pets", "size": 32}, "training": {"batch_size": 10}},
        "gta": {"like": "pets"},
        "rope": {"like": "pets", "model": {"posenc": "rope"}},
        "abs": {"like": "pets", "model": {"posenc": "abs"}},
        "given": {"like": "pets", "checkpoint": "given.pt"},
    },
    "suites": {
        "pets": {
            "experiments": ["gta", "rope", "abs", "given"],
            "milestones": [100, 300],
            "sampling": {"num_samples": 300},
        }
    },
}


@pytest.fixture
def layout(tmp_path, monkeypatch) -> Layout:
    monkeypatch.chdir(tmp_path)
    Path("results").mkdir()
    return Layout(config.load(RAW))


def read(wait: float = 0) -> dict:
    found = status.Reader(Layout(config.load(RAW))).suite("pets", wait)
    found["rows"] = {row["experiment"]: row for row in found["rows"]}
    return found


def states(part: dict) -> list[str]:
    return [f"{job['stage']} {job['state']}" for job in part["jobs"]]


def write_milestone(layout: Layout, experiment: str, step: int, **content) -> None:
    twin = {"spec": layout.config.train_spec(experiment, 0), "step": step, **content}
    write_json(f"{layout.training(experiment, 0)}/{step:07d}.json", twin)


def write_losses(layout: Layout, experiment: str, text: str) -> Path:
    run = Path(layout.run(experiment, 0))
    run.mkdir(parents=True)
    (run / "metrics.jsonl").write_text(text)
    return run


def test_nothing_has_begun(layout):
    found = read()
    assert {stage["stage"]: stage["done"] for stage in found["stages"]} == dict.fromkeys(
        ["images", "autoencoder", "latents", "scorer", "table"], False
    )
    assert {row["training"] for row in found["rows"].values()} == {"not begun"}
    assert found["rows"]["gta"]["milestones"] == {"100": False, "300": False}
    assert found["rows"]["given"]["milestones"] == {
        "300": False
    }  # an imported checkpoint stands at the last alone
    assert found["faults"] == [] and "not begun" in status.text(
        {**found, "rows": list(found["rows"].values())}
    )


def test_a_row_at_work(layout):
    write_milestone(layout, "gta", 100)
    line = '{"step": 150, "loss": 0.25, "images_per_second": 50.0}\n'
    run = write_losses(layout, "gta", line + '{"step": 160, "lo')  # the last line is being written
    write_json(run / LEASE_NAME, Lease(run / LEASE_NAME).content())
    folder = Path("results/sample/pets/gta/seed0/0000100")
    write_json(folder / "00000.json", {})
    (folder / "00001.npz").touch()  # without its twin: not whole yet
    write_json("results/score/pets/gta/seed0/0000100.json", {"metrics": {"fid": {"value": 12.5, "se": 0.4}}})
    assert read()["rows"]["gta"]["epochs"] is None  # the images are not listed yet
    write_json(f"results/images/{layout.images_of('gta')}/index.json", {"count": 600})
    row = read()["rows"]["gta"]
    assert row["epochs"] == 150 * 10 / 600
    assert row["milestones"] == {"100": True, "300": False}
    assert (row["step"], row["loss"], row["images_per_second"]) == (150, 0.25, 50.0)
    assert row["seconds_left"] == 150 * 10 / 50
    assert (row["training"], states(row)) == ("begun", ["train alive"])
    assert row["jobs"][0]["holder"]["pid"] == os.getpid()
    assert row["samples"]["100"] == {"done": False, "shards": [1, 2]}
    shown = next(line for line in printed().splitlines() if line.startswith("gta"))
    for word in (
        "150/300",
        "0.25",
        "50.0",
        "30s",
        "100 1/2 shards",
        "100 FID 12.5 ± 0.4",
        "train alive: process",
    ):
        assert word in shown, (word, shown)


@pytest.mark.parametrize(
    ("seeds", "words"), [([0], "one training seed: scores without a verdict"), ([0, 1], "in table.html")]
)
def test_scores_of_one_seed_are_no_verdict(layout, seeds, words):
    raw = {**RAW, "suites": {"pets": {**RAW["suites"]["pets"], "seeds": seeds}}}
    reader = status.Reader(Layout(config.load(raw)))
    assert "verdict" not in status.text(reader.suite("pets", 0))
    for name, value in (("gta", 2.0), ("rope", 9.0)):
        scores = {"metrics": {"fid": {"value": value, "se": 0.1}}}
        write_json(f"results/score/pets/{name}/seed0/0000300.json", scores)
    text = status.text(reader.suite("pets", 0))
    assert words in text and "better" not in text and "worse" not in text


def printed() -> str:
    return status.text(status.Reader(Layout(config.load(RAW))).suite("pets", 0))


def test_a_killed_holder_of_this_machine_is_dead(layout):
    run = write_losses(layout, "rope", '{"step": 10, "loss": 1, "images_per_second": 5}\n')
    gone = subprocess.Popen([sys.executable, "-c", "pass"])
    gone.wait()
    write_json(run / LEASE_NAME, {**Lease(run / LEASE_NAME).content(), "pid": gone.pid})
    assert states(read()["rows"]["rope"]) == ["train dead"]
    (run / LEASE_NAME).unlink()  # stopped by a signal, it gives the lease back
    row = read()["rows"]["rope"]
    assert (row["training"], row["jobs"]) == ("begun", []) and "none at work" in printed()


def test_holders_elsewhere_are_told_by_their_heartbeat(layout, monkeypatch):
    elsewhere = {"token": "t", "beat": 1, "host": "node7", "boot": "other", "pid": 12, "job": "77"}
    paths = [write_losses(layout, name, "") / LEASE_NAME for name in ("gta", "rope")]
    for path in paths:
        write_json(path, elsewhere)
    assert states(read(wait=0)["rows"]["rope"]) == ["train unknown"]
    threading.Timer(0.7, write_json, [paths[0], {**elsewhere, "beat": 2}]).start()
    monkeypatch.setattr(status, "DEAD_AFTER_SECONDS", 3)
    rows = read(wait=3)["rows"]
    assert (states(rows["gta"]), states(rows["rope"])) == (["train alive"], ["train dead"])
    assert "process 12 on node7, job 77" in printed()


def test_leases_beside_outputs_say_who_samples_and_encodes(layout):
    latents = Path(layout.stage_files("latents", "pets")[0]).parent
    mine = Lease(Path("x")).content()
    write_json(latents.parent / f".{latents.name}.1-of-2.lease", mine)
    write_json("results/sample/pets/gta/seed0/.0000100.lease", mine)
    write_json("results/score/pets/gta/seed0/.0000100.json.lease", {**mine, "started": "long ago"})
    found = read()
    assert states(found["rows"]["gta"]) == ["sample alive", "score dead"]
    assert [states(stage) for stage in found["stages"] if stage["stage"] == "latents"] == [["latents alive"]]
    assert f"latents not done (alive: process {os.getpid()} on " in printed()


def test_a_training_of_other_options_has_not_begun(layout):
    write_json(f"{layout.training('abs', 0)}/0000100.json", {"spec": {"other": 1}, "step": 100})
    assert read()["rows"]["abs"]["milestones"] == {"100": False, "300": False}


def test_done_rows_take_their_numbers_from_twins(layout):
    losses = [{"step": 299, "loss": 0.5}]
    for step in (100, 300):
        write_milestone(layout, "abs", step, losses=losses, images_per_second=7.5)
    write_json(f"{layout.training('given', 0)}/0000300.json", {"spec": {"imported": {}}, "step": 300})
    rows = read()["rows"]
    assert rows["abs"]["training"] == rows["given"]["training"] == "done"
    assert (rows["abs"]["step"], rows["abs"]["loss"], rows["abs"]["seconds_left"]) == (300, 0.5, None)


@pytest.mark.parametrize("garbage", ["", "{", "[]", '{"step": "x"}', "\0\xff", '{"metrics": [1]}', "null"])
def test_garbage_is_survived_and_named_in_one_line(layout, garbage):
    run = write_losses(layout, "gta", garbage)
    files = [run / LEASE_NAME, Path(layout.training("gta", 0), "0000100.json")]
    files += [Path(file) for stage in ("images", "score") for file in layout.stage_files(stage, "pets")]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(garbage)
    text = printed()
    assert "gta" in text
    if not garbage.startswith("{") or garbage == "{":
        assert f"warning: {files[0]} " in text
        assert all(line.startswith("warning: ") for line in text.splitlines()[7:])


def test_latents_are_counted_in_shards(layout):
    images, latents = (Path(layout.stage_files(stage, "pets")[0]) for stage in ("images", "latents"))
    write_json(images, {"count": 1000})
    write_json(latents.parent / "00002.json", {})
    stage = next(stage for stage in read()["stages"] if stage["stage"] == "latents")
    assert stage["shards"] == [1, 4]


def test_the_command_says_it_as_json_and_is_quick(layout, tmp_path):
    Path("config.yaml").write_text(json.dumps(RAW))
    check = "import sys; from ditgta.__main__ import main; code = main(['status', '--json'])"
    check += "; sys.exit(code or any(name in sys.modules for name in ('torch', 'numpy')))"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [row["experiment"] for row in json.loads(done.stdout)["rows"]] == ["gta", "rope", "abs", "given"]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--results", "elsewhere"], "results folder elsewhere does not exist"),
        (["--configfile", "none.yaml"], "none.yaml is no readable YAML file"),
        (["--suite", "cats"], "suite cats is not in the configuration; known: pets"),
    ],
)
def test_a_mistake_is_one_line(layout, capsys, words, line):
    Path("config.yaml").write_text(json.dumps(RAW))
    assert main(["status", *words]) == 2
    message = capsys.readouterr().err
    assert line in message and len(message.splitlines()) == 1
