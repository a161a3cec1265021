"""From noise and labels to pixels: what the sample stage and the pipeline share."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ditgta.config import Sampling
from ditgta.config.names import STOCHASTIC_SAMPLERS, sampler_fault
from ditgta.data.ahead import map_ahead
from ditgta.data.autoencoder import autoencoder_sha256, decode_uint8, downsampling, load_autoencoder
from ditgta.diffusion.samplers import sample
from ditgta.diffusion.schedule import TIMESTEPS
from ditgta.kernels import for_inference
from ditgta.loading import load
from ditgta.model.dit import DiT
from ditgta.model.guidance import guided
from ditgta.model.resizing import resized
from ditgta.runtime.checkpoints import read_header
from ditgta.runtime.errors import InputError
from ditgta.runtime.streams import generator


def image_label(rule: str, seed: int, index: int, num_classes: int) -> int:
    """Return the label of a sampled image: uniform at random, or balanced and interleaved (0, 1, 2, ..., 0, 1, ...)."""
    if rule == "balanced":
        return index % num_classes
    return int(generator(seed, "sample label", index).integers(num_classes))


def draw_ahead(
    seed: int, indices: list[int], shape: tuple[int, ...], count: int, device: torch.device
) -> Iterator[torch.Tensor]:
    """Yield `count` times standard normal noise for some images, (B, C, h, w), drawn while the network computes.

    Each image has a stream of its own, read from its beginning.
    """
    streams = [generator(seed, "sample noise", index) for index in indices]

    def draw(_) -> torch.Tensor:
        noise = torch.empty((len(streams), *shape), pin_memory=device.type == "cuda")
        for stream, image in zip(streams, noise.numpy()):
            stream.standard_normal(out=image, dtype=np.float32)
        return noise

    for noise in map_ahead(draw, range(count), threads=1, ahead=2):
        yield noise.to(device, non_blocking=True)


def load_both(
    checkpoint: Path, autoencoder: Path, device: torch.device | str, ema_decay: float | None = None
) -> tuple[DiT, Any, dict]:
    """Return the network of a checkpoint's EMA weights, an autoencoder's folder as AutoencoderKL, and the checkpoint's header.

    `ema_decay`: of the average that is taken, where the checkpoint has several; None: the first. Raises InputError if one of them cannot
    be used, or they do not belong together.
    """
    header = read_header(checkpoint)
    network = load(checkpoint, ema_decay=ema_decay).to(device)
    vae = load_autoencoder(autoencoder, device)
    trained_on = header.autoencoder_sha256
    if trained_on and trained_on != autoencoder_sha256(autoencoder):
        raise InputError(
            f"{checkpoint} was trained on latents of another autoencoder than {autoencoder}; give the autoencoder of its training"
        )
    channels = vae.config.latent_channels
    if channels != network.config.latent_channels:
        raise InputError(
            f"{autoencoder} has {channels} latent channels, but {checkpoint} needs {network.config.latent_channels}; give the autoencoder of its training"
        )
    classes = header.classes
    if classes is not None and len(classes) != network.num_classes:
        raise InputError(
            f"{checkpoint} names {len(classes)} classes but has {network.num_classes}; give another checkpoint"
        )
    return network, vae, header


def _of_size(network: DiT, pixels: int, options: Sampling) -> DiT:
    """Return a network for images of the size that is asked for; `pixels`: image pixels per latent pixel and side."""
    unit = pixels * network.config.patch
    if any(side % unit for side in options.size):
        size = "x".join(map(str, options.size))
        raise InputError(
            f"size {size} does not suit the network: sides must be multiples of {unit} (autoencoder {pixels} x patch {unit // pixels})"
        )
    height, width = (side // pixels for side in options.size)
    try:
        return resized(network, (height, width), options.positions, options.temperature)
    except ValueError as error:
        raise InputError(str(error)) from None


def cfg_scale_at(options: Sampling, time: float) -> float:
    """Return the guidance scale at a time that the network sees, 0..1000: 1, which is none, outside of the interval.

    Kynkäänniemi et al., "Applying Guidance in a Limited Interval Improves Sample and Distribution Quality in Diffusion Models",
    NeurIPS 2024.
    """
    low, high = options.cfg_interval or (0, 1)
    return options.cfg_scale if low <= time / TIMESTEPS <= high else 1.0


class Sampler:
    """A network and an autoencoder (diffusers' AutoencoderKL), ready to turn image indices and labels into pixels."""

    def __init__(self, network: DiT, autoencoder, options: Sampling, classes: list[str] | None = None):
        fault = sampler_fault(options.sampler, network.config.objective)
        if fault:
            raise InputError(fault)
        options = options.for_objective(network.config.objective)
        if options.size:
            network = _of_size(network, downsampling(autoencoder), options)
        dtype = torch.bfloat16 if options.precision == "bf16" else None
        self.network, self.numerics = for_inference(network, dtype, options.kernels, options.compile)
        self.autoencoder, self.options = autoencoder, options
        self.device = autoencoder.device
        self.classes = classes or [str(i) for i in range(network.num_classes)]

    @classmethod
    def from_files(
        cls, checkpoint: Path, autoencoder: Path, options: Sampling, device: torch.device | str
    ) -> "Sampler":
        """Return the sampler of a checkpoint's EMA weights and an autoencoder's folder; raise InputError as `load_both` does."""
        network, vae, header = load_both(checkpoint, autoencoder, device, options.ema_decay)
        return cls(network, vae, options, header.classes)

    @torch.inference_mode()
    def __call__(
        self, indices: list[int], labels: list[int], progress: Callable[[], object] | None = None
    ) -> np.ndarray:
        """Return the images of some indices, uint8 (B, H, W, 3); `progress` is called after each sampling step."""
        options, wanted = self.options, len(indices)
        if self.numerics["compile"]:  # for one shape: the last batch is filled up, and the surplus dropped
            missing = max(0, options.batch_size - wanted)
            indices, labels = (list(items) + list(items[-1:]) * missing for items in (indices, labels))
        precision = getattr(torch, options.guidance_precision)
        shape = (self.network.config.latent_channels, *self.network.config.latent_size)
        y = torch.tensor(labels, device=self.device)
        draws = options.steps if options.sampler in STOCHASTIC_SAMPLERS else 1
        noise = draw_ahead(options.noise_seed, indices, shape, draws, self.device)

        def predict(x: torch.Tensor, time: float) -> torch.Tensor:
            t = torch.full((1,), time, device=self.device)
            scale = cfg_scale_at(options, time)
            with torch.autocast(self.device.type, torch.bfloat16, enabled=options.precision == "bf16"):
                return guided(self.network, x.float(), t, y, scale, options.cfg_channels, precision)

        def draw() -> torch.Tensor:
            return next(noise).to(precision)

        with contextlib.closing(noise):
            latents = sample(predict, draw(), options.sampler, options.steps, draw, progress)
        pixels = decode_uint8(self.autoencoder, latents.float(), options.uint8)
        return pixels[:wanted].cpu().numpy()
