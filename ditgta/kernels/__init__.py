"""How a network computes: by the plain layers, by the plain layers compiled, or by kernels for CPUs.

The layers of `ditgta.model` say what is meant; compiled, they are what runs on GPUs. A kernel is a subclass of a layer with the
same parameters, which `choose` puts in the layer's place. What was chosen changes rounding alone, and is recorded.
"""

import copy
import importlib.util
from collections.abc import Callable

import torch
from torch import nn

from ditgta.kernels import cpu
from ditgta.model.dit import DiT
from ditgta.runtime.processes import numerics


def choose(network: DiT, kernels: str = "auto", compile: bool | None = None) -> dict[str, str | bool]:
    """Decide, in place, how a network on its device computes.

    Args:
        kernels: "auto" takes the kernels for CPUs where the network is on a CPU; "off" the plain layers.
        compile: compile blocks and last layer; None does so where a GPU and Triton are.

    Returns:
        What rounding depends on: what was chosen (kernels: "cpu" or "off", compile: bool), device, versions of libraries.
    """
    device = network.device
    on_cpu = device.type == "cpu"
    if compile is None:
        compile = not on_cpu and has_triton()
    chosen = "cpu" if kernels == "auto" and on_cpu else "off"
    if chosen == "cpu":
        cpu.apply(network, compile)
    if compile:
        for layer in (*network.blocks, network.final_layer):
            layer.compile(**fixed_shapes())
    return {"kernels": chosen, "compile": compile, **numerics(device, compile)}


def has_triton() -> bool:
    """Return whether there is a GPU, and Triton to compile for it."""
    return torch.cuda.is_available() and importlib.util.find_spec("triton") is not None


def compiled(function: Callable, compile: bool) -> Callable:
    """Return a function of tensors, compiled where `compile` says so."""
    return torch.compile(function, **fixed_shapes()) if compile else function


def fixed_shapes() -> dict:
    """Return how everything here is compiled: each shape by itself, without graph breaks."""
    # One graph for a block, not one for each bucket of gradients: hooks overlap their sums with other blocks' work all the same.
    torch._dynamo.config.optimize_ddp = False
    # Gradients of layers outside autocast are float32, as they are without the compiler.
    torch._functorch.config.backward_pass_autocast = "off"
    return {"fullgraph": True, "dynamic": False}


def for_inference(
    network: DiT, dtype: torch.dtype | None = None, kernels: str = "auto", compile: bool | None = None
) -> tuple[DiT, dict]:
    """Return a network of the same weights that computes without gradients, and what was chosen for it.

    Given a `dtype`, its linear layers, but for the modulations', hold weights of that type: as autocast rounds them, once for all
    passes.
    """
    network = copy.deepcopy(network, {id(tensor): tensor for tensor in network.parameters()})
    network.encoding.keep_tables(frozen=True)
    network.encoding.to(network.device)  # tables are made where their frequencies are
    for name, layer in network.named_modules():
        if dtype and isinstance(layer, nn.Linear) and "adaLN_modulation" not in name:
            layer.weight, layer.bias = (_rounded(tensor, dtype) for tensor in (layer.weight, layer.bias))
    chosen = choose(network, kernels, compile)
    if chosen["kernels"] == "cpu" and not chosen["compile"]:
        cpu.reorder(network)
    return network, chosen


def _rounded(tensor: torch.Tensor, dtype: torch.dtype) -> nn.Parameter:
    return nn.Parameter(tensor.detach().to(dtype), requires_grad=False)
