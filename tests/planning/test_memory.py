"""The formulas of memory agree with what autograd keeps and with what PyTorch hands out."""

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks import memory as benchmark
from benchmarks.latent_reading import write_both_layouts
from benchmarks.steps import random_batch, trainer_of
from ditgta import DiT, kernels
from ditgta.config import POSENCS, Experiment, Images, Model, Training
from ditgta.planning import memory
from ditgta.planning.estimate import shape_of


def built(posenc, depth, side=64, layers="cpu", **training):
    network = DiT.from_name("DiT-S/2", side, posenc, 10, depth=depth)
    experiment = Experiment(
        images=Images(size=side),
        autoencoder={"pretrained": "any"},
        model=Model(name="DiT-S/2", posenc=posenc, depth=depth),
    )
    shape = shape_of(experiment, 10)
    step = memory.Pass(
        images=3,
        layers=layers,
        bf16=training.get("precision") == "bf16",
        checkpoint_gradients=training.get("checkpoint_gradients", False),
        **memory.traits(network.encoding),
    )
    return network, shape, step


def kept(network, precision) -> int:
    """Returns the bytes that autograd keeps for the backward pass, without the network's own tensors."""
    own = {tensor.untyped_storage().data_ptr() for tensor in network.state_dict(keep_vars=True).values()}
    own |= {tensor.untyped_storage().data_ptr() for tensor in network.buffers()}
    found = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            found[storage.data_ptr()] = storage
        return tensor

    batch = random_batch(network, 3)
    autocast = torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16")
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor), autocast:
        output = network.train()(batch["x0"], 1000 * batch["u"], batch["y"])
    assert output.requires_grad
    return sum(storage.nbytes() for storage in found.values())


@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("layers", ["cpu", "compiled", "plain"])
@pytest.mark.parametrize("posenc", POSENCS)
def test_a_block_keeps_what_is_predicted(monkeypatch, posenc, layers, precision):
    torch._dynamo.reset()
    # What the compiler keeps is decided before it writes code.
    static = {**kernels.fixed_shapes(), "backend": "aot_eager_decomp_partition"}
    monkeypatch.setattr(kernels, "fixed_shapes", lambda: static)
    networks = [built(posenc, depth, layers=layers, precision=precision) for depth in (1, 2)]
    for network, *_ in networks:
        kernels.choose(network, "auto" if layers == "cpu" else "off", compile=layers == "compiled")
    one, two = (kept(network, precision) for network, *_ in networks)
    assert memory.block_bytes(*networks[1][1:]) == pytest.approx(two - one, rel=0.01)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize(("posenc", "depth"), [("gta", 1), ("gta", 4), ("gta-mixed", 2), ("liere", 2)])
def test_a_step_holds_what_is_predicted(posenc, depth, checkpointing):
    network, shape, step = built(posenc, depth, 128, checkpoint_gradients=checkpointing)
    trainer = trainer_of(network, Training(batch_size=3, checkpoint_gradients=checkpointing))
    batch = random_batch(network, 3)
    trainer.step(batch)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        trainer.step(batch)
    events = [event for event in seen.profiler.kineto_results.events() if event.name() == "[memory]"]
    now = most = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        most = max(most, now)
    assert memory.pass_bytes(shape, step) == pytest.approx(most, rel=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("case", benchmark.CASES, ids=lambda case: case.name)
def test_a_training_takes_what_a_plan_says(case, tmp_path):
    write_both_layouts(tmp_path, 64, (4, 32, 32))
    took = benchmark.measured(case, tmp_path / "shards", tmp_path / "out")
    assert benchmark.predicted(case) == pytest.approx(took, rel=0.1)
