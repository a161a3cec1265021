"""Watching: bars and lines, hearts that beat elsewhere, progress weighed by work, and the answer on a terminal."""

import json
import os
import pty
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from ditgta import config
from ditgta.__main__ import main
from ditgta.layout import Layout, Row
from ditgta.planning.work import RATE, SuiteWork
from ditgta.runtime.files import write_json
from ditgta.runtime.lease import LEASE_NAME, Lease
from ditgta.runtime.progress import Progress
from ditgta.watch.answer import answer, page_of
from ditgta.watch.lines import Watch, lines
from ditgta.watch.lines import words as how_far
from tests.stages.test_status import RAW, write_losses, write_milestone

AT = {"done": 150, "total": 300, "unit": "steps", "images_per_second": 50.0, "seconds_left": 30, "loss": 0.25}


@pytest.fixture
def layout(tmp_path, monkeypatch) -> Layout:
    monkeypatch.chdir(tmp_path)
    Path("results").mkdir()
    Path("config.yaml").write_text(json.dumps(RAW))
    return Layout(config.load(RAW))


def at_work(layout: Layout, experiment: str, **holder) -> Path:
    """Writes the lease of a training that is at work."""
    run = write_losses(layout, experiment, "")
    write_json(run / LEASE_NAME, {**Lease(run / LEASE_NAME).content(), "reached": AT, **holder})
    return run / LEASE_NAME


def finish(layout: Layout, suite: str) -> None:
    """Makes every file of a suite."""
    for noun in ("images", "autoencoder", "latents", "samples", "scorer", "scores", "table"):
        for file in map(Path, layout.files(noun, suite)):
            write_json(file, {"metrics": {"fid": {"value": 1.0}}} if noun == "scores" else {})
    for row in layout.rows(suite):
        write_milestone(layout, row.experiment, row.step)
    for file in ("autoencoder/*/diffusion_pytorch_model.safetensors", "scorer/*/scorer.safetensors"):
        folder = next(Path("results").glob(str(Path(file).parent)))
        (folder / Path(file).name).touch()


def test_a_lease_says_how_far_its_holder_is(tmp_path):
    lease = Lease(tmp_path / LEASE_NAME)
    assert lease.content()["reached"] is None
    with Progress("train", 100, 20, "steps", images_per_unit=4) as progress:
        progress.advance(30, loss=0.5, shown=lambda: 1.0)
        reached = lease.content()["reached"]
        with Progress("train", 7, silent=True):
            assert lease.content()["reached"]["total"] == 100
    assert (reached["done"], reached["total"], reached["unit"], reached["loss"]) == (50, 100, "steps", 0.5)
    assert reached["images_per_second"] > 0 and reached["seconds_left"] >= 0 and "shown" not in reached
    assert lease.content()["reached"] is None


def test_a_line_for_each_job_and_one_for_the_whole(layout):
    at_work(layout, "gta")
    write_json(
        Path(layout.samples("pets", Row("rope", 0, 100))).with_name(".0000100.lease"),
        Lease(Path("x")).content(),
    )
    said = lines(Watch(layout, "pets").look())
    assert said[:2] == [
        "train gta (seed 0): 150/300 steps, loss 0.25, 50.0 images/s, 30s left",
        "sample rope (seed 0) at step 100: starting",
    ]
    assert re.fullmatch(r"suite pets: \d+ % of the predicted work is done.*", said[2]) and len(said) == 3
    assert lines(Watch(layout, "pets").look(), whole=False) == said[:2]


def test_many_jobs_of_a_stage_are_one_line(tmp_path, monkeypatch):
    raw = {**RAW, "suites": {"pets": {**RAW["suites"]["pets"], "seeds": [0, 1, 2]}}}
    monkeypatch.chdir(tmp_path)
    layout = Layout(config.load(raw))
    for seed in (0, 1, 2):
        for name in ("gta", "rope"):
            run = Path(layout.run(name, seed))
            holder = {**Lease(run).content(), "reached": {**AT, "seconds_left": 100 * seed}}
            write_json(run / LEASE_NAME, holder)
    said = lines(Watch(layout, "pets").look(), whole=False)
    assert len(said) == 4 and said[3] == "train: 3 more running, the last for 3m20s"


