"""What the workflow costs around the work: help, plans, and each stage from its start until its work begins.

    python -m benchmarks.workflow_cost [--rounds N]

A stage's start-up is the wall time from the start of its process until it says that it is starting; the table, which has no loop,
is timed as a whole. Every stage runs for real, on the digits, with options that make its work short.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from benchmarks.rows import Row, by_turns

ROOT = Path(__file__).parents[1]
HELP_SECONDS, STARTUP_SECONDS, DRY_RUN_SECONDS = 0.5, 4.0, 6.0
# Each stage takes what the ones before it have written.
STAGES = {
    "images": "images --source digits --size 32 --out images",
    "autoencoder": "autoencoder --images images --out autoencoder --widths 8 8 8 --steps 2",
    "latents": "latents --images images --autoencoder autoencoder --out latents",
    "train": "train --latents latents --out train --milestones 1 --model DiT-Ti/1 --depth 1 --batch-size 4",
    "sample": "sample --checkpoint train/0000001.safetensors --autoencoder autoencoder --out sample --num-samples 300 --steps 1",
    "scorer": "scorer --images images --out scorer.safetensors --epochs 1 --batch-size 8",
    "score": "score images sample --weights scorer.safetensors --out score.json",
    "table": "table --scores score.json --out table",
}


def ditgta(*words: str) -> list[str]:
    """Return the command that runs a stage."""
    return [sys.executable, "-m", "ditgta", *words]


def startups(folder: Path) -> dict[str, float]:
    """Runs all stages in a folder; returns the seconds until the work of each began."""
    seconds = {}
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    for stage, words in STAGES.items():
        begin, lines = time.perf_counter(), []
        with subprocess.Popen(
            ditgta(*words.split()),
            cwd=folder,
            env=environment,
            text=True,
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
        ) as process:
            for line in process.stderr:
                lines.append(line)
                if stage not in seconds and line.rstrip().endswith("starting"):
                    seconds[stage] = time.perf_counter() - begin
        if process.returncode:
            raise RuntimeError(f"{words} failed: {''.join(lines[-5:])}")
        seconds.setdefault(stage, time.perf_counter() - begin)
    return seconds


def short_commands(folder: Path) -> dict[str, list[str]]:
    """Return the commands that are timed as a whole, by what they are."""
    plan = [
        sys.executable,
        "-m",
        "snakemake",
        "--snakefile",
        str(ROOT / "Snakefile"),
        "--directory",
        str(folder),
    ]
    return {
        "an interpreter that does nothing": [sys.executable, "-c", "pass"],
        "python -m ditgta --help": ditgta("--help"),
        "snakemake -n paper_table": [*plan, "--cores", "2", "-n", "paper_table"],
    }


def measure(rounds: int) -> dict[str, float]:
    """Return the median seconds of the short commands and of each stage's start-up."""
    stages: dict[str, list[float]] = {stage: [] for stage in STAGES}
    with tempfile.TemporaryDirectory() as name:
        commands = short_commands(Path(name))
        calls = {
            what: lambda words=words: subprocess.run(words, check=True, capture_output=True, cwd=ROOT)
            for what, words in commands.items()
        }
        short = by_turns(calls, rounds)
        for number in range(rounds):
            folder = Path(name) / str(number)
            folder.mkdir()
            for stage, seconds in startups(folder).items():
                stages[stage].append(seconds)
    return {what: statistics.median(times) for what, times in {**short, **stages}.items()}


def rows(quick: bool) -> Iterable[Row]:
    """Yield a row for each command and each stage, against the seconds that it may take."""
    timings = measure(1 if quick else 3)
    timings.pop("an interpreter that does nothing")
    for what, seconds in timings.items():
        allowed = STARTUP_SECONDS
        if what in STAGES:
            what = f"{'stage table, all of it' if what == 'table' else f'start-up of stage {what}'}"
        else:
            allowed = HELP_SECONDS if "help" in what else DRY_RUN_SECONDS
        yield Row(what, f"{seconds:.2f} s", f"{allowed:g} s allowed", seconds / allowed, "<= 1")


def main() -> None:
    """Prints the median seconds of everything."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    for what, seconds in measure(parser.parse_args().rounds).items():
        print(f"{what:<36}{seconds:6.2f} s")


if __name__ == "__main__":
    main()
