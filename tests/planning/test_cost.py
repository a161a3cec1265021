"""The formulas of cost agree with a counter, with real models and with real files."""

import contextlib
from dataclasses import asdict

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from ditgta import DiT, config
from ditgta.data.shards import new_shard
from ditgta.planning import cost, estimate
from ditgta.runtime.checkpoints import write_checkpoint

CASES = [
    {"name": "DiT-S/2", "image_size": 64, "posenc": "gta", "num_classes": 10, "depth": 3},
    {
        "name": "DiT-B/4",
        "image_size": 128,
        "posenc": "rope",
        "num_classes": 1000,
        "depth": 2,
        "qk_norm": False,
    },
    {"name": "DiT-XL/2", "image_size": 64, "posenc": "abs", "num_classes": 7, "depth": 1},
    {"name": "DiT-Ti/1", "image_size": 32, "posenc": "vo", "num_classes": 10, "downsampling": 4},
    {"name": "DiT-S/4", "image_size": (64, 96), "posenc": "abs-learned", "num_classes": 3, "depth": 1},
    {"name": "DiT-L/4", "image_size": 64, "posenc": "gta-mixed", "num_classes": 3, "depth": 2},
]
# Parameters of encodings, with T tokens, D width and L blocks: what a table and frequencies for every head (H E = D) hold.
LEARNED = {
    "abs-learned": lambda T, D, L: T * D,
    "rope-mixed": lambda T, D, L: L * D,
    "gta-mixed": lambda T, D, L: L * D,
}


def built(case):
    model = DiT.from_name(**case)
    options = asdict(model.config)
    tokens = model.config.grid[0] * model.config.grid[1]
    learned = LEARNED.get(options["posenc"], lambda T, D, L: 0)
    shape = cost.Shape(
        tokens=tokens,
        width=options["width"],
        depth=options["depth"],
        patch=options["patch"],
        channels=4,
        classes=options["num_classes"],
        heads=options["heads"],
        qk_norm=options["qk_norm"],
        encoding=learned(tokens, options["width"], options["depth"]),
        encoding_flops=model.encoding.operations(),
    )
    return model, shape


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_operations_agree_with_a_counter(case, monkeypatch):
    monkeypatch.setattr(
        torch, "autocast", lambda *_, **__: contextlib.nullcontext()
    )  # meta tensors know none
    model, shape = built(case)
    model = model.to("meta").train()
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    x = torch.zeros(2, 4, *model.config.latent_size, device="meta")
    labels = torch.zeros(2, dtype=torch.long, device="meta")
    with FlopCounterMode(display=False) as counter:
        output = model(x, labels, labels)
    assert counter.get_total_flops() / 2 == pytest.approx(cost.forward_flops(shape), rel=0.02)
    with FlopCounterMode(display=False) as counter:
        model(x, labels, labels).sum().backward()
    # The fused attention's backward pass repeats one product, which the formula leaves to the efficiency.
    assert counter.get_total_flops() / 2 == pytest.approx(cost.training_flops(shape), rel=0.02)
    assert output.shape[1] == 8


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_parameters_are_exact(case):
    model, shape = built(case)
    assert cost.parameters(shape) == sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("posenc", config.POSENCS)
def test_a_plan_counts_the_parameters_of_every_encoding(posenc):
    model = config.Model(name="DiT-S/2", posenc=posenc, depth=3)
    experiment = config.Experiment(images=config.Images(size=64), model=model)
    built = DiT.from_name("DiT-S/2", 64, posenc, 7, downsampling=4, depth=3)
    found = cost.parameters(estimate.shape_of(experiment, 7))
    assert found == sum(parameter.numel() for parameter in built.parameters())


def test_a_plan_counts_the_channels_of_the_objective():
    counted, formula = [], []
    for objective in ("ddpm", "flow"):
        experiment = config.Experiment(
            images=config.Images(size=64),
            model=config.Model(name="DiT-S/2", depth=2),
            training=config.Training(objective=objective),
        )
        built = DiT.from_name("DiT-S/2", 64, "gta", 7, downsampling=4, depth=2, objective=objective)
        shape = estimate.shape_of(experiment, 7)
        assert cost.parameters(shape) == sum(parameter.numel() for parameter in built.parameters())
        x, y = torch.zeros(1, 4, 16, 16), torch.zeros(1, dtype=torch.long)
        with FlopCounterMode(display=False) as counter:
            built(x, y, y)
        counted.append(counter.get_total_flops())
        formula.append(cost.forward_flops(shape))
    assert counted[0] - counted[1] == formula[0] - formula[1] > 0


@pytest.mark.parametrize(
    "options, passes",
    [
        ({}, 20),
        ({"cfg_scale": 1}, 10),
        ({"sampler": "heun"}, 40),
        ({"cfg_interval": (0.2, 0.5)}, 13),
        ({"cfg_interval": (0.2, 0.5), "cfg_scale": 1, "sampler": "heun"}, 20),
    ],
)
def test_a_plan_counts_how_often_the_network_sees_an_image(options, passes):
    assert cost.passes_of(config.Sampling(steps=10, **options)) == pytest.approx(passes)


def test_a_plan_counts_the_tokens_of_the_size_that_is_sampled():
    shape = cost.Shape(tokens=64, width=64, depth=2, patch=2, channels=4, classes=3, heads=2)
    trained = config.Experiment(
        images=config.Images(size=32),
        autoencoder=config.Autoencoder(pixels="rgb"),
        training=config.Training(posterior="mean"),
    )
    options = {"num_samples": 5, "steps": 10, "cfg_scale": 1}
    plain, same, wide = (
        estimate.sampling_stage(config.Sampling(**options, size=size), 3, shape, trained)
        for size in (None, (32, 32), (64, 48))
    )
    assert plain == same and plain.flops == 150 * cost.forward_flops(shape)
    larger = cost.Shape(tokens=192, width=64, depth=2, patch=2, channels=4, classes=3, heads=2)
    assert wide.flops == 150 * cost.forward_flops(larger)
    assert wide.bytes == 15 * 2 * (64 * 48 * 3 + 8)


def test_a_checkpoint_is_as_large_as_predicted(tmp_path):
    model, shape = built(CASES[0])

    def copy(prefix=""):
        return {prefix + name: tensor.clone() for name, tensor in model.state_dict().items()}

    groups = {"ema": copy(), "model": copy(), "optimizer": copy("exp_avg.") | copy("exp_avg_sq.")}
    record = write_checkpoint(
        tmp_path / "0.safetensors", {"spec": {}, "step": 0, "model": asdict(model.config)}, groups
    )
    assert record["bytes"] == pytest.approx(cost.checkpoint_bytes(shape), rel=0.02)


def test_a_latent_is_as_large_as_predicted():
    shard = new_shard(range(3), np.zeros(3), (4, 32, 32))
    assert sum(array.nbytes for array in shard.values()) == 3 * cost.latent_bytes(4, 32, 32) == 3 * 32_784
