"""Cost: each process counts once, with all its processors or GPUs."""

import json

import pytest

from ditgta.report.cost import cost_of, read_costs, records_of, total_of
from ditgta.report.evidence import read_runs, read_score
from tests.report.suite import make_suite, process_record


def test_a_process_counts_once_and_by_its_last_record():
    records = [
        process_record("train", started=5.0, seconds=100.0, cpu_seconds=150.0),
        process_record("train", started=5.0, seconds=3600.0, cpu_seconds=7200.0, peak_memory_mb=700.0),
        process_record("train", started=5.0, host="node2", seconds=1800.0, cpu_seconds=1800.0, processes=4),
    ]
    cost = cost_of("train", "gta", records)
    assert (cost.jobs, cost.seconds, cost.memory_mb) == (2, 5400.0, 700.0)
    assert cost.cpu_hours == pytest.approx(2 + 4 * 0.5) and cost.gpu_hours == 0
    assert cost.machines == ("Some Processor",) and cost.revisions == ("12" * 20,)


def test_graphics_gpus_count_by_wall_time_and_processes():
    record = process_record(
        "train", 1.0, seconds=1800.0, processes=8, gpu="Some Card", peak_gpu_memory_mb=9000.0
    )
    cost = cost_of("train", "gta", [record])
    assert (
        cost.gpu_hours == pytest.approx(4.0)
        and cost.gpu_memory_mb == 9000.0
        and cost.machines == ("Some Card",)
    )


def test_what_a_record_does_not_tell_is_unknown_and_so_is_its_sum():
    bare = cost_of("train", "abs", [{"seconds": 10.0, "peak_memory_mb": 1.0}, {"seconds": 5.0}])
    assert (bare.jobs, bare.seconds, bare.cpu_hours, bare.gpu_hours) == (2, 15.0, None, None)
    total = total_of([bare, cost_of("score", "abs", [process_record("score", 1.0)])])
    assert total.seconds == 51.0 and total.cpu_hours is None and total.memory_mb == 500.0


def test_every_stage_is_found_with_its_shards_and_what_training_went_on_from(tmp_path):
    arguments = make_suite(tmp_path, milestones=(600,))
    folder = tmp_path / "samples" / "gta" / "0-600"
    for number, started in ((0, 2000.0), (1, 2500.0)):  # the second shard was made by another job
        (folder / f"{number:05d}.json").write_text(
            json.dumps(process_record("sample", started=started, seconds=7.0))
        )
    (record,) = [path for path in arguments["training"] if path.parent.parent.name == "gta"]
    earlier = [process_record("train", started=1.0, seconds=80.0)]
    record.write_text(json.dumps(json.loads(record.read_text()) | {"earlier": earlier}))
    scores = [read_score(path) for path in arguments["scores"]]
    costs = read_costs(scores, read_runs(arguments["training"]), arguments["shared"])
    found = {(cost.stage, cost.row): cost for cost in costs}
    stages = ["scorer"] + ["train"] * 3 + ["sample"] * 3 + ["score"] * 3
    assert [cost.stage for cost in costs] == stages and found["scorer", "digits"].memory_mb == 900.0
    assert (found["train", "gta"].jobs, found["train", "gta"].seconds) == (2, 4400.0)
    assert (found["sample", "gta"].jobs, found["sample", "gta"].seconds) == (2, 43.0)
    assert found["sample", "abs"].jobs == found["score", "abs"].jobs == 1


def test_a_record_that_names_its_maker_in_a_part_counts(tmp_path):
    """As those of the score and loss stages do."""
    made = process_record("loss", 1.0, seconds=20.0)
    (tmp_path / "loss.json").write_text(json.dumps({"metrics": {}, "provenance": made}))
    cost = cost_of("loss", "gta", records_of(tmp_path / "loss.json"))
    assert (cost.jobs, cost.seconds) == (1, 20.0)
