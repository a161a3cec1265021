"""The autoencoder between pixels and latents: loading, saving, encoding and decoding."""

import contextlib
import copy
import json
import math
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

from ditgta.runtime.addresses import is_hub_name
from ditgta.runtime.checkpoints import check_numbers, write_tensors
from ditgta.runtime.errors import InputError, one_line
from ditgta.runtime.file_records import AutoencoderRecord
from ditgta.runtime.files import expanded, is_file, read_as, read_json, sha256_of, write_record, write_text
from ditgta.runtime.pretrained import huggingface_hub
from ditgta.runtime.records import Autoencoder, PixelsConfig, parsed

WEIGHTS = "diffusion_pytorch_model.safetensors"
RECORD = "autoencoder.json"
_PIXELS = "Pixels"  # the class in config.json where latents are the pixels
_SMALL_IMAGE = 75
_MOST_WEIGHTS = 2**24  # of one layer


class Pixels(torch.nn.Module):
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

    def encode(self, pixels: torch.Tensor, return_dict: bool = False) -> tuple[SimpleNamespace]:
        """Return the posterior of pixels (B, 3, H, W), a point without log variance; raises InputError if one channel is to hold colours."""
        if self.config.latent_channels == 1 and not (pixels == pixels[:, :1]).all():
            raise InputError("an image is coloured; set autoencoder: {pixels: rgb}")
        return (SimpleNamespace(mean=pixels[:, : self.config.latent_channels], logvar=None),)

    def decode(self, latents: torch.Tensor, return_dict: bool = False) -> tuple[torch.Tensor]:
        """Return pixels (B, 3, H, W)."""
        return (latents.expand(-1, 3, -1, -1),)

    def to_json_string(self) -> str:
        """Return config.json."""
        return json.dumps({"_class_name": _PIXELS, **vars(self.config)}, indent=1) + "\n"


def load_autoencoder(folder: str | Path, device: torch.device | str = "cpu"):
    """Return the diffusers AutoencoderKL, or Pixels, of a folder in evaluation mode, float32 and channels_last, on `device`.

    Only safetensors weights are read. Where autoencoder.json stands beside them, their SHA-256 must be the one it names.
    Raises InputError if the folder is missing, holds no such autoencoder, or its weights are damaged.
    """
    folder = Path(folder)
    weights = folder / WEIGHTS
    if not is_file(weights) or not is_file(folder / "config.json"):
        raise InputError(f"{folder} holds no autoencoder; it must contain config.json and {WEIGHTS}")
    if (folder / RECORD).is_file():
        expected, sha256 = read_as(AutoencoderRecord, folder / RECORD).sha256, sha256_of(weights)
        if sha256 != expected:
            raise InputError(
                f"{weights} is damaged (sha256 {sha256[:12]}..., {RECORD} says {str(expected)[:12]}...); "
                "delete the folder and run the autoencoder stage again"
            )
    if f'"{_PIXELS}"' in (folder / "config.json").read_text(errors="replace"):
        config = {"block_out_channels": [1], **read_json(folder / "config.json")}
        pixels = parsed(PixelsConfig, config, f"{folder / 'config.json'}", "make it again")
        return Pixels(pixels.latent_channels, pixels.scaling_factor).eval().to(device)
    try:
        network = parsed(Autoencoder, read_json(folder / "config.json"), "config.json", "correct it")
        if network.block_out_channels[-1] * network.latent_channels > _MOST_WEIGHTS:
            raise ValueError("config.json describes too large a network")
        vae, loaded = _from_pretrained(folder, local_files_only=True, output_loading_info=True)
        if loaded["missing_keys"]:
            raise ValueError(f"{WEIGHTS} lacks {min(loaded['missing_keys'])}")
        check_numbers(WEIGHTS, vae.state_dict())
    except Exception as error:  # diffusers and safetensors raise many types on damaged files
        raise InputError(
            f"{folder} holds no usable AutoencoderKL ({one_line(error)}); make or download it again"
        ) from error
    return vae.eval().requires_grad_(False).to(device, memory_format=torch.channels_last)


