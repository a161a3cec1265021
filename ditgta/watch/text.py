"""A status as text: one screen for people, with bars where it is watched."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from ditgta.runtime.owner import name_of
from ditgta.runtime.progress import duration

BAR = 20  # characters
HEADS = ("row", "seed", "reached", "step", "epochs", "loss", "images/s", "left", "samples", "score", "job")


def text(status: dict, bars: bool = False) -> str:
    """Return the status as one screen of text, with a bar for the suite and for each training if so asked."""
    words, tables = [], []
    counts = Counter(stage["stage"] for stage in status["stages"])
    for stage in status["stages"]:
        name = stage["stage"]
        if counts[name] > 1:
            name += f" {stage['name']}"
        words.append(" ".join([name, _progress(stage), *(f"({_job(job)})" for job in stage["jobs"])]))
        if stage["stage"] == "table" and stage["done"]:
            tables.append(f"table: {stage['path']}")
    lines = [f"suite {status['suite']} in {status['results']}: {', '.join(words)}", total(status, bars)]
    lines += aligned([HEADS, *(_cells(row, bars) for row in status["rows"])])
    warnings = [f"warning: {fault}" for fault in status["faults"]]
    return "\n".join([*lines, *_verdict(status["rows"], bool(tables)), *tables, *warnings])


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows as lines whose columns stand below each other."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def is_complete(status: dict) -> bool:
    """Return whether a suite's table is there."""
    return all(stage["done"] for stage in status["stages"] if stage["stage"] == "table")


def total(status: dict, bars: bool = False) -> str:
    """Return how far a suite is, in a line."""
    at = status["progress"]
    share, left = at["share"], at["seconds_left"]
    if is_complete(status):
        share = 1.0
    words = f"{percent(share)} of the predicted work is done"
    if left is not None and share != 1:
        words += f", about {duration(left)} left"
    return f"{bar(share)} {words}" if bars else words


def bar(share: float) -> str:
    """Return a share of 0..1 as a bar."""
    full = int(share * BAR)
    return f"[{'#' * full}{'-' * (BAR - full)}]"


def percent(share: float) -> str:
    """Return a share of 0..1 in whole percents, 100 only where all is done."""
    return f"{int(100 * share)} %"


def _verdict(rows: list[dict], has_table: bool) -> list[str]:
    """Return what the scores shown may be taken for; nothing where there are none. The path of a table follows."""
    if not any(any(row["scores"].values()) for row in rows):
        return []
    if len({row["seed"] for row in rows}) == 1:
        return [
            "one training seed: scores without a verdict; a verdict needs several seeds, e.g. seeds: [0, 1, 2]"
        ]
    if has_table:
        return ["the verdicts are in the table"]
    return ["the verdicts will be in table.html when all scores are there"]


def _cells(row: dict, bars: bool) -> list[str]:
    """Return a row's cells; samples are those of the newest milestone that has any, the score is the last one."""
    reached = sampled = scored = "-"
    for step, is_reached in row["milestones"].items():
        samples, metrics = row["samples"][step], row["losses"].get(step, {}) | row["scores"][step]
        if is_reached:
            reached = step
        if samples["done"] or samples["shards"][0]:
            sampled = f"{step} {_progress(samples)}"
        if metrics:
            scored = f"{step} {_score(metrics)}"
    done = f"{row['step']}/{step}"
    if bars:
        done = f"{bar(row['step'] / int(step))} {done}"
    jobs = "; ".join(f"{job['stage']} {_job(job)}" for job in row["jobs"])
    return [
        row["experiment"],
        str(row["seed"]),
        reached,
        done,
        _or_dash(row["epochs"], "{:.3g}".format),
        _or_dash(row["loss"], "{:.4g}".format),
        _or_dash(row["images_per_second"], "{:.1f}".format),
        _or_dash(row["seconds_left"], duration),
        sampled,
        scored,
        jobs or {"begun": "none running"}.get(row["training"], row["training"]),
    ]


def _or_dash(value: float | None, show: Callable[[Any], str]) -> str:
    return "-" if value is None else show(value)


def _progress(part: dict) -> str:
    if part["done"]:
        return "done"
    return "{}/{} shards".format(*part["shards"]) if part["shards"] else "not done"


def _score(metrics: dict) -> str:
    """Return the held-out loss, where there is one, and FID, or KID in its place."""
    loss, fid, kid = (_measured(name, metrics.get(name.lower(), {})) for name in ("loss", "FID", "KID"))
    return ", ".join(filter(None, [loss, fid or kid])) or "without FID and KID"


def _measured(name: str, entry: dict) -> str:
    """Return a value with its standard error, "" where there is none."""
    value, se = entry.get("value"), entry.get("se")
    if value is None:
        return ""
    return f"{name} {value:.4g}" if se is None else f"{name} {value:.4g} ± {se:.2g}"


def _job(job: dict) -> str:
    return f"{job['state']}: {name_of(job['holder'])}"
