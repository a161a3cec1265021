"""Show encoding: what encodings make of places, and how far trained networks attend, as one picture."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ditgta.diffusion.samplers import sample
from ditgta.loading import load
from ditgta.model.dit import DiT, DiTConfig
from ditgta.model.positional import PositionalEncoding, encoding_class
from ditgta.model.similarity import Look, attention_distances, look, mean_distances, uniform_distance
from ditgta.report.drawing import write_picture
from ditgta.report.encodings import SLOW, distance_figure, encoding_figure
from ditgta.runtime.errors import InputError
from ditgta.runtime.streams import generator
from ditgta.sampling import draw_ahead

IMAGES, STEPS = 8, 10


def run(names: list[str], out: Path, model: str, image_size: int) -> None:
    """Write a picture with a row for each encoding, and below it, where checkpoints are given, how far their blocks attend.

    Raises InputError for an unknown encoding or an unusable checkpoint.

    Args:
        names: encodings as they start, names of POSENCS or MODULE:CLASS; or checkpoints (.safetensors) with what they learned.
        model: named size of the network in which the encodings stand, for those that are not of a checkpoint.
        image_size: side of its images in pixels, of which a latent pixel stands for 8.
    """
    looks, distances, uniform = [], {}, 0.0
    for name in names:
        if name.endswith(".safetensors"):
            network = load(name)
            encoding, label = network.encoding, "/".join(Path(name).with_suffix("").parts[-3:])
            distances[label], uniform = distances_of(network), uniform_distance(*network.config.grid)
        else:
            encoding, label = _untrained(name, model, image_size), name
        looks.append((label, look(encoding)))
        print(f"{label}: {_in_words(looks[-1][1])}")
    picture = encoding_figure(looks).image()
    if distances:
        picture = _below(picture, distance_figure(distances, uniform).image())
    write_picture(out, picture)


@torch.no_grad()
def _untrained(name: str, model: str, image_size: int) -> PositionalEncoding:
    """Return an encoding as it starts in a network of a named size."""
    try:
        config = DiTConfig.from_name(model, image_size, name)
    except ValueError as error:
        raise InputError(str(error)) from None
    encoding = encoding_class(config.posenc)(*config.grid, config.width, config.heads, config.depth)
    for own, parameter in encoding.named_parameters():
        parameter.copy_(encoding.initial(own, generator(0, "weights", f"encoding.{own}")))
    return encoding


@torch.inference_mode()
def distances_of(network: DiT, images: int = IMAGES, steps: int = STEPS) -> np.ndarray:
    """Return the mean attention distance in tokens of each block and head, (L, H), over the passes that sample some images.

    The noise is that of the sample stage's first images, their labels take turns; nothing is guided.
    """
    y = torch.arange(images) % network.num_classes
    shape = (network.config.latent_channels, *network.config.latent_size)
    noise = next(draw_ahead(0, list(range(images)), shape, 1, network.device))
    sampler = "ddim" if network.config.objective == "ddpm" else "euler"
    with attention_distances(network) as passes:
        sample(lambda x, t: network(x.float(), torch.full((1,), t), y), noise, sampler, steps, lambda: noise)
    return mean_distances(passes).numpy()


def _in_words(seen: Look) -> str:
    """Return what share of the pairs says little of places."""
    if seen.turns is None:
        return "no pair of channels turns along a direction"
    turns = seen.turns.norm(dim=-1)[0]
    slow = f"{float((turns < SLOW).double().mean()):.0%}"
    return f"{turns.shape[-1]} pairs a head, {slow} of which make less than {SLOW:g} turns across the grid"


def _below(upper: Image.Image, lower: Image.Image) -> Image.Image:
    """Return two pictures one below the other, on white."""
    size = (max(upper.width, lower.width), upper.height + lower.height)
    canvas = Image.new("RGB", size, "white")
    canvas.paste(upper, (0, 0))
    canvas.paste(lower, (0, upper.height))
    return canvas
