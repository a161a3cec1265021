"""What a table cost: processor and GPU hours and peak memory of every stage, from the records of its files."""

from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path

from ditgta.report.checks import read_record
from ditgta.report.evidence import Score, run_of, samples_folder
from ditgta.report.findings import Cost
from ditgta.runtime.addresses import readable
from ditgta.runtime.files import record_path


def read_costs(
    scores: Sequence[Score],
    training: Sequence[Path],
    shared: Sequence[Path],
    names: Sequence[tuple[str, int]] | None = None,
) -> list[Cost]:
    """Returns the cost of every stage and row, in the order in which the stages run.

    The score files, those of rows at other sizes and points of a sweep too, name the folders of their samples. `training` are
    records of checkpoints, and `names` experiment and seed of each, where it is not for the records to say; `shared` are records of
    what rows share: images, autoencoder, latents, scorer.
    """
    records: dict[tuple[str, str], list[dict]] = {}
    for path in map(Path, shared):
        entries = records_of(path)
        stage = next((_stage(record) for record in entries if record.get("command")), path.parent.parent.name)
        records.setdefault((stage, readable(path.parent.name)), []).extend(entries)
    for path, name in zip(map(Path, training), names or [None] * len(training)):
        experiment = (name or run_of(path, read_record(path)))[0]
        records.setdefault(("train", experiment), []).extend(records_of(path))
    for stage in ("sample", "loss", "score"):
        for score in scores:
            made: list[dict] = []
            if stage == "sample" and (folder := samples_folder(score, whole=False)):
                made = records_of(folder / "index.json")
            elif stage == "loss" and score.held_out:
                made = records_of(score.held_out.path)
            elif stage == "score":
                made = [score.content.get("provenance") or score.content]
            records.setdefault((stage, score.experiment), []).extend(made)
    costs = [cost_of(stage, row, entries) for (stage, row), entries in records.items()]
    return [cost for cost in costs if cost.jobs]


def records_of(path: Path) -> list[dict]:
    """Returns what a record says of the process that wrote it, of those that it went on from, and of those of its shards.

    An index of images says only what decides later results; who made it stands in source.json beside it.
    """
    record = read_record(path)
    others = [record_path(path.parent / shard["file"]) for shard in record.get("shards") or []]
    if path.name == "index.json":
        others.append(path.with_name("source.json"))
    return [record, *record.get("earlier", []), *(read_record(other) for other in others if other.is_file())]


def cost_of(stage: str, row: str, records: Sequence[dict]) -> Cost:
    """Returns the cost of the processes behind some records; of several records of a process the last one counts."""
    last: dict[object, dict] = {}
    for number, record in enumerate(records):
        if "seconds" not in record:
            continue
        process = (record.get("host"), record["started"]) if "started" in record else number
        if process not in last or record["seconds"] > last[process]["seconds"]:
            last[process] = record
    jobs = sorted(last.values(), key=lambda record: record.get("started") or 0)
    counts = [record.get("processes") or 1 for record in jobs]
    cpu = [record.get("cpu_seconds") for record in jobs]
    machines = [record.get("gpu") or record.get("cpu") for record in jobs]
    return Cost(
        stage=stage,
        row=row,
        jobs=len(jobs),
        seconds=sum(record["seconds"] for record in jobs),
        cpu_hours=None if None in cpu else sum(s * n for s, n in zip(cpu, counts)) / 3600,
        gpu_hours=_gpu_hours(jobs, counts),
        memory_mb=_most(record.get("peak_memory_mb") for record in jobs),
        gpu_memory_mb=_most(record.get("peak_gpu_memory_mb") for record in jobs),
        machines=_distinct(machines),
        commands=_distinct(record.get("command") for record in jobs),
        revisions=_distinct(record.get("revision") for record in jobs),
    )


def _gpu_hours(jobs: Sequence[dict], counts: Sequence[int]) -> float | None:
    """Returns the hours of all processes on GPUs, None where a record does not tell whether it had one."""
    if not all("gpu" in record for record in jobs):
        return None
    return sum(record["seconds"] * count for record, count in zip(jobs, counts) if record["gpu"]) / 3600


def total_of(costs: Sequence[Cost]) -> Cost:
    """Returns the sum of costs; hours that some stage does not tell stay unknown."""
    return Cost(
        stage="all",
        row="",
        jobs=sum(cost.jobs for cost in costs),
        seconds=sum(cost.seconds for cost in costs),
        cpu_hours=_sum([cost.cpu_hours for cost in costs]),
        gpu_hours=_sum([cost.gpu_hours for cost in costs]),
        memory_mb=_most(cost.memory_mb for cost in costs),
        gpu_memory_mb=_most(cost.gpu_memory_mb for cost in costs),
        machines=_distinct(chain(*(cost.machines for cost in costs))),
        commands=(),
        revisions=_distinct(chain(*(cost.revisions for cost in costs))),
    )


def _sum(hours: Sequence[float | None]) -> float | None:
    return None if None in hours else sum(hours)


def _most(values: Iterable[float | None]) -> float | None:
    return max(filter(None, values), default=None)


def _distinct(words: Iterable[str | None]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(filter(None, words)))


def _stage(record: dict) -> str:
    """Returns the stage's word of a command: python -m ditgta STAGE ..."""
    return record["command"].split()[3]