def _from_pretrained(source: str | Path, **options):
    """Return what diffusers reads, in float32; what is wrong is for the caller to say, in one line."""
    from diffusers import AutoencoderKL
    from diffusers.utils import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.CRITICAL)
    options |= {"use_safetensors": True, "torch_dtype": torch.float32, "low_cpu_mem_usage": False}
    try:
        return AutoencoderKL.from_pretrained(source, **options)
    finally:
        logging.set_verbosity(verbosity)


def autoencoder_sha256(folder: str | Path) -> str:
    """Return the SHA-256 of an autoencoder's weights, which names it in what it made; raise InputError without weights."""
    weights = Path(folder) / WEIGHTS
    if not weights.is_file():
        raise InputError(f"{folder} holds no autoencoder; it must contain config.json and {WEIGHTS}")
    return sha256_of(weights)


def write_autoencoder(vae: torch.nn.Module, folder: Path) -> None:
    """Writes an autoencoder in diffusers' format: weights and config.json."""
    write_tensors(folder / WEIGHTS, vae.state_dict())
    write_text(folder / "config.json", vae.to_json_string())


def save_autoencoder(vae: torch.nn.Module, folder: str | Path, spec: dict, **content) -> None:
    """Writes an autoencoder in diffusers' format, its record autoencoder.json last."""
    folder = Path(folder)
    (folder / RECORD).unlink(missing_ok=True)
    write_autoencoder(vae, folder)
    write_record(folder / WEIGHTS, spec, folder / RECORD, **content)


def fetch_autoencoder(source: str, revision: str | None = None):
    """Return a published AutoencoderKL in float32: a local folder, the Hugging Face cache, or a download.

    `source` is a folder in diffusers' format, or a name on the Hugging Face hub such as stabilityai/sd-vae-ft-ema; `revision` a
    branch, tag or commit there, None the main branch. Raises InputError if it is not on this machine and cannot be downloaded.
    """
    folder = expanded(source)
    if folder.is_dir():
        return load_autoencoder(folder)
    if folder.is_absolute() or not is_hub_name(source):
        raise InputError(
            f"the autoencoder folder {source} does not exist (relative to {Path.cwd()}); fix the path"
        )
    hub = huggingface_hub()
    try:
        with warnings.catch_warnings(action="ignore"):
            try:
                vae = _from_pretrained(source, revision=revision, local_files_only=True)
            except OSError:
                # Asks once, where a download retries for long.
                hub.HfApi().model_info(source, revision=revision, timeout=10)
                vae = _from_pretrained(source, revision=revision)
    except Exception as error:  # network, hub and file errors have no common type
        at = f" --revision {revision}" if revision else ""
        raise InputError(
            f"the autoencoder {source} is not a folder, is not in the Hugging Face cache, and cannot be downloaded ({one_line(error)}); on a "
            f"machine with a network run `hf download {source} config.json {WEIGHTS}{at} --local-dir FOLDER`, copy FOLDER here and "
            "set the autoencoder's `pretrained` to it"
        ) from error
    return vae.eval().requires_grad_(False)


@contextlib.contextmanager
def threads_for(size: int) -> Iterator[None]:
    """Computes with one CPU thread inside the block where images are small: their layers lose by more, and the bytes stay the same."""
    before = torch.get_num_threads()
    if size <= _SMALL_IMAGE:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def small_autoencoder(widths: list[int], latent_channels: int, size: int):
    """Return an untrained AutoencoderKL without attention: one residual block per width down, two up."""
    groups = math.gcd(8, *widths)
    return _untrained(
        widths, 1, latent_channels, norm_num_groups=groups, mid_block_add_attention=False, sample_size=size
    )


def stable_diffusion_autoencoder():
    """Return an untrained AutoencoderKL of the architecture that Stable Diffusion's autoencoders share."""
    return _untrained((128, 256, 512, 512), 2, 4)


def _untrained(widths: Sequence[int], layers: int, latent_channels: int, **options):
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=tuple(widths),
        down_block_types=("DownEncoderBlock2D",) * len(widths),
        up_block_types=("UpDecoderBlock2D",) * len(widths),
        layers_per_block=layers,
        latent_channels=latent_channels,
        **options,
    )


