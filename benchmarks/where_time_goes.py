"""Where the wall time of a finished suite went: `python -m benchmarks.where_time_goes [FOLDER]`.

Reads what Snakemake remembers of each job (`FOLDER/.snakemake`) and the records of the results. At every moment the running jobs share
the wall time equally, so that the shares of all stages add up to it; where none runs, it is Snakemake's own. Within a job, work is
what lies between the end of imports and loading and the writing of its record; launching, start-up and exit are the rest.
"""

import argparse
import base64
import itertools
import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

# What the user pays for: training, sampling, encoding and scoring. All other stages are the workflow's own.
PAID = (
    *("fit_autoencoder", "encode", "encode_part", "train", "sample", "sample_part"),
    *("measure_loss", "fit_scorer", "score"),
)
SNAKEMAKE = "(no job runs)"
ALLOWED = 0.15


@dataclass(frozen=True)
class Job:
    """A finished job: its rule, begin and end, and when its work began (its end, where it has no record or is not paid for)."""

    rule: str
    begin: float
    work: float
    end: float


def jobs_of(folder: Path) -> list[Job]:
    """Return the jobs that Snakemake remembers of a working directory."""
    outputs, memory = defaultdict(list), folder / ".snakemake" / "metadata"
    for path in memory.rglob("*"):
        if path.is_file():
            record = json.loads(path.read_text())
            name = "".join(part.removeprefix("@") for part in path.relative_to(memory).parts)
            output = base64.urlsafe_b64decode(name).decode()
            outputs[record["rule"], *record["log"]].append((output, record))
    return [_job(folder, rule, records) for (rule, *_), records in outputs.items()]


def _job(folder: Path, rule: str, records: list[tuple[str, dict]]) -> Job:
    begin, end = (
        min(record["starttime"] for _, record in records),
        max(record["endtime"] for _, record in records),
    )
    records = [folder / name for name, _ in records if name.endswith(".json") and (folder / name).is_file()]
    contents = [json.loads(path.read_text()) for path in records]
    work = max((c["seconds"] - c["startup_seconds"] for c in contents if "startup_seconds" in c), default=0.0)
    return Job(rule, begin, max(begin, end - work) if rule in PAID else end, end)


def heads_of(folder: Path, jobs: list[Job]) -> list[tuple[float, float]]:
    """Return begin and end of every run of Snakemake that saw one of the jobs."""
    heads = []
    for path in sorted((folder / ".snakemake" / "log").glob("*.snakemake.log")):
        begin = datetime.strptime(path.name.split(".snakemake")[0], "%Y-%m-%dT%H%M%S.%f").timestamp()
        end = path.stat().st_mtime
        if any(job.begin < end and begin < job.end for job in jobs):
            heads.append((begin, end))
    return heads


def shares(jobs: list[Job], heads: Iterable[tuple[float, float]]) -> dict[str, tuple[float, float]]:
    """Return seconds of wall time by rule, as (work, all else); those of SNAKEMAKE are those in which no job runs."""
    heads = list(heads)
    seconds: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    moments = sorted(
        {moment for job in jobs for moment in (job.begin, job.work, job.end)}
        | {m for head in heads for m in head}
    )
    for begin, end in itertools.pairwise(moments):
        running = [job for job in jobs if job.begin <= begin and end <= job.end]
        for job in running:
            seconds[job.rule][begin < job.work] += (end - begin) / len(running)
        if not running and any(first <= begin and end <= last for first, last in heads):
            seconds[SNAKEMAKE][1] += end - begin
    return {rule: (work, rest) for rule, (work, rest) in seconds.items()}


def main() -> int:
    """Prints the shares in Markdown; returns 1 where more than ALLOWED is not paid for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "folder",
        type=Path,
        nargs="?",
        default=Path(),
        help="working directory of the suite (default: this one)",
    )
    folder = parser.parse_args().folder
    jobs = jobs_of(folder)
    if not jobs:
        parser.error(f"Snakemake remembers no job in {folder.resolve()}; give the folder in which it was run")
    seconds = shares(jobs, heads_of(folder, jobs))
    total = sum(work + rest for work, rest in seconds.values())
    print(
        "| stage | jobs | minutes | of all | work | start-up and the rest |\n|---|---:|---:|---:|---:|---:|"
    )
    for rule, (work, rest) in sorted(seconds.items(), key=lambda item: -sum(item[1])):
        count = sum(job.rule == rule for job in jobs) or ""
        print(
            f"| {rule} | {count} | {(work + rest) / 60:.2f} | {(work + rest) / total:.1%} | {work / total:.1%} | {rest / total:.1%} |"
        )
    other = sum(rest for _, rest in seconds.values()) / total
    print(f"| all | {len(jobs)} | {total / 60:.2f} | 100.0% | {1 - other:.1%} | {other:.1%} |")
    print(
        f"\nnot training, sampling, encoding or scoring: {other:.1%} of the wall time"
        f" (allowed: {ALLOWED:.0%}); CPU threads of jobs are not told apart"
    )
    return int(other > ALLOWED)


if __name__ == "__main__":
    raise SystemExit(main())
