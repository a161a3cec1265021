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
from ditgta.layout import Layout, Row, record_of
from ditgta.runtime.files import write_json
from ditgta.runtime.lease import LEASE_NAME, Lease
from ditgta.stages import status
from ditgta.watch import reader

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


def write_milestone(layout: Layout, experiment: str, step: int, **content) -> Path:
    file = Path(layout.checkpoint(Row(experiment, 0, step)))
    write_json(record_of(str(file)), {"step": step, **content})
    file.touch()
    return file


def write_losses(layout: Layout, experiment: str, text: str) -> Path:
    run = Path(layout.run(experiment, 0))
    run.mkdir(parents=True)
    (run / "metrics.jsonl").write_text(text)
    return run


def test_nothing_has_begun(layout):
    found = read()
    assert {stage["stage"]: stage["done"] for stage in found["stages"]} == dict.fromkeys(
        ["images", "autoencoder", "latents", "scorer", "baseline", "table"], False
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
    folder = Path(layout.samples("pets", Row("gta", 0, 100)))
    write_json(folder / "00000.json", {})
    (folder / "00001.npz").touch()  # without its record: not whole yet
    write_json(layout.scores("pets", Row("gta", 0, 100)), {"metrics": {"fid": {"value": 12.5, "se": 0.4}}})
    assert read()["rows"]["gta"]["epochs"] is None  # the images are not listed yet
    write_json(f"{layout.path('images', 'gta')}/index.json", {"count": 600})
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
    layout = Layout(config.load(raw))
    reader = status.Reader(layout)
    assert "verdict" not in status.text(reader.suite("pets", 0))
    for name, value in (("gta", 2.0), ("rope", 9.0)):
        scores = {"metrics": {"fid": {"value": value, "se": 0.1}}}
        write_json(layout.scores("pets", Row(name, 0, 300)), scores)
    text = status.text(reader.suite("pets", 0))
    assert words in text and "better" not in text and "worse" not in text
    table = Path(layout.files("table", "pets")[0])
    table.parent.mkdir(parents=True)
    table.touch()
    text = status.text(reader.suite("pets", 0))
    assert text.endswith(f"table: {table}") and "will be" not in text
    assert ("the verdicts are in the table\n" in text) == (len(seeds) > 1)


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
    assert (row["training"], row["jobs"]) == ("begun", []) and "none running" in printed()


def test_holders_elsewhere_are_told_by_their_heartbeat(layout, monkeypatch):
    elsewhere = {"token": "t", "beat": 1, "host": "node7", "boot": "other", "pid": 12, "job": "77"}
    paths = [write_losses(layout, name, "") / LEASE_NAME for name in ("gta", "rope")]
    for path in paths:
        write_json(path, elsewhere)
    assert states(read(wait=0)["rows"]["rope"]) == ["train unknown"]
    threading.Timer(0.7, write_json, [paths[0], {**elsewhere, "beat": 2}]).start()
    monkeypatch.setattr(reader, "DEAD_AFTER_SECONDS", 3)
    rows = read(wait=3)["rows"]
    assert (states(rows["gta"]), states(rows["rope"])) == (["train alive"], ["train dead"])
    assert "process 12 on node7, job 77" in printed()


def test_leases_beside_outputs_say_who_samples_and_encodes(layout):
    latents = Path(layout.files("latents", "pets")[0]).parent
    mine = Lease(Path("x")).content()
    write_json(latents.parent / f".{latents.name}.1-of-2.lease", mine)
    row = Row("gta", 0, 100)
    write_json(Path(layout.samples("pets", row)).with_name(".0000100.lease"), mine)
    write_json(
        Path(layout.scores("pets", row)).with_name(".0000100.json.lease"), {**mine, "started": "long ago"}
    )
    found = read()
    assert states(found["rows"]["gta"]) == ["sample alive", "score dead"]
    assert [states(stage) for stage in found["stages"] if stage["stage"] == "latents"] == [["latents alive"]]
    assert f"latents not done (alive: process {os.getpid()} on " in printed()


def test_a_training_of_other_options_has_not_begun(layout):
    write_milestone(layout, "abs", 100)
    other = {
        **RAW,
        "experiments": {**RAW["experiments"], "abs": {"like": "rope", "training": {"flip": "none"}}},
    }
    rows = status.Reader(Layout(config.load(other))).suite("pets", 0)["rows"]
    assert [row["milestones"] for row in rows if row["experiment"] == "abs"] == [{"100": False, "300": False}]


def test_done_rows_take_their_numbers_from_records(layout):
    losses = [{"step": 299, "loss": 0.5}]
    for step in (100, 300):
        write_milestone(layout, "abs", step, losses=losses, images_per_second=7.5)
    write_milestone(layout, "given", 300)
    rows = read()["rows"]
    assert rows["abs"]["training"] == rows["given"]["training"] == "done"
    assert (rows["abs"]["step"], rows["abs"]["loss"], rows["abs"]["seconds_left"]) == (300, 0.5, None)


def test_what_was_deleted_is_not_done(layout):
    for step in (100, 300):
        file = write_milestone(layout, "abs", step)
    file.unlink()
    row = read()["rows"]["abs"]
    assert (row["training"], row["milestones"]) == ("begun", {"100": True, "300": False})
    record = Path(layout.files("scorer", "pets")[0])
    write_json(record, {})
    scorer = {stage["stage"]: stage["done"] for stage in read()["stages"]}
    assert scorer["scorer"] is False
    record.with_name("scorer.safetensors").touch()
    assert {stage["stage"]: stage["done"] for stage in read()["stages"]}["scorer"] is True


def test_names_are_readable_and_the_table_is_said(layout):
    table = Path(layout.files("table", "pets")[0])
    table.parent.mkdir(parents=True)
    table.touch()
    names = {stage["stage"]: stage["name"] for stage in read()["stages"]}
    assert (names["images"], names["latents"], names["table"]) == ("pets-32", "pets-32", "pets")
    assert f"\ntable: {table}" in printed()


def test_results_of_version_0_1_are_one_line(layout):
    for name in ("gta", "rope"):
        Path("results/train", name, "seed0").mkdir(parents=True)
    warnings = [line for line in printed().splitlines() if line.startswith("warning: ")]
    assert (
        len(warnings) == 1 and "results/train/rope: results of version 0.1, which are not used" in warnings[0]
    )


@pytest.mark.parametrize("garbage", ["", "{", "[]", '{"step": "x"}', "\0\xff", '{"metrics": [1]}', "null"])
def test_garbage_is_survived_and_named_in_one_line(layout, garbage):
    run = write_losses(layout, "gta", garbage)
    files = [run / LEASE_NAME, Path(record_of(layout.checkpoint(Row("gta", 0, 100))))]
    files += [Path(file) for noun in ("images", "scores") for file in layout.files(noun, "pets")]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(garbage)
    text = printed()
    assert "gta" in text
    if not garbage.startswith("{") or garbage == "{":
        assert f"warning: {files[0]} " in text
        assert all(line.startswith("warning: ") for line in text.splitlines()[7:])


def test_latents_are_counted_in_shards(layout):
    images, latents = (Path(layout.files(noun, "pets")[0]) for noun in ("images", "latents"))
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
        (["--configfile", "none.yaml"], "none.yaml does not exist"),
        (["--suite", "cats"], "suite cats is not in the configuration; known: pets"),
    ],
)
def test_a_mistake_is_one_line(layout, capsys, words, line):
    Path("config.yaml").write_text(json.dumps(RAW))
    assert main(["status", *words]) == 2
    message = capsys.readouterr().err
    assert line in message and len(message.splitlines()) == 1