def test_garbage_in_a_lease_is_survived(layout):
    for reached in (None, 3, {}, {"done": "x", "total": None}, {"images_per_second": True, "total": 0}):
        at_work_of = layout.run("gta", 0)
        Path(at_work_of).mkdir(parents=True, exist_ok=True)
        write_json(Path(at_work_of, LEASE_NAME), {**Lease(Path("x")).content(), "reached": reached})
        assert lines(Watch(layout, "pets").look())


def test_a_job_elsewhere_is_told_by_two_looks(layout, monkeypatch):
    lease = at_work(layout, "gta", host="node7", boot="other", beat=1)
    content = json.loads(lease.read_text())
    watch = Watch(layout, "pets")

    def state() -> str:
        return next(job["state"] for row in watch.look()["rows"] for job in row["jobs"])

    assert state() == "unknown"
    write_json(lease, {**content, "beat": 2})
    assert state() == "alive"
    monkeypatch.setattr("ditgta.watch.lines.DEAD_AFTER_SECONDS", 0.0)
    time.sleep(0.01)
    assert state() == "dead"


def test_nothing_done_is_0_percent_and_all_is_100(layout):
    watch = Watch(layout, "pets")
    assert watch.look()["progress"]["share"] == 0.0
    finish(layout, "pets")
    found = watch.look()
    assert found["progress"]["share"] == pytest.approx(1)
    assert lines(found) == ["suite pets: 100 % of the predicted work is done"]


