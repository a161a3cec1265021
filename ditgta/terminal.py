"""What a terminal shows while Snakemake runs, and the stop of jobs when Snakemake alone is told to stop. Needs no torch.

Snakemake's messages are records of Python's logging, whose `event` its interface for logger plugins names. Here a filter and a
formatter on its stream make one line of each job; a thread says every 30 seconds who is at work on what; the answer, or the faults,
are said last of all. A signal wakes the thread, which passes it on: Snakemake itself would let its jobs run to their end.
"""

import atexit
import contextlib
import itertools
import logging
import os
import select
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Thread

import psutil

from ditgta.layout import Layout
from ditgta.runtime.errors import one_line
from ditgta.watch.answer import answer, page_of
from ditgta.watch.lines import Watch, lines

LINES_EVERY_SECONDS = 30.0
# After Ctrl-C a terminal has told the jobs too; those that live on after this time have not heard it.
PATIENCE_SECONDS = 5.0
# Events that count jobs, as if all were equal.
DROPPED = {"job_started", "job_finished", "progress", "resources_info"}
NOISE = (
    "Assuming unrestricted shared filesystem",
    "Using shell:",
    "Select jobs to execute",
    "Conda environments: ignored",
    "RuleException:\nCalledProcessError",  # with the whole command; a fault is said in a line of its own
)
ERROR = ": error: "
LAUNCHER = "torch.distributed.run"


class Short(logging.Formatter):
    """Gives a job one line, its message with the time of day, and another if it ends in a fault that says what to do.

    The reason follows unless Snakemake is quiet about reasons. Anything else is formatted as before.
    """

    def __init__(self, inner: logging.Formatter):
        super().__init__()
        self.inner = inner

    def format(self, record: logging.LogRecord) -> str:
        if _event(record) == "job_info":
            reasons = [line for line in self.inner.format(record).splitlines() if line.startswith("Reason: ")]
            return "\n".join([_timed(record.rule_msg), *reasons])
        if _event(record) == "job_error" and ERROR in (fault := fault_of(record)):
            return _timed(fault)
        return self.inner.format(record)


def _timed(line: str) -> str:
    return f"[{time.strftime('%H:%M:%S')}] {line}"


class Terminal:
    """The terminal of one run of Snakemake, whose logger it is given."""

    def __init__(self, layout: Layout, logger: logging.Logger):
        self.layout, self.logger = layout, logger
        self.failed: dict[int, str] = {}  # faults of jobs, by their number
        self.stopped = 0  # the signal that asked to stop
        self.begin = time.time()
        self.watches: list[Watch] = []
        self.whole = True
        logger.addFilter(self._note)
        for handler in logger.handlers:
            if getattr(handler, "stream", None) in (sys.stderr, sys.stdout) and handler.formatter:
                handler.addFilter(self._is_shown)
                handler.setFormatter(Short(handler.formatter))

    def _note(self, record: logging.LogRecord) -> bool:
        """Keeps which jobs have failed; those that then succeed have not."""
        event = _event(record)
        if event == "job_error":
            self.failed[record.jobid] = fault_of(record)
        elif event == "job_finished":
            self.failed.pop(record.job_id, None)
        return True

    def _is_shown(self, record: logging.LogRecord) -> bool:
        event = _event(record)
        if event in DROPPED or (event == "job_info" and not record.rule_msg):
            return False
        # A job that was told to stop has not failed.
        if event == "job_error" and self.stopped:
            return False
        return not record.getMessage().startswith(NOISE)

    def start(self, suites: Sequence[str], whole: bool, words: str) -> None:
        """Says how to watch, and begins to watch and to listen for signals; to be called by the main thread.

        `whole`: all of the suites is made, so that a share of them means something. `words`: options of `ditgta status`.
        """
        self.watches, self.whole = [Watch(self.layout, suite) for suite in suites], whole
        self.logger.info(f"To watch: ditgta status --watch{words}")
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        Thread(target=self._attend, args=[reader], daemon=True).start()

    def _attend(self, reader: int) -> None:
        """Says lines in time, and passes signals on."""
        due = time.monotonic() + LINES_EVERY_SECONDS
        while not self.stopped:
            heard, _, _ = select.select([reader], [], [], max(0.0, due - time.monotonic()))
            numbers = os.read(reader, 64) if heard else b""
            self.stopped = next((one for one in numbers if one in (signal.SIGTERM, signal.SIGINT)), 0)
            if not self.stopped and time.monotonic() >= due:
                due = time.monotonic() + LINES_EVERY_SECONDS
                self._say_lines()
        self._stop()

    def _say_lines(self) -> None:
        try:
            shown = [line for watch in self.watches for line in lines(watch.look(), self.whole)]
        except Exception as error:  # what cannot be shown must not keep signals from being passed on
            self.logger.warning(f"cannot show the progress of jobs: {one_line(error)}")
            self.watches = []
            return
        for line in dict.fromkeys(shown) or ["no job is running yet"]:
            self.logger.info(_timed(line))

    def _stop(self) -> None:
        """Tells every job, once, to stop; those that are just being started too."""
        if self.stopped == signal.SIGINT:
            time.sleep(PATIENCE_SECONDS)
        stopped: set[int] = set()
        for_snakemake = self.stopped == signal.SIGTERM
        while True:
            for job in jobs_below(psutil.Process()):
                if job.pid not in stopped:
                    stopped.add(job.pid)
                    with contextlib.suppress(psutil.Error):
                        job.terminate()
            if for_snakemake:  # it waits for its jobs, on a cluster for days; as after Ctrl-C it cancels them
                for_snakemake = False
                os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)

    def succeed(self) -> None:
        """Says the answer of every table that this run has made, last of all."""
        shown: list[str] = []
        for suite in self.layout.config.suites:
            table = Path(self.layout.files("table", suite)[0]).with_name("table.md")
            if table.is_file() and table.stat().st_mtime >= self.begin - 1:
                shown += ["", *answer(table, shutil.get_terminal_size((120, 24)).columns), page_of(table)]
        _say_last(shown)

    def fail(self) -> None:
        """Says in a line each why jobs have failed, or that the run was stopped and how it resumes, last of all."""
        if self.stopped:
            _say_last(["Stopped; running trainings have written a snapshot. The same command resumes."])
            return
        _say_last(["", *dict.fromkeys(self.failed.values())])


def fault_of(record: logging.LogRecord) -> str:
    """Return why a job failed: the line of its error, or the last one of its log, and where that is."""
    for log in map(Path, record.log or ()):
        with contextlib.suppress(OSError):
            written = list(filter(str.strip, log.read_text(errors="replace").splitlines()))
            named = [line for line in written if ERROR in line]
            if written:
                return f"{(named or written)[-1].strip()} (log: {log})"
    return f"{record.rule_name} failed without a message: {record.rule_msg or ''}"


def jobs_below(process: psutil.Process) -> Iterator[psutil.Process]:
    """Yield the processes of stages that a process has started: not shells and launchers, nor what stages have started themselves."""
    with contextlib.suppress(psutil.Error):
        for child in process.children():
            if _is_stage(child):
                yield child
            else:
                yield from jobs_below(child)


def _is_stage(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        words = process.cmdline()
        return LAUNCHER not in words and ("-m", "ditgta") in itertools.pairwise(words)
    return False


def _event(record: logging.LogRecord) -> str:
    """Return what kind of message a record is, "" for plain text."""
    return str(getattr(record, "event", None) or "")


def _say_last(words: list[str]) -> None:
    """Prints lines when this process ends, behind what Snakemake says then."""
    if words:
        atexit.register(lambda: print("\n".join(words), file=sys.stderr, flush=True))
