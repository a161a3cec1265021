"""How far a suite is, read from the results folder while jobs write to it.

Guarantees: it writes nothing and needs no torch; files that appear, vanish or are cut off meanwhile are left out, and what cannot be
read is named in one line. Results of other options lie elsewhere: a training of other options has not begun.
"""

import contextlib
import json
import re
import statistics
import time
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from ditgta.data.shard_plan import plan_shards
from ditgta.layout import Layout, Row, old_results, record_of
from ditgta.planning.work import RATE, SuiteWork
from ditgta.runtime.addresses import readable
from ditgta.runtime.errors import InputError
from ditgta.runtime.files import read_json
from ditgta.runtime.lease import DEAD_AFTER_SECONDS, LEASE_NAME
from ditgta.runtime.owner import is_running

_TAIL_BYTES = 4096
HEAVY = {  # files without which a stage is not done, though its record is there
    "autoencoder": ("diffusion_pytorch_model.safetensors",),
    "scorer": ("scorer.safetensors",),
}


class Reader:
    """Reads results that other processes are writing; `faults` names what cannot be read."""

    def __init__(self, layout: Layout):
        self.layout, self.config = layout, layout.config
        self.faults: list[str] = []
        self.jobs: list[dict] = []
        self._counts: dict[str, int | None] = {}

    def suite(self, name: str, wait: float) -> dict:
        """Return {suite, results, progress, stages, rows, faults} in plain values."""
        groups: dict[tuple[str, int], list[Row]] = defaultdict(list)
        for row in self.layout.rows(name):
            groups[row.experiment, row.seed].append(row)
        rows = [self.row(name, group) for group in groups.values()]
        if old := old_results(self.layout.root):
            self.faults.append(old)
        stages = []
        for stage in ("images", "autoencoder", "latents", "scorer"):
            stages += [self.stage(stage, path) for path in self.layout.files(stage, name)]
        stages.append(self.baseline(name))
        stages += [self.stage("table", path) for path in self.layout.files("table", name)]
        self._judge(wait)
        return {
            "suite": name,
            "results": self.layout.root,
            "progress": self.progress(name, stages, rows),
            "stages": stages,
            "rows": rows,
            "faults": list(dict.fromkeys(self.faults)),
        }

    def stage(self, stage: str, path: str) -> dict:
        """Return {stage, name, path, done, shards, jobs}: shards [done, of how many] of latents, while they are made."""
        file = Path(path)
        folder = file.parent
        leases = [*folder.parent.glob(f".{folder.name}*.lease"), *folder.glob(".*.lease")]
        part = self._part(stage, folder.name, file, leases)
        part["done"] &= all((folder / name).is_file() for name in HEAVY.get(stage, ()))
        making = stage == "latents" and not part["done"]
        if making and (count := self.images(self.layout.owners["latents"][folder.name])):
            part["shards"] = [shards_in(folder), len(plan_shards(count))]
        return part

    def baseline(self, suite: str) -> dict:
        """Return where the scores of real images are, as `stage` does."""
        file = Path(self.layout.baseline(suite))
        return self._part("baseline", file.stem, file, [file.with_name(f".{file.name}.lease")])

    def _part(self, stage: str, name: str, file: Path, leases: Iterable[Path]) -> dict:
        jobs = self.leases(stage, leases)
        part = {"stage": stage, "name": readable(name), "path": str(file), "done": file.is_file()}
        return part | {"shards": None, "jobs": jobs}

    def progress(self, suite: str, stages: list[dict], rows: list[dict]) -> dict:
        """Return {share, work_seconds, seconds_left}: the share of a suite's predicted work that is done, and the time of what is left.

        Work is weighed as ditgta.planning.work predicts it, at the rate that the rows' trainings reach. The time supposes as many
        jobs at once as are at work; None where none is, or before any training has shown its rate.
        """
        work = SuiteWork(self.config, suite, self.images(rows[0]["experiment"]))
        rates = []
        for row in rows:
            if row["images_per_second"]:
                rates.append(row["images_per_second"] * work.per_image(row["experiment"]))
        rate = statistics.median(rates or [RATE])
        parts = [(work.stage(stage["stage"]), share_of(stage)) for stage in stages]
        for row in rows:
            name, milestones = row["experiment"], row["milestones"]
            if name not in self.layout.imported:
                share = row["step"] / max(map(int, milestones))
                parts.append((work.train(name), 1.0 if all(milestones.values()) else share))
            for step in milestones:
                parts.append((work.sample(name), share_of(row["samples"][step])))
                parts.append((work.score(name), float(bool(row["scores"][step]))))
                if row["losses"]:
                    parts.append((work.loss(name), float(bool(row["losses"][step]))))
        for row in self.layout.rows_beside(suite):
            scored = Path(self.layout.scores(suite, row)).is_file()
            parts.append((work.sample(row.experiment), share_of(self.samples(suite, row))))
            parts.append((work.score(row.experiment), float(scored)))
        for row in self.layout.averaged_rows(suite):
            measured = Path(self.layout.losses(suite, row)).is_file()
            parts.append((work.loss(row.experiment), float(measured)))
        total = sum(part.at(rate) for part, _ in parts)
        done = sum(part.at(rate) * share for part, share in parts)
        alive = sum(job["state"] == "alive" for job in self.jobs)
        return {
            "share": done / total,
            "work_seconds": round(total),
            "seconds_left": round((total - done) / alive) if alive and rates else None,
        }

    def row(self, suite: str, rows: list[Row]) -> dict:
        """Return where a training is, of its rows at all milestones; "training" is "done", "begun" or "not begun"."""
        experiment, seed, _ = rows[0]
        steps = [row.step for row in rows]
        made, newest = [], {}
        for row in rows:
            file = self.layout.checkpoint(row)
            if Path(file).is_file() and (record := self.json(record_of(file))):
                made.append(row.step)
                newest = record
        run = Path(self.layout.run(experiment, seed))
        jobs = self.leases("train", [run / LEASE_NAME])
        has_losses = self.layout.has_losses(suite)
        for stage in ("sample", "loss", "score"):
            if stage != "loss" or has_losses:
                folder = Path(self.layout.path(stage, (suite, experiment)), f"seed{seed}")
                jobs += self.leases(stage, folder.glob(".*.lease"))
        last = self.last_entry(run / "metrics.jsonl")
        points = newest.get("losses")
        if not last and isinstance(points, list) and points:
            last = as_object(points[-1])
        at_work = [whole(reached(job).get("done")) for job in jobs if job["stage"] == "train"]
        step = max([whole(last.get("step")), *made, *at_work])
        batch_size, count = self.config.experiments[experiment].training.batch_size, self.images(experiment)
        epochs = rate = left = None
        if experiment not in self.layout.imported:
            rate = number(last.get("images_per_second")) or number(newest.get("images_per_second"))
            if count:
                epochs = round(step * batch_size / count, 2)
            if rate and steps[-1] > step:
                left = round((steps[-1] - step) * batch_size / rate)
        training = "begun" if made or run.is_dir() else "not begun"
        losses = {}
        if has_losses:
            losses = {str(row.step): self.metrics(self.layout.losses(suite, row)) for row in rows}
        return {
            "experiment": experiment,
            "seed": seed,
            "milestones": {str(one): one in made for one in steps},
            "step": step,
            "epochs": epochs,
            "loss": number(last.get("loss")),
            "images_per_second": rate,
            "seconds_left": left,
            "training": "done" if len(made) == len(steps) else training,
            "jobs": jobs,
            "samples": {str(row.step): self.samples(suite, row) for row in rows},
            "losses": losses,
            "scores": {str(row.step): self.metrics(self.layout.scores(suite, row)) for row in rows},
        }

    def images(self, experiment: str) -> int | None:
        """Return the number of an experiment's images, None before they are counted; experiments share lists, each read once."""
        folder = self.layout.images(experiment)
        if folder not in self._counts:
            self._counts[folder] = whole(self.json(f"{folder}/index.json").get("count")) or None
        return self._counts[folder]

    def samples(self, suite: str, row: Row) -> dict:
        """Return {done, shards: [done, of how many]} of a row's samples."""
        folder = Path(self.layout.samples(suite, row))
        planned = len(plan_shards(self.config.suites[suite].sampling.num_samples, most=None))
        return {"done": (folder / "index.json").is_file(), "shards": [shards_in(folder), planned]}

    def metrics(self, path: str) -> dict:
        """Return {metric: {value, se}} of a row's scores or held-out losses, {} where there are none."""
        metrics = {}
        for name, entry in as_object(self.json(path).get("metrics")).items():
            if isinstance(entry, dict):
                metrics[name] = {"value": number(entry.get("value")), "se": number(entry.get("se"))}
        return metrics

    def leases(self, stage: str, paths: Iterable[Path]) -> list[dict]:
        """Return {stage, state, lease, holder} of every lease that is held; states are judged later, all at once."""
        jobs = []
        for path in sorted(paths):
            if holder := self.json(path):
                jobs.append({"stage": stage, "state": "unknown", "lease": str(path), "holder": holder})
        self.jobs += jobs
        return jobs

    def json(self, path: str | Path) -> dict:
        """Return a JSON object, {} where there is no such file or, noted as a fault, it cannot be read."""
        try:
            return read_json(path)
        except (InputError, OSError) as error:
            if Path(path).exists():
                self.faults.append(" ".join(str(error).split()))
        return {}

    def last_entry(self, path: Path) -> dict:
        """Return the last whole line of a file of JSON lines, {} if there is none."""
        try:
            with open(path, "rb") as file:
                file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
                lines = file.read().decode("utf-8", "replace").splitlines()
        except OSError:
            return {}
        for line in reversed(lines):
            with contextlib.suppress(ValueError):
                if isinstance(entry := json.loads(line), dict):
                    return entry
        if lines:
            self.faults.append(f"{path} holds no readable losses")
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
        if wait >= DEAD_AFTER_SECONDS:
            for job in watched:
                job["state"] = "dead"


