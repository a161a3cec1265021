"""The script that measures a GPU: every row runs, at a tiny size, here; none takes the others with it; demands are as they should be."""

import json
import os
import subprocess
import sys
import time

import pytest

from benchmarks import gpu
from benchmarks.gpu_lines import Note, Report
from benchmarks.rows import COLUMNS
from tests.conftest import ROOT

MACHINE = {"device": "none", "torch": "0"}


@pytest.fixture
def here(monkeypatch):
    """Returns a function that measures a row in this process at a tiny size."""
    import torch

    from benchmarks import gpu_rows
    from ditgta import kernels

    monkeypatch.setattr(kernels, "fixed_shapes", kernels.fixed_shapes)  # so that it is set back
    threads = torch.get_num_threads()
    gpu.compute_cheaply()

    def measure(entry, limit):
        yield from gpu.measured(entry, gpu_rows.Sizes(tiny=True))
        gpu_rows.tidy()

    yield measure
    torch.set_num_threads(threads)


def named(*names):
    return [entry for entry in gpu.ROWS if entry.name in names]


def written(path):
    """Returns the lines of a table and the records of its figures, the first of which are its cells."""
    head, empty, columns, rule, *lines = path.read_text().splitlines()
    assert head and not empty and columns == "| " + " | ".join(COLUMNS) + " |" and rule.startswith("|---")
    cells = [[cell.strip() for cell in line[1:-1].split(" | ")] for line in lines]
    assert all(line[0] == line[-1] == "|" for line in lines)
    assert all(len(row) == len(COLUMNS) for row in cells), cells
    return cells, json.loads(path.with_suffix(".json").read_text())["rows"]


def test_every_row_runs(here, tmp_path):
    report = Report(tmp_path / "gpu.md", MACHINE)
    gpu.run(gpu.ROWS, 10_000, report, here)
    cells, records = written(tmp_path / "gpu.md")
    assert [record.get("error") for record in records if "error" in record] == []
    assert not any("skipped" in record for record in records)
    assert [*dict.fromkeys(record["row"] for record in records)] == [entry.name for entry in gpu.ROWS]
    assert len(cells) == len(records) > 60 and report.faults == 0
    assert all(record["what"] == row[0] for record, row in zip(records, cells))
    # What is right on a GPU is right here; what is demanded of its speed is not.
    checked = {record["row"] for record in records if record.get("verdict")}
    assert checked == {"golden", "agreement", "agreement-compiled", "bits", "bits-compiled", "inception"}


def breaks(sizes):
    yield Note("first", "measured")
    raise ZeroDivisionError("a | b\nand more")


def test_a_row_that_fails_leaves_the_others(here, tmp_path):
    report = Report(tmp_path / "gpu.md", MACHINE)
    broken = gpu.Entry("breaks", 1, __name__, "breaks")
    absent = gpu.Entry("absent", 1, "benchmarks.no_such_module", "rows")
    gpu.run([broken, absent, *named("noise")], 1000, report, here)
    cells, records = written(tmp_path / "gpu.md")
    assert cells[1][1] == "error: ZeroDivisionError: a / b and more"
    assert records[2]["error"].startswith("ModuleNotFoundError")
    assert records[0]["note"] == "measured" and records[3]["row"] == "noise" and "ms" in records[3]
    assert report.faults == 2


def test_rows_are_skipped_where_time_is_short(tmp_path):
    report = Report(tmp_path / "gpu.md", MACHINE)

    def measure(entry, limit):
        assert limit <= 30
        yield Note(entry.name, "measured")

    gpu.run(gpu.ROWS, 6.5, report, measure)
    _, records = written(tmp_path / "gpu.md")
    for entry, record in zip(gpu.ROWS, records, strict=True):
        if entry.seconds <= 6:
            assert record["note"] == "measured"
        else:
            assert record["skipped"] == f"6 s left, {entry.seconds} s needed"
    assert report.faults == 0


def test_numbers_that_json_has_not_are_left_out(tmp_path):
    report = Report(tmp_path / "gpu.md", MACHINE)
    report.add("x", Note("x", "y", figures={"ms": float("nan"), "all": [1.0, float("inf")]}))
    _, records = written(tmp_path / "gpu.md")
    assert records[0]["ms"] is None and records[0]["all"] == [1.0, None]


def serve(pipe, tiny):
    """Stands for the process that measures: dies, hangs, breaks or answers as it is asked."""
    pipe.send(MACHINE)
    while True:
        name = pipe.recv().name
        pipe.send(Note(name, f"begun in {os.getpid()}"))
        if name == "dies":
            os._exit(1)
        if name == "hangs":
            time.sleep(60)
        pipe.send(gpu.BROKEN if name == "breaks" else gpu.DONE)
        if name == "breaks":
            return


