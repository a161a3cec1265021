"""Operations of the networks beside the transformer: autoencoder, scorer, second judge. Counted on tensors without data."""

import functools
from pathlib import Path

import torch
from safetensors import safe_open
from torch.utils.flop_counter import FlopCounterMode

from ditgta.config import Autoencoder
from ditgta.data.autoencoder import small_autoencoder, stable_diffusion_autoencoder
from ditgta.planning import cost
from ditgta.runtime.files import expanded
from ditgta.scoring.dinov2 import sizes_of


@functools.cache
def autoencoder_cost(options: Autoencoder, sides: tuple[int, int]) -> tuple[float, float, float]:
    """Return the operations of encoding and of decoding one image of a height and width, and the bytes of the weights."""
    if options.pixels:
        return 0.0, 0.0, 0.0
    height, width = sides
    with torch.device("meta"):
        if options.pretrained:
            vae = stable_diffusion_autoencoder()
        else:
            vae = small_autoencoder(options.widths, options.latent_channels, height)
        image = torch.zeros(1, 3, height, width)
        latent = torch.zeros(1, vae.config.latent_channels, *(s // options.downsampling for s in sides))
    encode, decode = _count(vae, image, method="encode"), _count(vae, latent, method="decode")
    return encode, decode, 4.0 * sum(parameter.numel() for parameter in vae.parameters())


@functools.cache
def inception_flops(width: float, side: int) -> float:
    """Return the operations of scoring one image with an Inception network of a width, at an input side."""
    from ditgta.scoring.inception import InceptionV3

    network = InceptionV3(width=width, input_size=side)
    return _count(network, torch.zeros(1, 3, side, side, device="meta"), method="classify")


def _count(module: torch.nn.Module, *inputs: torch.Tensor, method: str = "forward") -> float:
    """Return the operations of one call, counted on tensors without data."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        getattr(module.eval().to("meta"), method)(*inputs)
    return float(counter.get_total_flops())


def judge_sizes(weights: str) -> tuple[int, int, int]:
    """Return width, depth and registers of a second judge, as the tensors in its file say or, without, as `cost.judge_sizes`."""
    try:
        return sizes_of(_shapes(expanded(weights)))
    except ValueError:
        return cost.judge_sizes(weights)


def _shapes(path: Path) -> dict[str, list[int]]:
    """Return the shapes of a file's tensors, of which nothing is read; {} where it cannot be told: `check` says why."""
    try:
        with open(path, "rb") as file:
            is_safetensors = file.read(9)[8:] == b"{"
        if is_safetensors:
            with safe_open(path, framework="pt") as tensors:
                return {name: tensors.get_slice(name).get_shape() for name in tensors.keys()}  # noqa: SIM118
        tensors = torch.load(path, mmap=True, map_location="cpu", weights_only=True)
        return {name: list(tensor.shape) for name, tensor in tensors.items()}
    except Exception:  # torch and safetensors raise many types
        return {}
