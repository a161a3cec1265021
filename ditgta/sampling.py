"""From noise and labels to pixels: what the sample stage and the pipeline share."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from ditgta.config import Sampling
from ditgta.data.autoencoder import autoencoder_sha256, decode_uint8, load_autoencoder
from ditgta.diffusion import sample
from ditgta.model.dit import DiT
from ditgta.runtime.checkpoints import read_header
from ditgta.runtime.errors import InputError
from ditgta.runtime.streams import generator


def image_label(rule: str, seed: int, index: int, num_classes: int) -> int:
    """Returns the label of a sampled image: uniform at random, or balanced and interleaved (0, 1, 2, ..., 0, 1, ...)."""
    if rule == "balanced":
        return index % num_classes
    return int(generator(seed, "sample label", index).integers(num_classes))


class Noise:
    """The noise of some images: each has a stream of its own, read from its beginning."""

    def __init__(
        self, seed: int, indices: list[int], shape: tuple[int, ...], device: torch.device, dtype: torch.dtype
    ):
        self.streams = [generator(seed, "sample noise", index) for index in indices]
        self.shape, self.device, self.dtype = shape, device, dtype

    def __call__(self) -> torch.Tensor:
        """Returns the next standard normal noise of all images, (B, C, h, w)."""
        draws = np.stack([stream.standard_normal(self.shape, dtype=np.float32) for stream in self.streams])
        noise = torch.from_numpy(draws)
        if self.device.type == "cuda":
            # Otherwise the processor would wait for the card here, and the card for the next noise.
            noise = noise.pin_memory()
        return noise.to(self.device, non_blocking=True).to(self.dtype)


class Sampler:
    """A network and an autoencoder (diffusers' AutoencoderKL), ready to turn image indices and labels into pixels."""

    def __init__(self, network: DiT, autoencoder, options: Sampling, classes: list[str] | None = None):
        kind = torch.bfloat16 if options.precision == "bf16" else network.dtype
        plain = kind == network.dtype and not options.compile
        self.network = network if plain else network.rounded(kind, options.compile)
        self.autoencoder, self.options = autoencoder, options
        self.device = autoencoder.device
        self.classes = classes or [str(i) for i in range(network.num_classes)]

    @classmethod
    def from_files(
        cls, checkpoint: Path, autoencoder: Path, options: Sampling, device: torch.device | str
    ) -> "Sampler":
        """Returns the sampler of a checkpoint's EMA weights and an autoencoder's folder.

        Raises:
            InputError: one of them cannot be used, or they do not belong together.
        """
        header = read_header(checkpoint)
        network = DiT.from_checkpoint(checkpoint).to(device)
        vae = load_autoencoder(autoencoder, device)
        trained_on = header.get("autoencoder_sha256")
        if trained_on and trained_on != autoencoder_sha256(autoencoder):
            raise InputError(
                f"{checkpoint} was trained on latents of another autoencoder than {autoencoder}; give it the one it was trained with"
            )
        channels = vae.config.latent_channels
        if channels != network.latent_channels:
            raise InputError(
                f"{autoencoder} has {channels} latent channels, {checkpoint} wants {network.latent_channels}; give it the right one"
            )
        return cls(network, vae, options, header.get("classes"))

    @torch.inference_mode()
    def __call__(
        self, indices: list[int], labels: list[int], progress: Callable[[], object] | None = None
    ) -> np.ndarray:
        """Returns the images of some indices, uint8 (B, H, W, 3); `progress` is called after each sampling step."""
        options = self.options
        precision = torch.float64 if options.guidance_precision == "float64" else torch.float32
        shape = (self.network.latent_channels, *self.network.options["latent_size"])
        noise = Noise(options.seed, indices, shape, self.device, precision)
        y = torch.tensor(labels, device=self.device)

        def predict(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            with torch.autocast(self.device.type, torch.bfloat16, enabled=options.precision == "bf16"):
                return self.network.guided(
                    x.float(), t, y, options.cfg_scale, options.cfg_channels, precision
                )

        latents = sample(predict, noise(), options.sampler, options.steps, noise, progress)
        return decode_uint8(self.autoencoder, latents.float(), options.uint8).cpu().numpy()
