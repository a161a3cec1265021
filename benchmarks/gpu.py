"""Everything about one GPU in one run of under eight minutes: is it right, how fast is it, and what does each part take.

    python -m benchmarks.gpu [--seconds 450] [--out FILE.md] [--only ROW,...]
    python -m benchmarks.gpu --list         the rows, and the seconds that each needs on an H100
    python -m benchmarks.gpu --tiny         every row at a tiny size, on a CPU too: says nothing of speed, shows that it runs

Runs in a checkout without installation, without network and without snakemake. It needs torch with Triton, numpy, accelerate,
safetensors and pillow, and what a machine that has these may lack, to be brought as wheels: pydantic, pydantic-core, annotated-types,
typing-inspection, and diffusers (without which its own rows and the autoencoder's fail, and no others).

Rows stand in the order of their value. Each is printed as soon as it is measured, and the table (FILE.md) and its figures (FILE.json)
are written again with it, so that a run that is killed leaves what it has. A row that needs more time than is left is skipped; one that
fails, hangs or kills its process says so in its line, and the others go on in a new one. Compiled code is kept for one run alone, so
that the seconds of first steps are those of compiling; where TORCHINDUCTOR_CACHE_DIR is set it is kept there.
"""

import argparse
import contextlib
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib import import_module
from multiprocessing.connection import Connection
from pathlib import Path

from benchmarks.gpu_lines import Line, Note, Report, failed

STARTING = 120  # seconds that a process may take to import and to see the GPU
BROKEN, DONE = "broken", "done"  # what a process says after a row: it cannot go on; it can


@dataclass(frozen=True)
class Entry:
    """A row, or several that are measured together: its name, the seconds that it needs, and the function that yields it."""

    name: str
    seconds: int
    module: str
    function: str


CHECKS, TRAINING, PARTS = (f"benchmarks.gpu_{topic}" for topic in ("checks", "training", "parts"))
ROWS = (
    Entry("golden", 5, CHECKS, "golden"),
    Entry("agreement", 4, CHECKS, "agreement"),
    Entry("bits", 12, CHECKS, "bits"),
    Entry("inception", 6, CHECKS, "inception"),
    Entry("agreement-compiled", 36, CHECKS, "agreement_compiled"),
    Entry("bits-compiled", 55, CHECKS, "bits_compiled"),
    Entry("limits", 10, PARTS, "limits"),
    # What demands are made on.
    Entry("train-B-compiled", 42, TRAINING, "base_compiled"),
    Entry("train-XL-compiled", 38, TRAINING, "large_compiled"),
    Entry("guided", 32, PARTS, "guided_step"),
    # What explains it.
    Entry("train-B-eager", 18, TRAINING, "base_eager"),
    Entry("peers-compiled", 36, TRAINING, "peers_compiled"),
    Entry("peers", 12, TRAINING, "peers"),
    Entry("train-B-tf32", 20, TRAINING, "base_tf32"),
    Entry("train-B-batches", 28, TRAINING, "base_batches"),
    Entry("train-XL-eager", 10, TRAINING, "large_eager"),
    Entry("autoencoder", 10, PARTS, "autoencoder"),
    Entry("inception-speed", 4, PARTS, "inception_speed"),
    Entry("noise", 3, PARTS, "noise"),
    Entry("optimizer", 5, PARTS, "optimizer"),
    Entry("attention", 12, PARTS, "attention"),
    Entry("equal-bits", 24, TRAINING, "equal_bits"),
)


def measured(entry: Entry, sizes) -> Iterator[Line]:
    """Yield the lines of a row in this process; where it fails, a line that says why."""
    try:
        yield from getattr(import_module(entry.module), entry.function)(sizes)
    except Exception as error:
        yield failed(entry.name, error)


def serve(pipe: Connection, tiny: bool) -> None:
    """Measure the rows that are asked for, until there are no more or the GPU's context is broken."""
    with contextlib.redirect_stdout(sys.stderr), contextlib.suppress(EOFError):
        from benchmarks import gpu_rows

        sizes = gpu_rows.Sizes(tiny)
        if tiny and not gpu_rows.CUDA:
            compute_cheaply()
        pipe.send(gpu_rows.machine(sizes))
        while True:
            for line in measured(pipe.recv(), sizes):
                pipe.send(line)
            try:
                gpu_rows.tidy()
            except Exception as error:
                print(error)
                pipe.send(BROKEN)
                return
            pipe.send(DONE)


def compute_cheaply() -> None:
    """Have the compiler trace alone, for to write code takes minutes on a CPU; and compute with one thread."""
    import torch

    from ditgta import kernels

    static = kernels.fixed_shapes()
    kernels.fixed_shapes = lambda: {**static, "backend": "eager"}
    torch.set_num_threads(1)