def downsampling(vae) -> int:
    """Return by how much the autoencoder divides height and width."""
    return 2 ** (len(vae.config.block_out_channels) - 1)


def check_side(size: int, factor: int, fix: str) -> None:
    """Raise InputError, with the fix, where images of a side cannot be encoded by an autoencoder that divides it by a factor."""
    if size % factor:
        raise InputError(
            f"the autoencoder divides the side by {factor}, which does not divide the image size {size}; {fix}"
        )


def to_model_range(images: np.ndarray | torch.Tensor, device: torch.device | str = "cpu") -> torch.Tensor:
    """Turns uint8 images [B, H, W, 3] into float32 [B, 3, H, W] in [-1, 1], (x / 255 - .5) / .5."""
    images = torch.as_tensor(images).to(device).permute(0, 3, 1, 2)
    return (images.float() / 255 - 0.5) / 0.5


@torch.no_grad()
def encode_moments(vae, images: np.ndarray | torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return mean and logvar of the posterior of uint8 images [B, H, W, 3], float32 [B, C, h, w], not scaled.

    The log variance is clamped to [-30, 20] by diffusers; it is None where latents are pixels.
    """
    posterior = vae.encode(to_model_range(images, vae.device), return_dict=False)[0]
    return posterior.mean, posterior.logvar


@torch.no_grad()
def decode_uint8(vae, latents: torch.Tensor, rule: str = "round") -> torch.Tensor:
    """Decodes latents [B, C, h, w] of the diffusion model to uint8 images [B, H, W, 3]; scaling and shift are undone first.

    The rule "round" is the DiT reference's trunc(clamp(127.5 x + 128, 0, 255)), which maps -1, 0, 1 to 0, 128, 255 and rounds
    127.5 x + 127.5; "floor" is ADM's trunc(clamp(127.5 (x + 1), 0, 255)), half a grey level darker on average.
    """
    assert rule in ("round", "floor"), rule
    latents = latents.to(vae.device, torch.float32) / vae.config.scaling_factor
    latents = latents + (vae.config.shift_factor or 0.0)
    pixels = vae.decode(latents, return_dict=False)[0].permute(0, 2, 3, 1)
    return (127.5 * pixels + (128 if rule == "round" else 127.5)).clamp(0, 255).to(torch.uint8)


@torch.no_grad()
def adapted_autoencoder(
    vae: torch.nn.Module, mean: np.ndarray, std: np.ndarray, pixels: tuple[int, int], scaling_factor: float
) -> torch.nn.Module:
    """Return an autoencoder whose latents are another's normalised by channel, and whose pixels lie in -1..1.

    Both are affine, so they go into the layers at the ends, and decoding needs no change. What is decoded is exact to rounding;
    what is encoded is not in the outermost pixels where `pixels` are 0..1, for the first layer pads with zeros.

    A latent q becomes (q - mean) / std, both float64 [C]; normalised latents are multiplied by `scaling_factor`, and the range of
    the other's pixels is (-1, 1) or (0, 1). Raises InputError if the autoencoder has no layer that could take it.
    """
    vae = copy.deepcopy(vae)
    first, last = vae.quant_conv, vae.post_quant_conv
    if first is None or last is None:
        raise InputError(
            "the autoencoder has no quant_conv that could hold the normalisation; give the autoencoder of these latents"
        )
    mean, std = (torch.as_tensor(value, dtype=torch.float32, device=vae.device) for value in (mean, std))
    channels = len(std)
    first.weight[:channels] /= std[:, None, None, None]
    first.bias[:channels].sub_(mean).div_(std)
    first.bias[channels:] -= 2 * std.log()
    # W q + b = (W std) (q - mean) / std + (W mean + b)
    last.bias += (last.weight[:, :, 0, 0] * mean).sum(1)
    last.weight *= std[None, :, None, None]
    if pixels == (0, 1):
        encoder, decoder = vae.encoder.conv_in, vae.decoder.conv_out
        encoder.bias += encoder.weight.sum((1, 2, 3)) / 2
        encoder.weight /= 2
        decoder.weight *= 2
        decoder.bias.mul_(2).sub_(1)
    vae.register_to_config(scaling_factor=scaling_factor, shift_factor=None)
    return vae
