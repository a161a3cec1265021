"""A status as text: one screen for people, with bars where it is watched."""

from collections import Counter

from ditgta.runtime.owner import name_of
from ditgta.runtime.progress import duration

_SHOWN_SCORES = {"loss": "loss", "fid": "FID", "kid": "KID"}


BAR = 20  # characters
HEADS = ("row", "seed", "reached", "step", "epochs", "loss", "images/s", "left", "samples", "score", "job")


def text(found: dict, bars: bool = False) -> str:
    """Returns the status as one screen of text, with a bar for the suite and for each training if so asked."""
    words = []
    counts = Counter(stage["stage"] for stage in found["stages"])
    for stage in found["stages"]:
        name = stage["stage"]
        name = f"{name} {stage['name']}" if counts[name] > 1 else name
        words.append(" ".join([f"{name} {_progress(stage)}", *(f"({_job(job)})" for job in stage["jobs"])]))
    lines = [f"suite {found['suite']} in {found['results']}: {', '.join(words)}", total(found, bars)]
    table = [HEADS, *(_cells(row, bars) for row in found["rows"])]
    widths = [max(map(len, column)) for column in zip(*table)]
    lines += ["  ".join(map(str.ljust, line, widths)).rstrip() for line in table]
    lines += _verdict(found["rows"])
    tables = [stage for stage in found["stages"] if stage["stage"] == "table" and stage["done"]]
    lines += [f"table: {stage['path']}" for stage in tables]
    return "\n".join([*lines, *(f"warning: {fault}" for fault in found["faults"])])


def total(found: dict, bars: bool = False) -> str:
    """Returns how far a suite is, in a line."""
    at = found["progress"]
    tables = [stage["done"] for stage in found["stages"] if stage["stage"] == "table"]
    share = 1.0 if all(tables) else at["share"]
    left = "" if at["seconds_left"] is None or share == 1 else f", about {duration(at['seconds_left'])} left"
    drawn = f"{bar(share)} " if bars else ""
    return f"{drawn}{percent(share)} of the predicted work is done{left}"


def bar(share: float) -> str:
    """Returns a share of 0..1 as a bar."""
    full = int(share * BAR)
    return f"[{'#' * full}{'-' * (BAR - full)}]"


def percent(share: float) -> str:
    """Returns a share of 0..1 in whole percents, 100 only where all is done."""
    return f"{int(100 * share)} %"


def _verdict(rows: list[dict]) -> list[str]:
    """Returns what the scores shown may be taken for; nothing where there are none."""
    if not any(scores for row in rows for scores in row["scores"].values()):
        return []
    if len({row["seed"] for row in rows}) == 1:
        return [
            "one training seed: scores without a verdict; a verdict needs several seeds, e.g. seeds: [0, 1, 2]"
        ]
    return ["the verdicts will be in table.html when all scores are there"]


def _cells(row: dict, bars: bool) -> list[str]:
    """Returns a row's cells; samples are those of the newest milestone that has any, the score is the last one."""
    steps = list(row["milestones"])
    reached = [step for step in steps if row["milestones"][step]]
    sampled = [step for step in steps if row["samples"][step]["done"] or row["samples"][step]["shards"][0]]
    metrics = {step: {**row["losses"].get(step, {}), **row["scores"][step]} for step in steps}
    scored = [step for step in steps if metrics[step]]
    return [
        row["experiment"],
        str(row["seed"]),
        reached[-1] if reached else "-",
        (f"{bar(row['step'] / int(steps[-1]))} " if bars else "") + f"{row['step']}/{steps[-1]}",
        _number(row["epochs"], ".3g"),
        _number(row["loss"], ".4g"),
        _number(row["images_per_second"], ".1f"),
        "-" if row["seconds_left"] is None else duration(row["seconds_left"]),
        f"{sampled[-1]} {_progress(row['samples'][sampled[-1]])}" if sampled else "-",
        f"{scored[-1]} {_score(metrics[scored[-1]])}" if scored else "-",
        "; ".join(f"{job['stage']} {_job(job)}" for job in row["jobs"])
        or {"begun": "none running"}.get(row["training"], row["training"]),
    ]


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _progress(part: dict) -> str:
    if part["done"] or not part["shards"]:
        return "done" if part["done"] else "not done"
    return "{}/{} shards".format(*part["shards"])


def _score(metrics: dict) -> str:
    """Returns the held-out loss, where there is one, and FID, or KID in its place."""
    shown = {name: text for key, name in _SHOWN_SCORES.items() if (text := _measured(metrics.get(key, {})))}
    if "FID" in shown:
        shown.pop("KID", None)
    return ", ".join(f"{name} {text}" for name, text in shown.items()) or "without FID and KID"


def _measured(entry: dict) -> str:
    """Returns a value with its standard error, "" where there is none."""
    value, se = entry.get("value"), entry.get("se")
    if value is None:
        return ""
    return f"{value:.4g}" + ("" if se is None else f" ± {se:.2g}")


def _job(job: dict) -> str:
    return f"{job['state']}: {name_of(job['holder'])}"