def share_of(part: dict) -> float:
    """Return how much of a stage, or of a row's samples, is done, 0..1."""
    if part["done"]:
        return 1.0
    if part["shards"]:
        return min(1.0, part["shards"][0] / max(part["shards"][1], 1))
    shares = [0.0]
    for job in part.get("jobs", ()):
        at = reached(job)
        if job["state"] == "alive" and (total := number(at.get("total"))):
            shares.append((number(at.get("done")) or 0.0) / total)
    return min(1.0, max(shares))


def reached(job: dict) -> dict:
    """Return how far a job is, as its lease says; {} where it does not."""
    return as_object(job["holder"].get("reached"))


def as_object(value: object) -> dict:
    """Return a JSON object as it is, {} for anything else."""
    return value if isinstance(value, dict) else {}


def number(value: object) -> float | None:
    """Return a finite number as it is, None for anything else."""
    ok = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < float("inf")
    return value if ok else None


def whole(value: object) -> int:
    """Return a finite number without its fraction, 0 for anything else."""
    return int(number(value) or 0)


def shards_in(folder: Path) -> int:
    """Return how many shards of a folder have a record, which says that they are whole."""
    try:
        return sum(1 for path in folder.iterdir() if re.fullmatch(r"\d{5}\.json", path.name))
    except OSError:
        return 0
