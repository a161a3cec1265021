"""What compiling promises, seen on a CPU: one graph for all blocks, static shapes, float32 gradients where eager ones are float32."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch._dynamo.backends.debugging import aot_eager

from ditgta import DiT, kernels
from ditgta.config import POSENCS, Sampling, Training
from ditgta.data.autoencoder import small_autoencoder
from ditgta.sampling import Sampler
from tests.conftest import ROOT
from tests.kernels.test_cpu import draws, shaken

SIZES = {"depth": 3, "width": 48, "heads": 2}


def small(posenc="gta", **more):
    return shaken(DiT.from_name("DiT-S/2", 64, posenc, 5, **{**SIZES, **more}))


@pytest.fixture
def graphs(monkeypatch):
    """Returns the list to which every compiled graph is added; none is made into code."""
    torch._dynamo.reset()
    found = []

    def keep(graph, inputs):
        found.append(graph)
        return aot_eager(graph, inputs)

    static = kernels.fixed_shapes()
    monkeypatch.setattr(kernels, "fixed_shapes", lambda: {**static, "backend": keep})
    yield found
    torch._dynamo.reset()


def symbols(graph) -> list:
    """Returns the sizes in a graph's inputs that are not plain numbers."""
    shapes = [node.meta["example_value"] for node in graph.graph.nodes if node.op == "placeholder"]
    sizes = [
        size for value in shapes for size in (value.shape if isinstance(value, torch.Tensor) else [value])
    ]
    return [size for size in sizes if isinstance(size, torch.SymInt)]


def passed(model, images=2):
    """Makes a forward and a backward pass in bf16."""
    x, t, y = draws(images, 4, 8, 8), 100 * torch.arange(images), torch.arange(images) % 5
    with torch.autocast("cpu", torch.bfloat16):
        output = model(x, t, y)
    (output.float() * draws(*output.shape, seed=1)).sum().backward()


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("posenc", POSENCS)
def test_all_blocks_share_one_graph(graphs, posenc, recompute):
    model = small(posenc)
    model.checkpoint_gradients = recompute
    kernels.choose(model, compile=True)
    passed(model)
    assert len(graphs) == 2  # of the blocks, and of the last layer


def test_a_second_batch_size_has_a_static_graph_of_its_own(graphs):
    model = small()
    kernels.choose(model, compile=True)
    for images in (1, 4, 3, 4):
        passed(model, images)
    assert len(graphs) == 6 and not any(map(symbols, graphs))


def test_a_trainer_of_several_processes_settles_with_the_shape_of_its_steps(graphs):
    from benchmarks.steps import random_batch, trainer_of

    trainer = trainer_of(small(), Training(batch_size=8, compile=True))
    trainer.group.count = 2
    trainer.settle(4)
    batch = random_batch(trainer.network, 4)
    made = len(graphs)
    trainer.step(batch)
    trainer.step(batch)
    assert made == 2 and len(graphs) == 4  # and those of add_noise and losses
    assert not any(map(symbols, graphs))


def test_a_last_batch_is_filled_up_and_its_surplus_dropped(graphs):
    network, vae = small(latent_channels=4), small_autoencoder([8, 8, 8, 8], 4, 64)
    options = Sampling(steps=2, cfg_scale=2, batch_size=4)
    plain, compiled = (
        Sampler(network, vae, options.model_copy(update={"compile": compile, "kernels": "off"}))
        for compile in (False, True)
    )
    for indices in (range(4), range(4, 7)):
        labels = [index % 5 for index in indices]
        expected, found = (sampler(list(indices), labels) for sampler in (plain, compiled))
        assert found.shape == expected.shape == (len(indices), 64, 64, 3)
        assert np.abs(found.astype(int) - expected).max() <= 1
    assert len(graphs) == 2 and not any(map(symbols, graphs))


def is_rounded(tensor):
    return bool((tensor == tensor.bfloat16().float()).all())


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_gradients_are_rounded_only_where_they_are_without_the_compiler(monkeypatch, backend):
    static = kernels.fixed_shapes()
    monkeypatch.setattr(kernels, "fixed_shapes", lambda: {**static, "backend": backend})
    eager, compiled = small(), small()
    kernels.choose(eager, "off")
    kernels.choose(compiled, "off", compile=True)
    for model in (eager, compiled):
        passed(model, 8)
    rounded = {name: is_rounded(parameter.grad) for name, parameter in eager.named_parameters()}
    assert not any(value for name, value in rounded.items() if "adaLN" in name) and any(rounded.values())
    for name, parameter in compiled.named_parameters():
        assert rounded[name] or not is_rounded(parameter.grad), name


@pytest.mark.slow
@pytest.mark.parametrize("posenc", POSENCS)
def test_compiled_code_gives_the_plain_gradients(posenc):
    """The compiler's own code, of a network whose tokens come from a real patch embedding."""
    torch._dynamo.reset()
    plain, compiled = small(posenc), small(posenc)
    kernels.choose(compiled, "off", compile=True)
    for model in (plain, compiled):
        x, t, y = draws(4, 4, 8, 8), 100 * torch.arange(4), torch.arange(4)
        output = model(x, t, y)
        (output * draws(*output.shape, seed=1)).sum().backward()
    for (name, one), other in zip(plain.named_parameters(), compiled.parameters()):
        assert (one.grad - other.grad).norm() <= 1e-5 * one.grad.norm() + 1e-7, name


def test_tokens_lie_one_after_the_other():
    assert small().x_embedder(draws(2, 4, 8, 8)).is_contiguous()


def graphs_under_ddp() -> None:
    """Prints how many graphs a network of three blocks has under DistributedDataParallel with small buckets."""
    import torch.distributed as dist

    dist.init_process_group("gloo", init_method="tcp://127.0.0.1:0", rank=0, world_size=1)
    found, static = [], kernels.fixed_shapes()

    def keep(graph, inputs):
        found.append(graph)
        return aot_eager(graph, inputs)

    kernels.fixed_shapes = lambda: {**static, "backend": keep}
    model = small(width=256)
    kernels.choose(model, "off", compile=True)
    parallel = torch.nn.parallel.DistributedDataParallel(
        model, broadcast_buffers=False, gradient_as_bucket_view=True, bucket_cap_mb=2
    )
    for _ in range(2):
        passed(parallel)
    print("graphs", len(found))
    dist.destroy_process_group()


def test_a_graph_is_not_cut_where_buckets_of_gradients_end():
    code = "from tests.kernels import test_compile; test_compile.graphs_under_ddp()"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert "graphs 2" in done.stdout, done.stderr[-2000:]
