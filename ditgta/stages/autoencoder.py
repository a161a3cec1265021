"""Stage autoencoder: a pretrained AutoencoderKL is fetched, a small one trained on the images, or pixels taken as they are."""

import math
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.nn import functional

from ditgta.config.names import PIXEL_CHANNELS
from ditgta.data.autoencoder import (
    RECORD,
    Pixels,
    check_side,
    decode_uint8,
    downsampling,
    encode_moments,
    fetch_autoencoder,
    save_autoencoder,
    small_autoencoder,
    threads_for,
    to_model_range,
)
from ditgta.data.images import ImageIndex, load_index
from ditgta.data.order import batch_indices, spread
from ditgta.runtime.errors import InputError
from ditgta.runtime.file_records import MadeOfImages
from ditgta.runtime.files import atomic_path
from ditgta.runtime.finished import read_finished, refuse_other_images
from ditgta.runtime.processes import processes
from ditgta.runtime.progress import Progress
from ditgta.runtime.streams import generator

_ENCODED_IMAGES = 2048
_ENCODED_PRETRAINED = 16
_DECODED_IMAGES = 256
_SHOWN_IMAGES = 16
_LOSS_POINTS = 100
_FIX = "change the images' size or the autoencoder"


def run(images: Path, out: Path, spec: dict) -> None:
    """Writes an autoencoder in diffusers' format, its record autoencoder.json and reconstruction.png.

    `images` is the folder of their index. The spec is {pretrained: hub name or folder, revision}, or {pixels: "grey" or "rgb"}, or
    without either {widths, latent_channels, steps, batch_size, learning_rate, kl_weight, seed}; all with tf32. Training takes minutes,
    so it keeps no snapshots: a run that is cut off leaves no autoencoder.json and starts again. Raises InputError where the pretrained
    one cannot be had, or the options do not fit the images.
    """
    out = Path(out)
    index = load_index(images)
    with processes(spec.get("tf32", False)) as group, threads_for(index.size):
        if not group.is_first:  # minutes on one process; more of them would change the numbers
            return
        record = read_finished(MadeOfImages, out / RECORD)
        refuse_other_images(out, "an autoencoder", record, spec, index.identity())
        measurements, measured = {}, _ENCODED_IMAGES
        if spec.get("pixels"):
            vae = Pixels(PIXEL_CHANNELS[spec["pixels"]]).to(group.device)
        elif spec.get("pretrained"):
            vae, measured = fetch_autoencoder(spec["pretrained"], spec.get("revision")), _ENCODED_PRETRAINED
            vae.to(group.device)
            check_side(index.size, downsampling(vae), _FIX)
        else:
            vae, measurements["loss"] = train(index, spec, group.device)
        chosen = spread(index.count, measured)
        mean, draws = _moments(vae, index, chosen, spec.get("seed", 0))
        if "loss" in measurements:
            vae.register_to_config(scaling_factor=1 / float(draws.double().std(correction=0)))
        measurements["latents"] = _latent_statistics(mean, draws, vae.config.scaling_factor)
        few = spread(len(chosen), _DECODED_IMAGES)
        measurements["psnr_db"] = _psnr(vae, index, chosen[few], mean[few])
        measurements["psnr_db_of_draws"] = _psnr(vae, index, chosen[few], draws[few])
        _write_comparison(vae, index, out / "reconstruction.png")
        measurements |= {"downsampling": downsampling(vae), "encoded_images": len(chosen)}
        save_autoencoder(vae, out, spec, images=index.identity(), **measurements)
    print(f"autoencoder: PSNR {measurements['psnr_db']:.2f} dB on {len(few)} images, {out}", flush=True)


