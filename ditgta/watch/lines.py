"""The status of a suite looked at again and again, and lines that say who is at work on what.

Guarantees: as `status`, it writes no file and needs no torch. The pace of the whole is that of the work seen to be done meanwhile.
"""

import re
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from ditgta.layout import Layout
from ditgta.runtime.lease import DEAD_AFTER_SECONDS
from ditgta.runtime.progress import duration
from ditgta.watch.reader import Reader, number, reached
from ditgta.watch.text import total

PACE_SHARE = 0.05  # of the work, after which the pace seen is trusted
_SHOWN = {
    "loss": "loss {:.4g}".format,
    "mse": "mse {:.4g}".format,
    "images_per_second": "{:.1f} images/s".format,
    "seconds_left": lambda left: f"{duration(left)} left",
}
SHOWN_JOBS = 3  # of a stage, each in a line of its own; more are one line together


class Watch:
    """Looks at one suite again and again; what one look cannot tell, two can: hearts that beat elsewhere, and the pace."""

    def __init__(self, layout: Layout, suite: str):
        self.layout, self.suite = layout, suite
        self.begin, self.first, self.work = time.monotonic(), 0.0, 0.0
        self.beats: dict[str, tuple[object, float]] = {}  # of each lease, and when it was first seen so

    def look(self) -> dict:
        """Return the status, with the states of jobs elsewhere and the time left at the pace seen."""
        status = Reader(self.layout).suite(self.suite, wait=0)
        now = time.monotonic()
        for _, job in jobs_of(status):
            self._judge(job, now)
        at = status["progress"]
        # The images have been counted, or a rate has been measured.
        if not 0.8 < self.work / at["work_seconds"] < 1.25:
            self.begin, self.first, self.work = now, at["share"], at["work_seconds"]
        done = at["share"] - self.first
        if done > PACE_SHARE:
            at["seconds_left"] = round((1 - at["share"]) * (now - self.begin) / done)
        return status

    def _judge(self, job: dict, now: float) -> None:
        """Tells of a job on another machine whether it lives, by its heartbeat since the last look."""
        beat = (job["holder"].get("token"), job["holder"].get("beat"))
        before, since = self.beats.get(job["lease"], (None, now))
        if beat != before:
            self.beats[job["lease"]] = (beat, now)
        if job["state"] != "unknown" or before is None:
            return
        if beat != before:
            job["state"] = "alive"
        elif now - since >= DEAD_AFTER_SECONDS:
            job["state"] = "dead"


def jobs_of(status: dict) -> Iterator[tuple[dict, dict]]:
    """Yield the jobs of a status behind the stage or the row that they are at work on, stages first."""
    for part in (*status["stages"], *status["rows"]):
        for job in part["jobs"]:
            yield part, job


def lines(status: dict, whole: bool = True) -> list[str]:
    """Return a line for each job that is at work, or for a stage with many, and one for the whole where all of it is made."""
    at_work: dict[str, list[tuple[str, dict]]] = defaultdict(list)
    for part, job in jobs_of(status):
        if job["state"] in ("alive", "unknown"):
            at_work[job["stage"]].append((_name(part, job), job))
    shown = []
    for stage, jobs in at_work.items():
        shown += [f"{name}: {words(job)}" for name, job in jobs[:SHOWN_JOBS]]
        if len(jobs) > SHOWN_JOBS:
            line = f"{stage}: {len(jobs) - SHOWN_JOBS} more running"
            lefts = {number(reached(job).get("seconds_left")) for _, job in jobs} - {None}
            if lefts:
                line += f", the last for {duration(max(lefts))}"
            shown.append(line)
    if whole:
        shown.append(f"suite {status['suite']}: {total(status)}")
    return shown


def words(job: dict) -> str:
    """Return how far a job is in words."""
    at = reached(job)
    if not at:
        return "starting"
    parts = [f"{at.get('done')}/{at.get('total')} {at.get('unit')}"]
    for key, show in _SHOWN.items():
        if (value := number(at.get(key))) is not None:
            parts.append(show(value))
    return ", ".join(parts)


def _name(part: dict, job: dict) -> str:
    """Return what a job is at work on, such as: sample gta (seed 0) at step 300."""
    if "experiment" not in part:
        return f"{job['stage']} {part['name']}"
    step = re.match(r"\.(\d{7})\b", Path(job["lease"]).name)
    name = f"{job['stage']} {part['experiment']} (seed {part['seed']})"
    return f"{name} at step {int(step[1])}" if step else name