def test_the_last_scores_are_the_held_out_loss_and_fid(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    pets = {"images": {"source": "pets", "size": 32, "hold_out": 0.2}, "training": {"batch_size": 10}}
    raw = {**RAW, "experiments": {**RAW["experiments"], "pets": pets}}
    Path("config.yaml").write_text(json.dumps(raw))
    layout, row = Layout(config.load(raw)), Row("gta", 0, 100)
    write_json(layout.losses("pets", row), {"metrics": {"loss": {"value": 1.25, "se": 0.5}}})
    before = Watch(layout, "pets").look()["progress"]["share"]
    assert main(["status"]) == 0 and "  100 loss 1.25 ± 0.5  " in capsys.readouterr().out
    write_json(layout.scores("pets", row), {"metrics": {"kid": {"value": 3.0}, "fid": {"value": 2.0}}})
    assert Watch(layout, "pets").look()["progress"]["share"] > before > 0
    assert main(["status"]) == 0 and "  100 loss 1.25 ± 0.5, FID 2  " in capsys.readouterr().out


def test_progress_is_weighed_by_work_and_not_by_jobs():
    """The default suite: three jobs of 79 prepare everything, and are a small part of the work."""
    loaded = config.load(config.read())
    work = SuiteWork(loaded, "digits", 5752)
    stages = [work.stage(name).at(RATE) for name in ("images", "autoencoder", "latents")]
    rows = [
        work.train(name).at(RATE) + 2 * (work.sample(name).at(RATE) + work.loss(name).at(RATE))
        for name in loaded.suites["digits"].experiments
    ]
    assert sum(stages) < 0.05 * 3 * sum(rows)


@pytest.mark.parametrize("suite", ["digits", "digits-aligned", "paper"])
def test_work_is_what_the_plan_counts(suite):
    """Within a factor of two, where the plan counts operations."""
    from ditgta.planning import work as module
    from ditgta.planning.estimate import plan

    loaded = config.load(config.read())
    count = 1_281_167 if suite == "paper" else 1797
    counted = {stage.stage: stage.flops for stage in plan(loaded, suite, (count, 10))[0]}
    options = loaded.suites[suite]
    images = loaded.experiments[options.experiments[0]].images
    count = round(count * (1 - images.hold_out)) * (images.placement.copies if images.placement else 1)
    work, rows = SuiteWork(loaded, suite, count), len(options.experiments) * len(options.seeds)
    narrow = {"autoencoder": module.NARROW, "latents": module.NARROW, "scorer": module.NARROW}
    if suite == "paper":
        narrow = {}
    for stage in ("autoencoder", "latents", "scorer"):
        mine = work.stage(stage).flops / narrow.get(stage, 1)
        assert mine == pytest.approx(counted[stage], rel=0.5), stage
    first = options.experiments[0]
    assert work.train(first).flops * rows == pytest.approx(counted["train"], rel=0.1)
    decoding = 0.5 if suite == "digits-aligned" else 0.1
    sampled = work.sample(first).flops * rows * len(options.milestones)
    assert sampled == pytest.approx(counted["sample"], rel=decoding)


def test_piped_it_is_plain_text_once(layout, capsys):
    at_work(layout, "gta")
    assert main(["status", "--watch"]) == 0
    said = capsys.readouterr().out
    assert "\x1b" not in said and "[#" not in said and said.count("suite pets in") == 1
    assert "150/300" in said and "% of the predicted work is done" in said


def test_on_a_terminal_it_draws_bars_until_the_table_is_there(layout):
    at_work(layout, "gta")
    master, slave = pty.openpty()
    watching = subprocess.Popen(
        [sys.executable, "-m", "ditgta", "status", "--watch"], stdout=slave, stderr=subprocess.STDOUT
    )
    os.close(slave)
    said: list[bytes] = []

    def read() -> None:
        while True:
            try:
                said.append(os.read(master, 65536))
            except OSError:
                return
            if not said[-1]:
                return

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    until = time.monotonic() + 60
    while b"[##########----------] 150/300" not in b"".join(said):
        assert time.monotonic() < until and watching.poll() is None, said
        time.sleep(0.1)
    finish(layout, "pets")
    assert watching.wait(timeout=60) == 0
    reader.join(timeout=10)
    shown = b"".join(said).decode()
    assert shown.count("\x1b[H\x1b[J") >= 2
    assert "[####################] 100 %" in shown.rpartition("\x1b[J")[2]


def test_the_answer_is_headline_and_rows_that_fit(tmp_path):
    table = tmp_path / "table.md"
    table.write_text(
        "# pets\n\nLoss after 1K steps: gta\\_a 1.0 ± 0.1: **better**.  \n\n- Samples: 3\n\n"
        "| Steps | Row | FID ↓ | KID ↓ |\n| :-- | :-- | --: | --: |\n"
        "| 1K | gta\\_a \\| b | **1.5** ± 0.1 | 7 <sup>a</sup> |\n|  | real against real | 0.1 | — |\n\n"
        "## Differences\n\n| Difference | Steps |\n| :-- | :-- |\n| a − b | 1K |\n"
    )
    said = answer(table, 100)
    assert said[:2] == ["Loss after 1K steps: gta_a 1.0 ± 0.1: better.", ""]
    assert [re.split("  +", line) for line in said[2:4]] == [
        ["Steps", "Row", "FID ↓", "KID ↓"],
        ["1K", "gta_a | b", "1.5 ± 0.1", "7"],
    ]
    assert len(said) == 5 and "real against real" in said[4]
    narrow = answer(table, 40)
    assert narrow[-1] == "(1 more columns on the page)" and all(len(line) <= 46 for line in narrow)
    assert page_of(table) == f"file://{tmp_path}/table.html"


def test_a_table_without_rows_is_its_sentences(tmp_path):
    table = tmp_path / "table.md"
    table.write_text("# pets\n\nNothing to compare.\n")
    assert answer(table, 80) == ["Nothing to compare."]


@pytest.mark.parametrize("value", [float("inf"), float("nan"), True, "soon", None])
def test_a_lease_of_nonsense_leaves_its_line_standing(value):
    holder = {"reached": {"done": 1, "total": 2, "unit": "steps", "seconds_left": value, "loss": value}}
    assert how_far({"holder": holder}) == "1/2 steps"


def test_work_counts_passes_and_held_out_images_as_plans_do():
    def work(**sampling):
        raw = config.read() | {"suite": "digits"}
        raw["suites"]["digits"]["sampling"] |= sampling
        return SuiteWork(config.load(raw), "digits", 5752)

    whole, half = (work(cfg_interval=interval).sample("gta").flops for interval in (None, [0, 0.5]))
    assert half == pytest.approx(0.75 * whole, rel=0.01)
    loaded = work()
    images = loaded.loss("gta").flops / (2 * 20 * loaded.forward("gta"))
    assert images == round(0.25 * 5752 / 4), "a fifth of the digits, each at one place"
