"""No autoencoder: latents are the pixels themselves, behind the same interface as diffusers' AutoencoderKL."""

import json
from types import SimpleNamespace

import torch
from torch import Tensor, nn

from ditgta.runtime.errors import InputError

NAME = "Pixels"  # its class in config.json


class Pixels(nn.Module):
    """Latents are pixels in -1..1, of one channel where all images are grey."""

    def __init__(self, channels: int, scaling_factor: float = 1.0):
        super().__init__()
        # What diffusers' AutoencoderKL says of itself, as far as it is asked here.
        self.config = SimpleNamespace(
            latent_channels=channels,
            scaling_factor=scaling_factor,
            shift_factor=None,
            block_out_channels=(1,),
        )
        self.register_buffer("gain", torch.ones(channels))  # a file of weights needs some

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.gain.device

    def encode(self, pixels: Tensor, return_dict: bool = False) -> tuple[SimpleNamespace]:
        """Return the posterior, which is a point, of pixels (B, 3, H, W): its log variance is None.

        Raises InputError if an image is coloured and latents have one channel.
        """
        if self.config.latent_channels == 1 and not (pixels == pixels[:, :1]).all():
            raise InputError("an image is coloured; set autoencoder: {pixels: rgb}")
        return (SimpleNamespace(mean=pixels[:, : self.config.latent_channels], logvar=None),)

    def decode(self, latents: Tensor, return_dict: bool = False) -> tuple[Tensor]:
        """Return pixels (B, 3, H, W)."""
        return (latents.expand(-1, 3, -1, -1),)

    def to_json_string(self) -> str:
        """Return config.json."""
        return json.dumps({"_class_name": NAME, **vars(self.config)}, indent=1) + "\n"

    @classmethod
    def from_config(cls, content: dict) -> "Pixels":
        """Return what config.json describes."""
        return cls(content["latent_channels"], content["scaling_factor"])
