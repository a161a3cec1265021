"""Status: how far a suite is, read from the results folder while jobs write to it.

Guarantees: it writes nothing and needs no torch; files that appear, vanish or are cut off meanwhile are left out, and what cannot be
read is named in one line. Results of other options lie elsewhere: a training of other options has not begun.
"""

import json
import re
import time
from collections.abc import Iterable
from pathlib import Path

from ditgta.config import Config
from ditgta.data.shard_plan import plan_shards
from ditgta.layout import Layout, Row, old_results, record_of
from ditgta.runtime.addresses import readable
from ditgta.runtime.errors import InputError
from ditgta.runtime.files import read_json
from ditgta.runtime.lease import DEAD_AFTER_SECONDS, LEASE_NAME, is_running
from ditgta.runtime.progress import duration

_TAIL_BYTES = 4096
HEAVY = {  # files without which a stage is not done, though its record is there
    "autoencoder": ("diffusion_pytorch_model.safetensors",),
    "scorer": ("scorer.safetensors",),
}
_SHOWN_SCORES = {"fid": "FID", "kid": "KID"}  # the second where there is no first


def run(config: Config, suite: str, results: Path, wait: float, as_json: bool) -> None:
    """Prints where the stages and rows of a suite stand, as text or as JSON.

    Args:
        results: folder of the results.
        wait: seconds for which the heartbeat of a job on another machine is watched.

    Raises:
        InputError: an unknown suite, or no such folder.
    """
    if suite not in config.suites:
        raise InputError(f"suite {suite} is not in the configuration; known: {', '.join(config.suites)}")
    if not results.is_dir():
        raise InputError(
            f"the results folder {results} does not exist (seen from {Path.cwd()}); start snakemake, or give --results DIR"
        )
    found = Reader(Layout(config, str(results))).suite(suite, wait)
    print(json.dumps(found, indent=1) if as_json else text(found))


