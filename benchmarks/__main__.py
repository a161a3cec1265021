"""Runs benchmarks, each in a process of its own, and prints one table: `python -m benchmarks [NAME ...] [--quick]`."""

import argparse
import multiprocessing
import os
import platform
import sys
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from pathlib import Path

from benchmarks.rows import rows_of, table_head

FOLDER = Path(__file__).parent
NAMES = sorted(path.stem for path in FOLDER.glob("*.py") if "\ndef rows(" in path.read_text())


def machine() -> str:
    """Return one line about the machine: processor, cores that may be used, versions."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    model = next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")),
        platform.machine(),
    )
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "numpy", "snakemake"))
    return f"{model}, {len(os.sched_getaffinity(0))} cores; Python {platform.python_version()}, {versions}"


def main() -> int:
    """Prints the table; returns 1 where a demand is missed or a benchmark fails."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"benchmarks to run, of {', '.join(NAMES)} (default: all)"
    )
    parser.add_argument("--quick", action="store_true", help="smaller sizes, fewer rounds")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(NAMES):
        parser.error(f"no benchmark {', '.join(sorted(unknown))}; known: {', '.join(NAMES)}")
    print(f"{machine()}\n\n{table_head()}", flush=True)
    faults = 0
    for name in arguments.names or NAMES:
        # A process of its own: threads, memory and imports of one benchmark must not weigh on the next.
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            try:
                rows = pool.submit(rows_of, name, arguments.quick).result()
            except Exception as error:
                faults += 1
                print(f"{name} failed: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
                continue
        faults += sum(row.verdict == "MISSED" for row in rows)
        print("\n".join(row.markdown() for row in rows), flush=True)
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main())
