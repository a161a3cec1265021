"""The latents stage against the autoencoder's encoder alone: all that is not `AutoencoderKL.encode` must cost next to nothing.

    python -m benchmarks latent_extraction [--quick]

JPEG files of 500x375 pixels, cut from photographs, become shards of latents of 256 pixels as in the stage: decoded, cropped, mirrored,
encoded, rounded, written, hashed. The peer encodes ready tensors of the same images in the same batches. The autoencoder has the
architecture of Stable Diffusion's; its weights are random, which changes no time.
"""

import tempfile
from collections.abc import Iterable
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from statistics import median

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_sample_images

from benchmarks.rows import Row, by_turns
from benchmarks.steps import DEVICE, this_process
from ditgta.data.autoencoder import stable_diffusion_autoencoder, to_model_range
from ditgta.data.images import ImageIndex, load_index
from ditgta.stages import images
from ditgta.stages.latents import Encoder

SIZE, WIDTH, HEIGHT = 256, 500, 375


def photographs(folder: Path, count: int) -> ImageIndex:
    """Writes JPEG files of two classes, random cuts of two photographs, and returns their index."""
    rng, pictures = np.random.default_rng(0), load_sample_images().images
    for i in range(count):
        picture = pictures[i % len(pictures)]
        top, left = (rng.integers(0, side - wanted) for side, wanted in zip(picture.shape, (HEIGHT, WIDTH)))
        path = folder / "source" / str(i % len(pictures)) / f"{i}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture[top : top + HEIGHT, left : left + WIDTH]).save(path, quality=95)
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        images.run(folder / "index", {"source": str(folder / "source"), "size": SIZE, "on_error": "stop"})
    return load_index(folder / "index")


def measure(batch_size: int, batches: int, rounds: int) -> dict[str, list[float]]:
    """Return the seconds, in each round, of the stage's loop, of the encoder alone, and of the encoder in torch's usual memory format."""
    torch.manual_seed(0)
    vae = stable_diffusion_autoencoder().eval().requires_grad_(False)
    usual = stable_diffusion_autoencoder().eval().requires_grad_(False)
    vae, usual = vae.to(DEVICE, memory_format=torch.channels_last), usual.to(DEVICE)
    group, count = this_process(), batch_size * batches
    with tempfile.TemporaryDirectory() as name, redirect_stderr(StringIO()):
        index, out = photographs(Path(name), count), Path(name) / "latents"
        pixels = np.stack([index.image(i) for i in range(count)])
        both = np.stack([pixels, pixels[:, :, ::-1]], 1).reshape(-1, *pixels.shape[1:])
        both = to_model_range(both, DEVICE)
        ready = both.contiguous(memory_format=torch.channels_last).split(2 * batch_size)
        as_usual = both.contiguous().split(2 * batch_size)

        def encode(vae, tensors) -> None:
            with torch.no_grad():
                for tensor in tensors:
                    vae.encode(tensor)

        calls = {
            "stage": lambda: Encoder(index, vae, {}, batch_size).make([(0, range(count))], out, group),
            "encoder": lambda: encode(vae, ready),
            "usual": lambda: encode(usual, as_usual[:1]),
        }
        for encoder, tensors in ((vae, ready), (usual, as_usual)):  # the first call of each allocates
            encode(encoder, [tensors[0][:1]])
        seconds = by_turns(calls, rounds)
    return {**seconds, "usual": [encoder * batches for encoder in seconds["usual"]]}


def rows(quick: bool) -> Iterable[Row]:
    """Yield what all but the encoder adds to its time, and what the memory format saves."""
    batch_size, batches, rounds = (1, 2, 1) if quick else (4, 2, 3)
    seconds = measure(batch_size, batches, rounds)
    count = batch_size * batches
    what = f"latents of {count} JPEG files at 256 px, batch {batch_size}, both sides"
    yield Row(
        f"{what}: all but the encoder",
        f"{median(seconds['stage']):.2f} s",
        f"{median(seconds['encoder']):.2f} s (AutoencoderKL.encode on ready tensors)",
        median(stage / encoder - 1 for stage, encoder in zip(seconds["stage"], seconds["encoder"])),
        "<= 0.05",
    )
    yield Row(
        f"{what}: channels_last",
        f"{median(seconds['encoder']):.2f} s",
        f"{median(seconds['usual']):.2f} s (contiguous)",
        median(encoder / usual for encoder, usual in zip(seconds["encoder"], seconds["usual"])),
    )
