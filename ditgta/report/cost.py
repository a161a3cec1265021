"""What a table cost: processor and GPU hours and peak memory of every stage, from the records of its files."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path

from ditgta.report.checks import read_record
from ditgta.report.evidence import Run, Score, samples_folder
from ditgta.report.findings import Cost
from ditgta.runtime.addresses import readable
from ditgta.runtime.files import record_path


def read_costs(scores: Sequence[Score], training: Sequence[Run], shared: Sequence[Path]) -> list[Cost]:
    """Return the cost of every stage and row, in the order in which the stages run.

    The score files, those of rows at other sizes and points of a sweep too, name the folders of their samples. `shared` are records
    of what rows share: images, autoencoder, latents, scorer.
    """
    records: dict[tuple[str, str], list[dict]] = defaultdict(list)
    for path in map(Path, shared):
        entries = records_of(path)
        commands = [record["command"] for record in entries if record.get("command")]
        stage = commands[0].split()[3] if commands else path.parent.parent.name  # python -m ditgta STAGE ...
        records[stage, readable(path.parent.name)] += entries
    for run in training:
        records["train", run.experiment] += records_of(run.path)
    for score in scores:
        made = records["sample", score.experiment]
        if folder := samples_folder(score, whole=False):
            made += records_of(folder / "index.json")
    for score in scores:
        made = records["loss", score.experiment]
        if score.held_out:
            made += records_of(score.held_out.path)
    for score in scores:
        records["score", score.experiment].append(score.content.get("provenance") or score.content)
    costs = [cost_of(stage, row, entries) for (stage, row), entries in records.items()]
    return [cost for cost in costs if cost.jobs]


def records_of(path: Path) -> list[dict]:
    """Return what a record says of the process that wrote it, of those that it went on from, and of those of its shards.

    An index of images says only what decides later results; who made it stands in source.json beside it.
    """
    record = read_record(path)
    made = record.get("provenance") or record  # scores and losses say it in a part of theirs
    others = [record_path(path.parent / shard["file"]) for shard in record.get("shards") or []]
    if path.name == "index.json":
        others.append(path.with_name("source.json"))
    return [made, *record.get("earlier", []), *map(read_record, filter(Path.is_file, others))]


def cost_of(stage: str, row: str, records: Sequence[dict]) -> Cost:
    """Return the cost of the processes behind some records; of several records of a process the last one counts."""
    last: dict[object, dict] = {}
    for number, record in enumerate(records):
        if "seconds" not in record:
            continue
        process = (record.get("host"), record["started"]) if "started" in record else number
        if process not in last or record["seconds"] > last[process]["seconds"]:
            last[process] = record
    jobs = sorted(last.values(), key=lambda record: record.get("started") or 0)
    return total_of(list(map(_of_job, jobs)), stage, row)


def _of_job(record: dict) -> Cost:
    """Return the cost of one job, as it recorded it."""
    count, cpu, gpu = record.get("processes") or 1, record.get("cpu_seconds"), record.get("gpu")
    gpu_hours = record["seconds"] * count * bool(gpu) / 3600
    return Cost(
        stage="",
        row="",
        jobs=1,
        seconds=record["seconds"],
        cpu_hours=None if cpu is None else cpu * count / 3600,
        gpu_hours=gpu_hours if "gpu" in record else None,  # else it does not tell whether it had one
        memory_mb=record.get("peak_memory_mb"),
        gpu_memory_mb=record.get("peak_gpu_memory_mb"),
        machines=(gpu or record.get("cpu"),),
        commands=(record.get("command"),),
        revisions=(record.get("revision"),),
    )


def total_of(costs: Sequence[Cost], stage: str = "all", row: str = "") -> Cost:
    """Return the sum of costs; hours that some stage does not tell stay unknown."""

    def of(name: str) -> list:
        return [getattr(cost, name) for cost in costs]

    return Cost(
        stage=stage,
        row=row,
        jobs=sum(of("jobs")),
        seconds=sum(of("seconds")),
        cpu_hours=_sum(of("cpu_hours")),
        gpu_hours=_sum(of("gpu_hours")),
        memory_mb=max(filter(None, of("memory_mb")), default=None),
        gpu_memory_mb=max(filter(None, of("gpu_memory_mb")), default=None),
        machines=_distinct(of("machines")),
        commands=_distinct(of("commands")),
        revisions=_distinct(of("revisions")),
    )


def _sum(hours: Sequence[float | None]) -> float | None:
    return None if None in hours else sum(hours)


def _distinct(words: Iterable[tuple[str | None, ...]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(filter(None, chain(*words))))
