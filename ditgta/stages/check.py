"""Check: what a suite needs, before days are spent on it - what is there and right, what is not, and the fix."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from threading import Thread

import torch

from ditgta.config import Config, check_suite
from ditgta.layout import Layout
from ditgta.planning.estimate import IMAGENET, KNOWN_IMAGES, plan
from ditgta.planning.machine import HERE, machine_of
from ditgta.preflight import cluster, machine
from ditgta.preflight.inputs import Inputs
from ditgta.preflight.line import MISSING, WARNING, Line
from ditgta.runtime.errors import InputError, one_line

SECONDS = 17.0  # from the start of the process until what has not answered is given up


def run(config: Config, suite: str, results: Path, profile: str | None) -> None:
    """Print what a suite needs, a line each: ok, warning or missing, and the fix.

    Raises InputError if the suite cannot finish as it is, or is unknown.
    """
    lines = list(findings(config, suite, results, profile))
    for line in lines:
        print(line, flush=True)
    states = Counter(line.state for line in lines)
    missing, warnings = states[MISSING], states[WARNING]
    beside = f"{len(lines)} lines, {warnings} warning{'s' * (warnings != 1)}"
    if missing:
        raise InputError(
            f"suite {suite} cannot finish: {missing} missing ({beside}); the lines above show the fixes"
        )
    print(f"suite {suite} can finish ({beside})")


def findings(config: Config, suite: str, results: Path, profile: str | None) -> Iterator[Line]:
    """Yield the lines of a check.

    The folder of the results need not exist; `profile`: that of Snakemake that sends the jobs to Slurm, None: they run on this
    machine. Raises InputError if the suite or the profile is unknown.
    """
    check_suite(config, suite)
    deadline = time.monotonic() + SECONDS
    sent_by = profile and cluster.Profile(profile)
    inputs = Answer("inputs", lambda: _inputs(config, suite, results, profile is not None))
    if sent_by:
        place = Answer("cluster", lambda: (cluster.lines(sent_by, config, suite), None))
    else:
        count = torch.cuda.device_count()
        place = Answer("GPUs", lambda: ([machine.all_reduce(count)] if count else [], None))
    yield machine.versions()
    # Counts are known at once but for images in files, which are waited for: space and memory depend on them.
    yield from inputs.wait(deadline)
    checked = inputs.rest
    known = KNOWN_IMAGES.get(config.first(suite).images.source, IMAGENET)
    counted = (checked and checked.counted) or known
    stages, _ = plan(config, suite, counted)
    if checked:
        yield machine.disk(stages, checked.layout, suite)
    if sent_by:
        resources = sent_by.resources("train")
        yield from filter(None, [machine.gpu_memory_elsewhere(config, suite, counted, resources)])
    else:
        yield from filter(None, [machine.driver()])
        yield from machine.memory(config, suite, counted)
        yield from filter(None, [machine.compiler(config, suite)])
        yield machine.hours(stages, machine_of(HERE))
    yield from place.wait(deadline)


def account_of(profile: str | None) -> str | None:
    """Return the account that a profile names, which is nobody else's business."""
    return cluster.Profile(profile).resources("train").get("slurm_account") if profile else None


def _inputs(config: Config, suite: str, results: Path, elsewhere: bool) -> tuple[list[Line], Inputs]:
    inputs = Inputs(Layout(config, str(results)), suite, elsewhere)
    return list(inputs.lines()), inputs


class Answer(Thread):
    """Lines that a thread computes; a caller who waits too long gets a line that says so. `rest` is what came with them."""

    def __init__(self, what: str, work: Callable[[], tuple[Iterable[Line], object]]):
        super().__init__(daemon=True)
        self.what, self.work, self.rest = what, work, None
        self.lines: list[Line] | None = None
        self.error: Exception | None = None
        self.start()

    def run(self) -> None:
        try:
            lines, rest = self.work()
            self.lines, self.rest = list(lines), rest
        except Exception as error:  # the waiting thread reports it
            self.error = error

    def wait(self, deadline: float) -> list[Line]:
        """Return the lines, or one that says what kept them from being known."""
        self.join(max(0.0, deadline - time.monotonic()))
        if isinstance(self.error, InputError):
            return [Line(MISSING, self.what, one_line(self.error), "correct this, then check again")]
        if self.error:
            raise self.error
        if self.lines is None:
            text = f"not known after {SECONDS:.0f} s: a slow disk or network"
            return [Line(WARNING, self.what, text, "check again: a second reading is faster")]
        return self.lines