class Reader:
    """Reads results that other processes are writing; `faults` names what cannot be read."""

    def __init__(self, layout: Layout):
        self.layout, self.config = layout, layout.config
        self.faults: list[str] = []
        self.jobs: list[dict] = []

    def suite(self, name: str, wait: float) -> dict:
        """Returns {suite, results, stages, rows, faults} in plain values."""
        groups: dict[tuple[str, int], list[Row]] = {}
        for row in self.layout.rows(name):
            groups.setdefault((row.experiment, row.seed), []).append(row)
        rows = [self.row(name, group) for group in groups.values()]
        self.faults += [line for line in [old_results(self.layout.root)] if line]
        stages = [
            self.stage(stage, Path(file))
            for stage in ("images", "autoencoder", "latents", "scorer", "table")
            for file in self.layout.files(stage, name)
        ]
        self._judge(wait)
        return {
            "suite": name,
            "results": self.layout.root,
            "stages": stages,
            "rows": rows,
            "faults": self.faults,
        }

    def stage(self, stage: str, file: Path) -> dict:
        """Returns {stage, name, done, shards, jobs}: shards [done, of how many] of latents, while they are made."""
        folder = file.parent
        jobs = self.leases(stage, [*folder.parent.glob(f".{folder.name}*.lease"), *folder.glob(".*.lease")])
        found = {
            "stage": stage,
            "name": readable(folder.name),
            "path": str(file),
            "done": file.is_file() and all((folder / name).is_file() for name in HEAVY.get(stage, ())),
            "shards": None,
            "jobs": jobs,
        }
        if stage == "latents" and not found["done"]:
            experiment = self.layout.owners["latents"][folder.name]
            images = self.json(f"{self.layout.path('images', experiment)}/index.json")
            if count := number((images or {}).get("count")):
                found["shards"] = [shards_in(folder), len(plan_shards(int(count)))]
        return found

    def row(self, suite: str, rows: list[Row]) -> dict:
        """Returns where a training is, of its rows at all milestones; "training" is "done", "begun" or "not begun"."""
        experiment, seed, _ = rows[0]
        imported = experiment in self.layout.imported
        steps = [row.step for row in rows]
        files = {row.step: Path(self.layout.checkpoint(row)) for row in rows}
        twins = {
            step: twin
            for step, file in files.items()
            if file.is_file() and (twin := self.json(record_of(str(file))))
        }
        run = Path(self.layout.run(experiment, seed))
        jobs = self.leases("train", [run / LEASE_NAME])
        stages = ("sample", "loss", "score") if self.layout.has_losses(suite) else ("sample", "score")
        for stage in stages:
            folder = Path(self.layout.path(stage, (suite, experiment)), f"seed{seed}")
            jobs += self.leases(stage, folder.glob(".*.lease"))
        begun = bool(twins) or run.is_dir()
        last = self.last_entry(run / "metrics.jsonl")
        newest = twins[max(twins)] if twins else {}
        if (
            not last
            and isinstance(losses := newest.get("losses"), list)
            and isinstance((losses or [0])[-1], dict)
        ):
            last = losses[-1]
        step = max([int(number(last.get("step")) or 0), *twins])
        rate = number(last.get("images_per_second")) or number(newest.get("images_per_second"))
        batch_size = self.config.experiments[experiment].training.batch_size
        left = (steps[-1] - step) * batch_size
        images = self.json(f"{self.layout.path('images', experiment)}/index.json")
        count = number((images or {}).get("count"))
        return {
            "experiment": experiment,
            "seed": seed,
            "milestones": {str(one): one in twins for one in steps},
            "step": step,
            "epochs": None if imported or not count else round(step * batch_size / count, 2),
            "loss": number(last.get("loss")),
            "images_per_second": None if imported else rate,
            "seconds_left": None if imported or left <= 0 or not rate else round(left / rate),
            "training": "done" if len(twins) == len(steps) else "begun" if begun else "not begun",
            "jobs": jobs,
            "samples": {str(row.step): self.samples(suite, row) for row in rows},
            "scores": {str(row.step): self.scores(suite, row) for row in rows},
        }

    def samples(self, suite: str, row: Row) -> dict:
        """Returns {done, shards: [done, of how many]} of a row's samples."""
        folder = Path(self.layout.samples(suite, row))
        planned = len(plan_shards(self.config.suites[suite].sampling.num_samples, most=None))
        return {"done": (folder / "index.json").is_file(), "shards": [shards_in(folder), planned]}

    def scores(self, suite: str, row: Row) -> dict:
        """Returns {metric: {value, se}} of a row, {} where it is not scored."""
        metrics = (self.json(self.layout.scores(suite, row)) or {}).get("metrics")
        entries = metrics.items() if isinstance(metrics, dict) else ()
        return {
            name: {"value": number(entry.get("value")), "se": number(entry.get("se"))}
            for name, entry in entries
            if isinstance(entry, dict)
        }

    def leases(self, stage: str, paths: Iterable[Path]) -> list[dict]:
        """Returns {stage, state, lease, holder} of every lease that is held; states are judged later, all at once."""
        found = [
            {"stage": stage, "state": "unknown", "lease": str(path), "holder": holder}
            for path in sorted(paths)
            if (holder := self.json(path))
        ]
        self.jobs += found
        return found

    def json(self, path: str | Path) -> dict | None:
        """Returns a JSON object, or None where there is no such file or, noted as a fault, it cannot be read."""
        try:
            return read_json(path)
        except (InputError, OSError) as error:
            if Path(path).exists():
                self.faults.append(" ".join(str(error).split()))
        return None

    def last_entry(self, path: Path) -> dict:
        """Returns the last whole line of a file of JSON lines, {} if there is none."""
        try:
            with open(path, "rb") as file:
                file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
                lines = file.read().decode("utf-8", "replace").splitlines()
        except OSError:
            return {}
        for line in reversed(lines):
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            if isinstance(entry, dict):
                return entry
        if lines:
            self.faults.append(f"{path} holds no losses that can be read")
        return {}

    def _judge(self, wait: float) -> None:
        """Sets the states of jobs: "alive", "dead", "unknown", or "ended" while it was looked at.

        A process of this machine is looked up. Clocks of machines need not agree, so of another machine's only a
        heartbeat that moves says "alive", and one that stands still for as long as a trainer waits before it takes over "dead".
        """
        begin = time.monotonic()
        for job in self.jobs:
            job["state"] = {True: "alive", False: "dead", None: "unknown"}[is_running(job["holder"])]
        watched = [job for job in self.jobs if job["state"] == "unknown"]
        while watched and time.monotonic() - begin < wait:
            time.sleep(0.5)
            for job in list(watched):
                holder = self.json(job["lease"])
                if holder != job["holder"]:
                    job["state"] = "alive" if holder else "ended"
                    watched.remove(job)
        for job in watched if wait >= DEAD_AFTER_SECONDS else ():
            job["state"] = "dead"