def train(index: ImageIndex, spec: dict, device: torch.device):
    """Trains a small AutoencoderKL on mean squared error plus kl_weight times the KL per latent element.

    Kingma and Welling, "Auto-Encoding Variational Bayes", 2014, equation 10. The learning rate rises over the first
    twentieth and falls to zero along a cosine. Every random number is a stream of (seed, step). Returns the autoencoder in evaluation
    mode, and about 100 points {step, mse, kl} of its training.
    """
    seed, steps, batch_size = spec["seed"], spec["steps"], min(spec["batch_size"], index.count)
    check_side(index.size, 2 ** (len(spec["widths"]) - 1), _FIX)
    vae = small_autoencoder(spec["widths"], spec["latent_channels"], index.size)
    initialize(vae, seed)
    vae.to(device).train()
    optimizer = torch.optim.AdamW(
        vae.parameters(), lr=spec["learning_rate"], betas=(0.9, 0.99), weight_decay=0.0
    )
    warmup = max(1, steps // 20)
    losses, keep_every = [], math.ceil(steps / _LOSS_POINTS)

    batches = index.batches(batch_indices(seed, step, index.count, batch_size) for step in range(steps))
    with Progress("autoencoder", steps, unit="steps", images_per_unit=batch_size) as progress:
        for step, batch in enumerate(batches):
            # Mirror half of the images: latents are made of both sides.
            flip = generator(seed, "autoencoder flip", step).random(batch_size) < 0.5
            batch[flip] = batch[flip][:, :, ::-1]
            pixels = to_model_range(batch, device)

            # Evaluate loss and gradients.
            posterior = vae.encode(pixels, return_dict=False)[0]
            noise = _noise(posterior.mean.shape, seed, "autoencoder posterior", step).to(device)
            latents = posterior.mean + posterior.std * noise
            error = functional.mse_loss(vae.decode(latents, return_dict=False)[0], pixels)
            divergence = 0.5 * (posterior.mean**2 + posterior.var - 1 - posterior.logvar).mean()
            loss = error + spec["kl_weight"] * divergence
            optimizer.zero_grad(set_to_none=True)
            loss.backward()

            # Run optimizer.
            torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
            rate = min((step + 1) / warmup, 0.5 + 0.5 * math.cos(math.pi * step / steps))
            optimizer.param_groups[0]["lr"] = spec["learning_rate"] * rate
            optimizer.step()

            if step % keep_every == 0 or step == steps - 1:
                losses.append({"step": step, "mse": error.item(), "kl": divergence.item()})
                if not math.isfinite(losses[-1]["mse"] + losses[-1]["kl"]):
                    raise InputError(
                        f"the autoencoder's loss is not finite at step {step}; lower its learning_rate"
                    )
            progress.advance(mse=error.item)
    return vae.eval().requires_grad_(False), losses


def initialize(module: torch.nn.Module, seed: int) -> None:
    """Draws every weight from a normal distribution of variance 1 / fan-in, its stream named after the parameter."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if parameter.ndim > 1:
                draw = _noise(parameter.shape, seed, "autoencoder weights", name)
                parameter.copy_(draw / math.sqrt(parameter[0].numel()))
            else:
                parameter.fill_(name.endswith("weight"))


def _noise(shape: tuple[int, ...], seed: int, purpose: str, *index: int | str) -> torch.Tensor:
    return torch.from_numpy(generator(seed, purpose, *index).standard_normal(shape, np.float32))


def _chunks(index: ImageIndex, chosen: np.ndarray) -> list[np.ndarray]:
    """Cuts the chosen images into batches of about the same number of pixels at every image size."""
    return np.array_split(chosen, math.ceil(len(chosen) * index.size**2 / 2**19))


def _moments(vae, index: ImageIndex, chosen: np.ndarray, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return means of the chosen images' posteriors and a draw from each, not scaled, on the CPU; latents that are pixels are both."""
    moments = [encode_moments(vae, batch) for batch in index.batches(_chunks(index, chosen))]
    means, logvars = zip(*moments)
    mean = torch.cat(means).cpu()
    if logvars[0] is None:
        return mean, mean
    noise = _noise(mean.shape, seed, "autoencoder check")
    return mean, mean + (0.5 * torch.cat(logvars).cpu()).exp() * noise


def _latent_statistics(mean: torch.Tensor, draws: torch.Tensor, scaling_factor: float) -> dict:
    """Return mean and standard deviation of scaled posterior draws [N, C, h, w], overall and per channel."""
    scaled, noise = scaling_factor * draws.double(), scaling_factor * (draws - mean).double()
    return {
        "mean": float(scaled.mean()),
        "std": float(scaled.std(correction=0)),
        "channel_mean": scaled.mean((0, 2, 3)).tolist(),
        "channel_std": scaled.std((0, 2, 3), correction=0).tolist(),
        "channel_posterior_std": noise.std((0, 2, 3), correction=0).tolist(),
        "kurtosis": float(((scaled - scaled.mean()) ** 4).mean() / scaled.var(correction=0) ** 2),
    }


def _psnr(vae, index: ImageIndex, chosen: np.ndarray, latents: torch.Tensor) -> float:
    """Return the peak signal-to-noise ratio in dB between the chosen images and their decoded latents."""
    squared, values, done = 0.0, 0, 0
    for batch in index.batches(_chunks(index, chosen)):
        error = _decoded(vae, latents[done : done + len(batch)]).astype(np.float64) - batch
        squared, values, done = squared + (error**2).sum(), values + batch.size, done + len(batch)
    return 10 * math.log10(255**2 / max(squared / values, 1e-9))


def _decoded(vae, latents: torch.Tensor) -> np.ndarray:
    """Decodes latents that are not scaled to uint8 [B, H, W, 3]."""
    scaled = (latents - (vae.config.shift_factor or 0.0)) * vae.config.scaling_factor
    return decode_uint8(vae, scaled).cpu().numpy()


def _write_comparison(vae, index: ImageIndex, path: Path) -> None:
    """Writes a picture of two rows: images above their reconstructions."""
    chosen = spread(index.count, _SHOWN_IMAGES)
    originals, decoded = [], []
    for batch in index.batches(_chunks(index, chosen)):
        originals.append(batch)
        decoded.append(_decoded(vae, encode_moments(vae, batch)[0]))
    rows = [np.concatenate(list(np.concatenate(row)), axis=1) for row in (originals, decoded)]
    with atomic_path(path) as temporary:
        Image.fromarray(np.concatenate(rows)).save(temporary)