def test_a_row_that_dies_or_hangs_leaves_the_others():
    apart = gpu.Apart(tiny=True, serve=serve)
    assert apart.machine == MACHINE
    lines = {}
    for name in ("first", "dies", "second", "hangs", "third", "breaks", "fourth", "fifth"):
        limit = 1.0 if name == "hangs" else 60.0
        lines[name] = list(apart(gpu.Entry(name, 1, "", ""), limit))
    apart.stop(wait=5)
    assert lines["dies"][1].text == "its process ended: killed" and lines["dies"][1].kind == "error"
    assert lines["hangs"][1].text == "not done after 1 s" and lines["hangs"][1].kind == "error"
    answers = [lines[name] for name in ("first", "second", "third", "breaks", "fourth", "fifth")]
    assert all(len(answer) == 1 and answer[0].kind == "note" for answer in answers)
    processes = [answer[0].text for answer in answers]
    assert processes[2] == processes[3] and processes[4] == processes[5] and len(set(processes)) == 4


def test_the_command(tmp_path):
    out = tmp_path / "new" / "gpu.md"
    words = [sys.executable, "-m", "benchmarks.gpu", "--tiny", "--only", "noise", "--out", str(out)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    cells, records = written(out)
    assert [record["row"] for record in records] == ["noise", "noise"]
    assert done.stdout.startswith("CPU") and cells[0][0] in done.stdout
    assert done.stdout.rstrip().endswith("0 missed or failed")


def test_the_command_says_what_it_knows(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert gpu.main(["--list"]) == 0
    listed = capsys.readouterr().out
    assert all(entry.name in listed for entry in gpu.ROWS)
    assert sum(entry.seconds for entry in gpu.ROWS) < 440 and listed.endswith(" s  in all\n")
    with pytest.raises(SystemExit) as exit:
        gpu.main(["--only", "noise,speed"])
    assert exit.value.code == 2 and "no row speed; known: golden" in capsys.readouterr().err
    monkeypatch.setattr(gpu, "Apart", WithoutGpu)
    assert gpu.main([]) == 2
    assert capsys.readouterr().err == "there is no GPU; --tiny shows that the rows run on a CPU\n"


class WithoutGpu:
    """Stands for the process that measures on a machine without a GPU."""

    def __init__(self, tiny):
        self.machine = {"device": "CPU, 2 threads"}

    def stop(self):
        pass


@pytest.fixture
def named_gpu(monkeypatch):
    """Returns a function that gives this machine a GPU of a name, as far as rows ask."""
    import torch

    from benchmarks import gpu_rows

    def give(name):
        monkeypatch.setattr(gpu_rows, "CUDA", True)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda: name)
        return gpu_rows

    return give


@pytest.mark.parametrize(
    "name, known",
    [
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA H200", "h200"),
        ("NVIDIA A100-SXM4-80GB", "a100"),
        ("NVIDIA A100-PCIE-40GB", "a100"),
        ("NVIDIA GeForce RTX 4090", "rtx4090"),
        ("Tesla V100-SXM2-32GB", "v100"),
        ("NVIDIA H100 PCIe", None),
        ("NVIDIA H100 NVL", None),
        ("NVIDIA A100-SXM4-80GB MIG 1g.10gb", None),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
        ("NVIDIA B200", None),
    ],
)
def test_a_gpu_is_known_by_its_name(named_gpu, name, known):
    assert named_gpu(name).known_gpu() == known


@pytest.mark.parametrize(
    "name, model, images, compile, demand",
    [
        ("NVIDIA H100 80GB HBM3", "DiT-B/2", 64, True, ">= 0.27"),
        ("NVIDIA H200", "DiT-XL/2", 64, True, ">= 0.33"),
        ("NVIDIA A100-SXM4-80GB", "DiT-B/2", 64, True, ">= 0.45"),
        ("NVIDIA A100-SXM4-80GB", "DiT-XL/2", 64, True, ">= 0.5"),
        ("NVIDIA H100 80GB HBM3", "DiT-B/2", 32, True, ""),
        ("NVIDIA H100 80GB HBM3", "DiT-B/2", 64, False, ""),
        ("Tesla V100-SXM2-32GB", "DiT-B/2", 64, True, ""),
    ],
)
def test_demands_are_those_of_the_gpu(named_gpu, name, model, images, compile, demand):
    gpu_rows = named_gpu(name)
    from benchmarks import gpu_training as training

    cell = training.Cell(gpu_rows.Sizes(), model, images, "bf16", compile)
    one = gpu_rows.Contestant(lambda: None, 12.0, 20 * 10**9)
    row = training.share_of_peak(cell, "gta", one, gpu_rows.Timing([0.032] * 3, 0.008)).row
    assert row.demand == demand
    assert training.share_of_peak(cell, "abs", one, gpu_rows.Timing([0.032] * 3, 0.008)).row.demand == ""
    if name.startswith("NVIDIA H100") and images == 64 and compile:
        # 64 images of 3 forward passes of 46 GFLOP in 32 ms, of 989 TFLOP/s.
        assert row.ratio == pytest.approx(0.279, abs=0.002) and row.verdict == "met"
        assert "32.0 ms (32 predicted for an H100), 2000 images/s, host 8.0 ms, first step 12 s" in row.ours
        slow = training.share_of_peak(cell, "gta", one, gpu_rows.Timing([0.034] * 3, 0.008)).row
        assert slow.verdict == "MISSED"


def test_a_known_gpu_has_its_makers_peak(named_gpu):
    gpu_rows = named_gpu("NVIDIA H200")
    assert gpu_rows.peak("bf16", gpu_rows.Sizes()) == (989e12, "989 TFLOP/s (H200, dense bf16)")
    assert gpu_rows.peak("tf32", gpu_rows.Sizes())[0] == 494e12


@pytest.fixture
def like_a_gpu(here, monkeypatch):
    """Returns a function that measures a row with all that is done on GPUs alone, and the calls of `torch.cuda` that it made."""
    import torch

    from benchmarks import gpu_checks, gpu_parts, gpu_rows

    calls = []
    for module in (gpu_checks, gpu_parts, gpu_rows):
        monkeypatch.setattr(module, "CUDA", True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA H100 80GB HBM3")
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)
    answers = {"memory_allocated": 10**9, "max_memory_allocated": 3 * 10**9, "synchronize": None}
    answers |= {"empty_cache": None, "reset_peak_memory_stats": None, "set_sync_debug_mode": None}
    for name, answer in answers.items():
        monkeypatch.setattr(
            torch.cuda, name, lambda *words, name=name, answer=answer: calls.append((name, *words)) or answer
        )
    return here, calls


@pytest.mark.slow
def test_what_is_done_on_gpus_alone(like_a_gpu, tmp_path):
    measure, calls = like_a_gpu
    report = Report(tmp_path / "gpu.md", MACHINE)
    gpu.run(named("bits", "limits", "train-B-eager", "attention"), 1000, report, measure)
    _, records = written(tmp_path / "gpu.md")
    assert [record["error"] for record in records if "error" in record] == []
    trained = [record for record in records if record["row"] == "train-B-eager" and "bytes" in record]
    assert trained and all(record["bytes"] == 2 * 10**9 for record in trained)
    assert "2.00 GB" in trained[0]["ours"] and "989 TFLOP/s (H100, dense bf16)" in trained[0]["against"]
    waits = [record for record in records if record["what"].endswith("the host waits for the GPU")]
    assert len(waits) == 3 and all(record["ours"] == "never" for record in waits)
    modes = [words for name, *words in calls if name == "set_sync_debug_mode"]
    assert modes[:2] == [["error"], ["default"]] and modes[-1] == ["default"]
    # Not every backend takes every shape: that is no fault.
    assert any("cudnn" in record["what"] and "note" in record for record in records)


def test_a_step_that_waits_is_missed(like_a_gpu, monkeypatch, tmp_path):
    from ditgta.stages.train import Trainer

    measure, calls = like_a_gpu
    step = Trainer.step

    def refused(trainer, batch, measured=False):
        modes = [words for name, *words in calls if name == "set_sync_debug_mode"]
        if modes and modes[-1] == ["error"]:
            raise RuntimeError("called a synchronizing CUDA operation")
        return step(trainer, batch, measured)

    monkeypatch.setattr(Trainer, "step", refused)
    report = Report(tmp_path / "gpu.md", MACHINE)
    gpu.run(named("bits"), 1000, report, measure)
    _, records = written(tmp_path / "gpu.md")
    waits = [record for record in records if record["what"].endswith("the host waits for the GPU")]
    assert all(record["verdict"] == "MISSED" and "synchronizing" in record["ours"] for record in waits)
    assert report.faults == len(waits) == 3


def test_trainings_that_differ_are_missed(here, monkeypatch, tmp_path):
    import torch

    monkeypatch.setattr(torch, "manual_seed", lambda seed: None)  # what batches depend on
    report = Report(tmp_path / "gpu.md", MACHINE)
    gpu.run(named("bits"), 1000, report, here)
    assert report.faults == 3


def test_the_reference_is_the_same_network():
    import torch

    from benchmarks.reference_dit import ReferenceDiT
    from ditgta import DiT
    from tests.golden.dit.recipe import fill, inputs

    ours = DiT.from_name("DiT-S/2", 64, "abs", 10, qk_norm=False, depth=2, width=48, heads=4)
    theirs = ReferenceDiT(ours.config)
    weights = fill(ours.state_dict())
    ours.load_state_dict(weights)
    theirs.load_state_dict(weights)
    x, t, _, _ = inputs("reference", 8)
    y = torch.tensor([3, 10])
    with torch.no_grad():
        expected, found = ours(x, t, y), theirs(x, t, y)
    assert torch.linalg.norm(found - expected) < 1e-6 * torch.linalg.norm(expected)
