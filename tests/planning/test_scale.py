"""The plan says what several processes send, read and hold, and nothing where there is nothing to say."""

import json

import pytest

from ditgta.__main__ import main
from ditgta.planning import cost
from ditgta.planning.estimate import DECODE_SECONDS
from ditgta.planning.machine import CORES_PER_GPU, GPU_EFFICIENCY

# DiT-B/2 at 256 pixels.
SHAPE = cost.Shape(tokens=256, width=768, depth=12, patch=2, channels=4, classes=1000, heads=12)


def planned(tmp_path, capsys, *words) -> tuple[dict, str]:
    assert main(["plan", "--suite", "paper", "--out", str(tmp_path / "plan.json"), *words]) == 0
    return json.loads((tmp_path / "plan.json").read_text()), capsys.readouterr().out


def test_the_time_of_an_average_follows_the_bandwidth(tmp_path, capsys):
    node, text = planned(tmp_path, capsys, "--device", "a100", "--devices", "4")
    nodes, _ = planned(tmp_path, capsys, "--device", "a100", "--devices", "32", "--nodes", "8")
    slow, _ = planned(tmp_path, capsys, "--device", "a100", "--devices", "4", "--bandwidth", "10")
    for found, count, bandwidth in ((node, 4, 300e9), (nodes, 32, 25e9), (slow, 4, 10e9)):
        sent = 2 * (count - 1) / count * 4 * cost.parameters(SHAPE)
        assert found["scale"]["allreduce_bytes"] == pytest.approx(sent)
        assert found["scale"]["allreduce_seconds"] == pytest.approx(sent / bandwidth)
    assert "= 782 MB, / 300 GB/s = 2.61 ms" in text and len(text.splitlines()) < 30


def test_hours_are_those_of_the_products_that_a_stage_makes(tmp_path, capsys):
    found, _ = planned(tmp_path, capsys, "--device", "a100", "--devices", "4", "--efficiency", "0.35")
    stages = {stage["stage"]: stage for stage in found["stages"]}
    for name, products, rate in (
        ("latents", "tf32", 156e12),
        ("train", "tf32", 156e12),
        ("sample", "tf32", 156e12),
        ("score", "float32", 19.5e12),  # scores are computed in float32 whatever the options
    ):
        stage = stages[name]
        assert stage["products"] == products
        seconds = stage["flops"] / (4 * 0.35 * rate) + stage["core_seconds"] / (4 * CORES_PER_GPU)
        assert stage["hours"] == pytest.approx([seconds / 3600] * 2)
    assert stages["latents"]["core_seconds"] == pytest.approx(1_281_167 * DECODE_SECONDS)


def test_hours_are_a_range_where_the_share_of_the_peak_rate_is_not_known(tmp_path, capsys):
    found, text = planned(tmp_path, capsys, "--device", "a100", "--devices", "4")
    train = next(stage for stage in found["stages"] if stage["stage"] == "train")
    expected = [train["flops"] / (4 * share * 156e12) / 3600 for share in reversed(GPU_EFFICIENCY)]
    assert train["hours"] == pytest.approx(expected) and "4 x a100, 12% to 25% of the peak rate" in text


def test_without_a_device_the_plan_is_for_this_machine(tmp_path, capsys):
    found, text = planned(tmp_path, capsys)
    assert "measured" in found["device"] and "of this machine" in text


def test_the_loader_reads_one_side_of_each_image_of_a_step(tmp_path, capsys):
    words = ("--device", "a100", "--devices", "32", "--nodes", "8", "--efficiency", "0.35")
    found, _ = planned(tmp_path, capsys, *words)
    scale = found["scale"]
    step = scale["compute_seconds"] + scale["allreduce_seconds"]
    assert scale["compute_seconds"] == pytest.approx(256 * cost.training_flops(SHAPE) / (32 * 0.35 * 156e12))
    assert scale["loader_bytes_per_second_and_node"] == pytest.approx(256 / step / 8 * 2 * 2 * 4 * 32 * 32)
    assert scale["latent_shards"] == 256 and scale["sample_shards"] == 196


def test_memory_falls_with_the_share_of_the_batch(tmp_path, capsys):
    few, _ = planned(tmp_path, capsys, "--device", "a100", "--devices", "4")
    many, _ = planned(tmp_path, capsys, "--device", "a100", "--devices", "8")
    few, many = (found["scale"]["memory"]["imagenet256-gta"] for found in (few, many))
    gradients = 4 * cost.parameters(SHAPE)
    assert few["state"] == many["state"] == 4 * gradients
    assert few["work"] - gradients == pytest.approx(2 * (many["work"] - gradients), rel=0.01)


def test_what_has_no_gpus_trains_in_one_process(tmp_path, capsys):
    found, text = planned(tmp_path, capsys, "--device", "laptop", "--devices", "8")
    assert found["scale"]["processes"] == 1 and found["scale"]["allreduce_bytes"] == 0
    assert "nothing is sent" in text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--device", "a100", "--devices", "4", "--nodes", "3"], "4 processes"),
        (["--bandwidth", "0"], "--bandwidth must be above 0"),
    ],
)
def test_impossible_machines_are_refused(words, said, capsys):
    assert main(["plan", "--suite", "paper", *words]) == 2
    assert said in capsys.readouterr().err
