"""Progress says how far a stage is, in plain lines."""

from ditgta.runtime import progress as module
from ditgta.runtime.files import provenance
from ditgta.runtime.progress import Progress, duration


def test_durations():
    assert [duration(s) for s in (0, 59.9, 60, 3599, 3600, 90000)] == [
        "0s",
        "59s",
        "1m00s",
        "59m59s",
        "1h00m",
        "1d01h",
    ]


def test_lines_name_step_loss_rate_and_time_left(capfd, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "work_begins", lambda: None)
    clock = iter(range(0, 10_000, 20))
    monkeypatch.setattr(module.time, "monotonic", lambda: next(clock))
    with Progress("train", 100, 40, "steps", 64, log=tmp_path / "train.log") as progress:
        for _ in range(3):
            progress.advance(10, loss=0.5)
    lines = capfd.readouterr().err.splitlines()
    assert lines[0] == "train: 40/100 steps, starting"
    assert lines[1].startswith("train: 60/100 steps, loss 0.5, ") and lines[1].endswith("left")
    assert "images/s" in lines[1]
    kept = (tmp_path / "train.log").read_text().splitlines()
    assert [line.split(" ", 2)[2] for line in kept] == lines


def test_silent_says_nothing(capfd):
    with Progress("train", 2, silent=True) as progress:
        progress.advance(2)
    assert capfd.readouterr().err == ""


def test_results_say_when_the_first_loop_of_their_process_began():
    with Progress("train", 1, silent=True):
        first = provenance()
    with Progress("train", 1, silent=True):
        second = provenance()
    assert 0 < first["startup_seconds"] == second["startup_seconds"] <= first["seconds"] <= second["seconds"]
