"""The run folder of a training: snapshots, logged losses and log, and the milestones beside it."""

import contextlib
import json
import math
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from torch import Tensor

from ditgta.runtime import finished
from ditgta.runtime.checkpoint_records import CheckpointRecord
from ditgta.runtime.checkpoints import (
    AVERAGE,
    check_numbers,
    checkpoint_name,
    list_checkpoints,
    read_header,
    write_checkpoint,
)
from ditgta.runtime.errors import InputError
from ditgta.runtime.files import (
    read_as,
    read_verified_record,
    record_path,
    write_json,
    write_text,
)
from ditgta.runtime.progress import Progress
from ditgta.runtime.records import Job, Point

RUN, SPEC = "run", "spec.json"
SNAPSHOTS_KEPT = 2
CURVE_POINTS = 1000  # points of the loss curve in a milestone's record


def refuse_other(out: Path, spec: dict) -> None:
    """Raise InputError where a folder holds states of a training of other options, which would be replaced."""
    for _, path in list_checkpoints(out / RUN) + list_checkpoints(out):
        try:
            other = read_header(path).spec
        except InputError:  # what is damaged does not name its options
            continue
        finished.refuse_other(out, "a training", other, spec)


class Recorder:
    """What a run leaves behind: snapshots and milestones (written in the background), metrics.jsonl and train.log."""

    def __init__(self, out: Path, header: dict, experiment: str):
        self.out, self.folder, self.header, self.experiment = out, out / RUN, header, experiment
        self.metrics = self.folder / "metrics.jsonl"
        self.writer = ThreadPoolExecutor(max_workers=1)
        self.writing: Future | None = None
        self.last_good = "none"
        # What made the state that this process goes on from, and what that had cost.
        self.earlier: list[dict] = []

    def unfinished(self, milestones: list[int]) -> tuple[list[int], tuple[int, Path] | None]:
        """Return the milestones that are not there yet, and step and path of the state from which to go on."""
        missing = [step for step in milestones if not self._whole(self.out / checkpoint_name(step))]
        last = missing[0] if missing else -1
        for step, path in sorted(list_checkpoints(self.folder) + list_checkpoints(self.out), reverse=True):
            if step <= last and (record := self._whole(path)):
                own = record.model_dump(include=set(Job.model_fields), exclude_unset=True)
                self.earlier = [own, *(job.said() for job in record.earlier)]
                return missing, (step, path)
        return missing, None

    def _whole(self, path: Path) -> CheckpointRecord | None:
        """Return the record of a state that is there, of this very spec and undamaged, else None; names a damaged one."""
        if not path.is_file() or not record_path(path).is_file():
            return None
        try:
            if read_header(path).spec != self.header["spec"]:
                return None
            return read_verified_record(path, CheckpointRecord)
        except InputError as error:
            self.say(f"{error}; an older state is used instead")
            return None

    def say(self, text: str) -> None:
        """Prints a line and keeps it in train.log."""
        Progress("train", 0, log=self.folder / "train.log").say(text)

    def begin(self, step: int, state: Path | None) -> None:
        """Keeps the spec, and of the logged losses those up to a step; a milestone's record fills in what the file lacks."""
        write_json(self.folder / SPEC, self.header["spec"])
        lines, last = [], 0
        if self.metrics.is_file():
            for line in self.metrics.read_text(errors="replace").splitlines():
                with contextlib.suppress(ValueError):  # of a line that is not whole
                    point = Point.model_validate_json(line)
                    if point.step <= step:
                        lines.append(line)
                        last = point.step
        if state is not None and state.parent == self.out:
            known = read_as(CheckpointRecord, record_path(state)).losses
            lines += [json.dumps(point.said()) for point in known if point.step > last]
        write_text(self.metrics, "".join(f"{line}\n" for line in lines))

    def log(self, entry: dict) -> None:
        """Appends one line to metrics.jsonl."""
        with open(self.metrics, "a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")

    def losses(self) -> list[dict]:
        """Return the logged losses, thinned to at most a thousand."""
        lines = self.metrics.read_text().splitlines()
        thin = max(1, math.ceil(len(lines) / CURVE_POINTS))
        points = [Point.model_validate_json(line) for line in lines[thin - 1 :: thin]]
        return [point.model_dump(include=set(Point.model_fields), exclude_unset=True) for point in points]

    def save(
        self,
        groups: dict[str, dict[str, Tensor]],
        step: int,
        milestone: bool,
        ready: Callable[[], None] | None = None,
        **record,
    ) -> None:
        """Write a copied state in the background, once `ready` has returned, as a milestone or as a snapshot that replaces older ones."""
        header = {**self.header, "step": step, "pending": "pending" in groups}
        if milestone:
            record = {**record, "experiment": self.experiment, "losses": self.losses()}
        path = (self.out if milestone else self.folder) / checkpoint_name(step)
        self.writing = self.writer.submit(self._write, path, header, groups, ready, record)

    def _write(self, path: Path, header: dict, groups: dict, ready: Callable | None, record: dict) -> None:
        milestone = path.parent == self.out
        if ready:
            ready()
        if milestone:
            fix = f"the last good state is {self.last_good}; lower the learning rate or set gradient_clip"
            for group, tensors in groups.items():
                if group == "model" or group.startswith(AVERAGE):
                    check_numbers(f"{self.experiment} at step {header['step']}", tensors, fix)
        if self.metrics.is_file():
            with open(self.metrics, "rb") as file:  # the losses up to a snapshot must outlive it
                os.fsync(file.fileno())
        write_checkpoint(path, header, groups, **record, earlier=self.earlier)
        self.last_good = str(path)
        if not milestone:
            # Snapshots of later steps belong to milestones that were made before this one was put in front of them.
            earlier = [old for step, old in list_checkpoints(self.folder) if step <= header["step"]]
            for old in earlier[SNAPSHOTS_KEPT:]:
                record_path(old).unlink(missing_ok=True)
                old.unlink(missing_ok=True)

    def wait(self) -> None:
        """Waits until the last write is on the disk; raises its error."""
        writing, self.writing = self.writing, None
        if writing is not None:
            writing.result()