class Apart:
    """Measures rows in a process of its own, and begins another where that one ends or hangs."""

    def __init__(self, tiny: bool, serve: Callable[[Connection, bool], None] = serve):
        self.tiny, self.serve, self.process = tiny, serve, None
        self.machine = self._start()

    def _start(self) -> dict[str, str]:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=self.serve, args=(theirs, self.tiny))
        self.process.start()
        theirs.close()
        if not self.pipe.poll(STARTING):
            self.stop()
            raise RuntimeError(f"nothing within {STARTING} s")
        return self.pipe.recv()

    def stop(self, wait: float = 0.0) -> None:
        """End the process, which may have some seconds to do so itself."""
        self.pipe.close()
        if self.process:
            self.process.join(wait)
            self.process.kill()
            self.process.join()
        self.process = None

    def __call__(self, entry: Entry, limit: float) -> Iterator[Line]:
        """Yield a row's lines, and one that says what happened where they do not all come within `limit` seconds."""
        end = time.monotonic() + limit
        try:
            if self.process is None:
                self._start()
            self.pipe.send(entry)
            while self.pipe.poll(max(0.0, end - time.monotonic())):
                line = self.pipe.recv()
                if line == DONE:
                    return
                if line == BROKEN:
                    break
                yield line
            else:
                yield Note(entry.name, f"not done after {limit:.0f} s", kind="error")
        except (EOFError, OSError, RuntimeError) as error:
            yield Note(entry.name, f"its process ended: {str(error) or 'killed'}", kind="error")
        self.stop()


def run(
    entries: Iterable[Entry],
    seconds: float,
    report: Report,
    measure: Callable[[Entry, float], Iterable[Line]],
) -> None:
    """Measure one row after the other as long as there is time.

    Args:
        seconds: that are left.
        measure: yields the lines of a row, given it and the seconds that it may take.
    """
    end = time.monotonic() + seconds
    for entry in entries:
        left = end - time.monotonic()
        if left < entry.seconds:
            text = f"{max(left, 0):.0f} s left, {entry.seconds} s needed"
            report.add(entry.name, Note(entry.name, text, kind="skipped"))
            continue
        for line in measure(entry, min(left + 20, 3 * entry.seconds + 30)):
            report.add(entry.name, line)


def listing() -> str:
    """Return the rows with the seconds that they need, and the sum of these."""
    lines = [f"{entry.seconds:5d} s  {entry.name}" for entry in ROWS]
    return "\n".join([*lines, f"{sum(entry.seconds for entry in ROWS):5d} s  in all"])


def parse(words: list[str] | None) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.gpu", description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=450, help="time in all (default: 450)")
    parser.add_argument("--out", type=Path, default=Path("build/gpu.md"), help="table; figures beside it")
    parser.add_argument("--only", help="names of rows, with commas between them")
    parser.add_argument("--tiny", action="store_true", help="tiny sizes, on a CPU too: shows that rows run")
    parser.add_argument("--list", action="store_true", help="list the rows and the seconds that they need")
    options = parser.parse_args(words)
    names = options.only.split(",") if options.only else [entry.name for entry in ROWS]
    if unknown := set(names) - {entry.name for entry in ROWS}:
        known = ", ".join(entry.name for entry in ROWS)
        parser.error(f"no row {', '.join(sorted(unknown))}; known: {known}")
    options.rows = [entry for entry in ROWS if entry.name in names]
    return options


def main(words: list[str] | None = None) -> int:
    """Measure what the command line asks for; return 1 where a demand is missed or a row fails."""
    begin, options = time.monotonic(), parse(words)
    if options.list:
        print(listing())
        return 0
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="compiled", ignore_cleanup_errors=True) as folder:
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", folder)
        try:
            apart = Apart(options.tiny)
        except (EOFError, RuntimeError) as error:
            print(f"the process that measures did not start ({str(error) or 'see above'})", file=sys.stderr)
            return 2
        if not options.tiny and apart.machine["device"].startswith("CPU"):
            apart.stop()
            print("there is no GPU; --tiny shows that the rows run on a CPU", file=sys.stderr)
            return 2
        report = Report(options.out, apart.machine)
        try:
            run(options.rows, options.seconds - (time.monotonic() - begin), report, apart)
        finally:
            apart.stop(wait=10)
    print(f"\n{time.monotonic() - begin:.0f} s in all; {report.faults} missed or failed", flush=True)
    return int(report.faults > 0)


if __name__ == "__main__":
    sys.exit(main())
