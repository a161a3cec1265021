"""Latents as the four projects write them, made of the same images with the same autoencoder."""

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from ditgta.data.autoencoder import small_autoencoder
from ditgta.stages import autoencoder

CLASSES = {"2": 9, "10": 14, "x": 20}  # in natural order; ImageFolder's is 10, 2, x
SIDE, SCALE = 32, 0.18215


def write_images(folder: Path) -> list[tuple[str, int]]:
    """Write images of unlike blocks; return (path, label) in the order and with the labels of torchvision's ImageFolder."""
    random = np.random.default_rng(0)
    for name, count in CLASSES.items():
        (folder / name).mkdir(parents=True)
        for i in range(count):
            blocks = random.integers(0, 255, (4, 4, 3), dtype=np.uint8)
            Image.fromarray(blocks).resize((SIDE, SIDE), Image.Resampling.NEAREST).save(
                folder / name / f"{i:02d}.png"
            )
    return [
        (str(path), label)
        for label, name in enumerate(sorted(CLASSES))
        for path in sorted((folder / name).iterdir())
    ]


def published_autoencoder() -> torch.nn.Module:
    """Return an untrained autoencoder that divides the side by 8, its latents about as large as Stable Diffusion's."""
    vae = small_autoencoder([8, 8, 8, 8], 4, SIDE)
    autoencoder.initialize(vae, 0)
    with torch.no_grad():
        pixels = torch.from_numpy(np.random.default_rng(1).uniform(-1, 1, (8, 3, 4, 4)).astype(np.float32))
        pixels = pixels.repeat_interleave(8, 2).repeat_interleave(8, 3)
        mean = vae.encode(pixels).latent_dist.mean
        vae.quant_conv.weight[:4] *= 5 / mean.std()
        vae.quant_conv.weight[4:] *= 0.1
        vae.quant_conv.bias[4:] -= 4
    vae.register_to_config(scaling_factor=SCALE)
    return vae.eval().requires_grad_(False)


def posteriors(vae: torch.nn.Module, paths: list[str], pixels: str = "-1..1", flip: bool = False):
    """Return the posterior of some images, which a project has read and scaled by itself."""
    images = np.stack([np.asarray(Image.open(path).convert("RGB")) for path in paths])
    images = images[:, :, ::-1].copy() if flip else images
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float()
    return vae.encode(x / 255 if pixels == "0..1" else x / 127.5 - 1).latent_dist


def fast_dit(folder: Path, vae, samples: list[tuple[str, int]]) -> np.ndarray:
    """Write fast-DiT's features, one draw of a random side each, and labels; return the features."""
    torch.manual_seed(0)
    for kind in ("features", "labels"):
        (folder / f"imagenet256_{kind}").mkdir(parents=True)
    kept = []
    for i, (path, label) in enumerate(samples):
        x = posteriors(vae, [path], flip=bool(torch.rand(1) < 0.5)).sample().mul_(SCALE).numpy()
        np.save(folder / f"imagenet256_features/{i}.npy", x)
        np.save(folder / f"imagenet256_labels/{i}.npy", np.array([label]))
        kept.append(x[0])
    return np.stack(kept)


def lightningdit(folder: Path, vae, samples: list[tuple[str, int]]) -> np.ndarray:
    """Write LightningDiT's shards as two processes do, and statistics; return the latents of both sides, in their order."""
    torch.manual_seed(0)
    folder.mkdir(parents=True)
    kept = []
    for rank in range(2):
        mine = samples[rank::2]
        for number, start in enumerate(range(0, len(mine), 10)):
            part = mine[start : start + 10]
            tensors = {
                key: posteriors(vae, [path for path, _ in part], flip=flip).sample().contiguous()
                for key, flip in (("latents", False), ("latents_flip", True))
            }
            kept.append(torch.stack(list(tensors.values()), 1).numpy())
            labels = torch.tensor([label for _, label in part])
            save_file(
                {**tensors, "labels": labels},
                folder / f"latents_rank{rank:02d}_shard{number:03d}.safetensors",
            )
    both = np.concatenate(kept)
    first = torch.from_numpy(both[:, 0])
    statistics = {name: getattr(first, name)(dim=[0, 2, 3], keepdim=True) for name in ("mean", "std")}
    torch.save(statistics, folder / "latents_stats.pt")
    return both


def moments(vae, samples: list[tuple[str, int]], pixels: str) -> tuple[dict[str, bytes], np.ndarray]:
    """Return EDM2's files of mean and standard deviation with dataset.json, and the moments."""
    files, labels, kept = {}, [], []
    for i, (path, label) in enumerate(samples):
        posterior = posteriors(vae, [path], pixels)
        both = torch.cat([posterior.mean, posterior.std], dim=1)[0].numpy()
        buffer = io.BytesIO()
        np.save(buffer, both)
        name = f"{i:08d}"[:5] + f"/img-mean-std-{i:08d}.npy"
        files[name] = buffer.getvalue()
        labels.append([name, label])
        kept.append(both)
    return files | {"dataset.json": json.dumps({"labels": labels}).encode()}, np.stack(kept)


def edm2(folder: Path, vae, samples: list[tuple[str, int]]) -> np.ndarray:
    """Write EDM2's zip; its autoencoder sees pixels in 0..1. Return the moments."""
    files, kept = moments(vae, samples, "0..1")
    folder.mkdir(parents=True)
    with zipfile.ZipFile(folder / "latents.zip", "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return kept


def repa(folder: Path, vae, samples: list[tuple[str, int]]) -> np.ndarray:
    """Write REPA's folder vae-sd. Return the moments."""
    files, kept = moments(vae, samples, "-1..1")
    for name, content in files.items():
        (folder / "vae-sd" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "vae-sd" / name).write_bytes(content)
    return kept


WRITERS = {"fast-dit": fast_dit, "lightningdit": lightningdit, "edm2": edm2, "repa": repa}