def number(value: object) -> float | None:
    """Returns a finite number as it is, None for anything else."""
    ok = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < float("inf")
    return value if ok else None


def shards_in(folder: Path) -> int:
    """Returns how many shards of a folder have a twin, which says that they are whole."""
    try:
        return sum(1 for path in folder.iterdir() if re.fullmatch(r"\d{5}\.json", path.name))
    except OSError:
        return 0


def text(found: dict) -> str:
    """Returns the status as one screen of text."""
    words = []
    for stage in found["stages"]:
        several = sum(other["stage"] == stage["stage"] for other in found["stages"]) > 1
        name = f"{stage['stage']} {stage['name']}" if several else stage["stage"]
        words.append(" ".join([f"{name} {_progress(stage)}", *(f"({_job(job)})" for job in stage["jobs"])]))
    lines = [f"suite {found['suite']} in {found['results']}: {', '.join(words)}", ""]
    table = [
        ["row", "seed", "reached", "step", "epochs", "loss", "images/s", "left", "samples", "score", "job"]
    ]
    table += [_cells(row) for row in found["rows"]]
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    lines += ["  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in table]
    lines += _verdict(found["rows"])
    lines += [
        f"table: {stage['path']}" for stage in found["stages"] if stage["stage"] == "table" and stage["done"]
    ]
    return "\n".join([*lines, *(f"warning: {fault}" for fault in found["faults"])])


def _verdict(rows: list[dict]) -> list[str]:
    """Returns what the scores shown may be taken for; nothing where there are none."""
    if not any(scores for row in rows for scores in row["scores"].values()):
        return []
    if len({row["seed"] for row in rows}) == 1:
        return ["one training seed: scores without a verdict; several earn one, such as seeds: [0, 1, 2]"]
    return ["the verdicts on these scores are in table.html, once all are there"]


def _cells(row: dict) -> list[str]:
    """Returns a row's cells; samples are those of the newest milestone that has any, the score is the last one."""
    steps = list(row["milestones"])
    reached = [step for step in steps if row["milestones"][step]]
    sampled = [step for step in steps if row["samples"][step]["done"] or row["samples"][step]["shards"][0]]
    scored = [step for step in steps if row["scores"][step]]
    return [
        row["experiment"],
        str(row["seed"]),
        reached[-1] if reached else "-",
        f"{row['step']}/{steps[-1]}",
        "-" if row["epochs"] is None else f"{row['epochs']:.3g}",
        "-" if row["loss"] is None else f"{row['loss']:.4g}",
        "-" if row["images_per_second"] is None else f"{row['images_per_second']:.1f}",
        "-" if row["seconds_left"] is None else duration(row["seconds_left"]),
        f"{sampled[-1]} {_progress(row['samples'][sampled[-1]])}" if sampled else "-",
        f"{scored[-1]} {_score(row['scores'][scored[-1]])}" if scored else "-",
        "; ".join(f"{job['stage']} {_job(job)}" for job in row["jobs"])
        or {"begun": "none at work"}.get(row["training"], row["training"]),
    ]


def _progress(part: dict) -> str:
    if part["done"] or not part["shards"]:
        return "done" if part["done"] else "not done"
    return "{}/{} shards".format(*part["shards"])


def _score(metrics: dict) -> str:
    for key, name in _SHOWN_SCORES.items():
        value, se = (metrics.get(key, {}).get(part) for part in ("value", "se"))
        if value is not None:
            return f"{name} {value:.4g}" + ("" if se is None else f" ± {se:.2g}")
    return "without FID and KID"


def _job(job: dict) -> str:
    holder = job["holder"]
    name = f", job {holder['job']}" if holder.get("job") else ""
    return f"{job['state']}: process {holder.get('pid')} on {holder.get('host')}{name}"
