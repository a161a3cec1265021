"""A suite of 36 rows, five training seeds each: its table, and its status while jobs run.

    python -m benchmarks large_suite [--quick]

Both read files as the stages write them, made up, at two milestones: 360 score files with their samples and influence values.
"""

import json
import tempfile
from collections.abc import Iterable
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

from benchmarks.rows import Row, by_turns
from ditgta import config
from ditgta.layout import Layout, record_of
from ditgta.stages import status, table
from tests.report.suite import METRICS, make_suite

SEEDS, MILESTONES, CLASSES = 5, (200_000, 400_000), 1000
TABLE_SECONDS, STATUS_SECONDS = 60.0, 2.0
POINTS = 1000  # of a loss in a record
SHARDS = 20  # of samples made


def config_of(rows: int) -> dict:
    """Return a configuration with a suite of so many rows, which differ in their depth."""
    experiments = {f"row{i:02d}": {"like": "all", "model": {"depth": i + 1}} for i in range(rows)}
    suite = {"experiments": list(experiments), "seeds": list(range(SEEDS)), "milestones": list(MILESTONES)}
    base = {"all": {"images": {"source": "pictures", "size": 256}}}
    return {"suite": "large", "experiments": base | experiments, "suites": {"large": suite}}


def write_json(path: str | Path, content: dict) -> None:
    """Writes a file and the folders above it, without waiting for the disk."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(json.dumps(content))


def write_results(layout: Layout) -> None:
    """Writes what `status` reads of a suite whose trainings are done and whose samples are being made."""
    losses = [{"step": 400 * i, "loss": 0.15, "mse": 0.148, "vb": 0.002} for i in range(POINTS)]
    metrics = {key: {"value": 20.0, "se": 0.1} for key in METRICS}
    images = {"count": 1_281_167, "classes": [f"n{i:08d}" for i in range(CLASSES)]}
    write_json(f"{layout.images(layout.trained[0])}/index.json", images)
    for row in layout.rows("large"):
        checkpoint = layout.checkpoint(row)
        write_json(record_of(checkpoint), {"step": row.step, "losses": losses, "images_per_second": 800.0})
        Path(checkpoint).touch()
        folder = Path(layout.samples("large", row))
        for shard in range(SHARDS):
            write_json(folder / f"{shard:05d}.json", {})
        if row.step == MILESTONES[0]:
            write_json(layout.scores("large", row), {"metrics": metrics})


def rows(quick: bool) -> Iterable[Row]:
    """Return the seconds of the table and of one look at the status."""
    count = 12 if quick else 36
    levels = {f"row{i:02d}": 20 + 0.7 * i for i in range(count)}
    with tempfile.TemporaryDirectory() as name, redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        root = Path(name)
        arguments = make_suite(root / "suite", MILESTONES, tuple(range(SEEDS)), levels=levels)
        first, *others = levels
        arguments["spec"]["differences"] = [[other, first] for other in others]
        settings = config.load(config_of(count))
        write_results(Layout(settings, str(root / "results")))
        calls = {
            "table": lambda: table.run(out=root / "table", **arguments),
            "status": lambda: status.run(settings, "large", root / "results", wait=0, as_json=False),
        }
        seconds = {what: min(times) for what, times in by_turns(calls, 1 if quick else 2).items()}
    words = f"{count} rows x {SEEDS} seeds x {len(MILESTONES)} milestones"
    for what, allowed in (("table", TABLE_SECONDS), ("status", STATUS_SECONDS)):
        took = seconds[what]
        yield Row(f"{what} of {words}", f"{took:.2f} s", f"{allowed:g} s allowed", took / allowed, "<= 1")
