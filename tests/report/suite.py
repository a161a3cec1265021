"""A small made-up suite on disk: score files with influence values, samples, twins of checkpoints and an image index."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from ditgta.data.images import ImageIndex, write_index
from ditgta.runtime.streams import generator

CLASSES = ("zero", "one", "two", "three")
FID = {"abs": 31.93, "rope": 25.71, "gta": 25.15}
METRICS = {  # value as a function of FID, and the standard error relative to FID's own
    "fid": (lambda fid: fid, 1.0),
    "sfid": (lambda fid: 4 + 0.2 * fid, 0.4),
    "inception_score": (lambda fid: 400 / (fid + 5), 8.0),
    "kid": (lambda fid: fid / 1000, 1.2e-3),
    "precision": (lambda fid: 0.9 - fid / 100, 0.08),
    "recall": (lambda fid: 0.7 - fid / 200, 0.1),
    "density": (lambda fid: 1.1 - fid / 50, 0.25),
    "coverage": (lambda fid: 0.95 - fid / 80, 0.1),
}
SAMPLING = {
    "num_samples": 48,
    "sampler": "ancestral",
    "steps": 250,
    "cfg_scale": 1.5,
    "cfg_channels": "3",
    "labels": "balanced",
    "seed": 0,
}
SCORER = {
    "name": "inception-1/16",
    "sha256": "5c0" + "7" * 61,
    "published": False,
    "width": 0.0625,
    "input_size": 75,
    "accuracy": 0.982,
}


def influence_values(
    level: float, count: int, experiment: str, seed: int, step: int
) -> dict[str, np.ndarray]:
    """Returns per-sample values with standard error 0.3 % of the level, of which all rows share nine tenths."""
    common = generator(0, "common", step).standard_normal(count)
    own = generator(seed, "own", step, experiment).standard_normal(count)
    psi = np.sqrt(count) * 0.003 * level * (0.95 * common + 0.3 * own)
    psi -= psi.mean()
    return {name: psi * noise for name, (_, noise) in METRICS.items()}


def write_score(
    path: Path, experiment: str, seed: int, step: int | None, fid: float, folder: Path | None, **changes
) -> Path:
    """Writes a score file and the influence values beside it."""
    count = changes.pop("num_samples", 48)
    psi = influence_values(fid, count, experiment, seed, step or 0)
    metrics = {
        name: {
            "value": value(fid),
            "se": float(np.std(psi[name], ddof=1) / np.sqrt(count)),
            "reason": None,
        }
        for name, (value, _) in METRICS.items()
    }
    content = {
        "metrics": metrics | changes.pop("metrics", {}),
        "num_samples": count,
        "num_reference": 1797,
        "scorer": SCORER,
        "reference": {"sha256": "ab" * 32},
        "samples": {
            "sha256": "cd" * 32,
            "checkpoint_sha256": "ef" * 32,
            "folder": str(folder) if folder else None,
        },
        "spec": {
            "suite": "digits",
            "experiment": experiment,
            "posenc": experiment,
            "seed": seed,
            "step": step,
            "sampling": {**SAMPLING, "num_samples": count},
        },
        "warnings": [],
        "versions": {"ditgta": "0.1.0", "torch": "2.13.0"},
    } | changes
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    np.savez(path.with_suffix(".npz"), **psi)
    return path


def write_samples(folder: Path, pixels: np.ndarray, labels: np.ndarray, shard: int = 20) -> Path:
    """Writes uint8 [N, H, W, 3] and labels as shards with their index."""
    folder.mkdir(parents=True, exist_ok=True)
    shards = []
    for start in range(0, len(labels), shard):
        name = f"{len(shards):05d}.npz"
        part = slice(start, start + shard)
        np.savez(folder / name, arr_0=pixels[part], arr_1=labels[part].astype(np.int64))
        shards.append({"file": name, "sha256": "", "start": start, "count": len(labels[part])})
    content = {"count": len(labels), "shape": list(pixels.shape[1:]), "labels": "balanced", "shards": shards}
    (folder / "index.json").write_text(json.dumps(content))
    return folder


def write_twin(root: Path, experiment: str, seed: int, step: int, level: float, **changes) -> Path:
    """Writes the JSON twin of a checkpoint with a loss curve of 100 points; all rows share its noise."""
    steps = np.linspace(step / 100, step, 100).round().astype(int)
    noise = generator(0, "loss").normal(0, 0.01, 100) + generator(seed, "loss", experiment).normal(
        0, 0.001, 100
    )
    mse = level + 0.8 * np.exp(-6 * steps / step) + noise
    content = {
        "spec": {"model": {"posenc": experiment}, "seed": seed},
        "step": step,
        "losses": [
            {"step": int(s), "loss": float(m + 0.002), "mse": float(m), "vb": 0.002}
            for s, m in zip(steps, mse)
        ],
        "images_per_second": 812.3,
        "seconds": 4321.0,
    } | changes
    path = root / "train" / experiment / f"seed{seed}" / f"{step}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def write_images(
    root: Path, pixels: np.ndarray, labels: np.ndarray, classes: tuple[str, ...] = CLASSES
) -> Path:
    """Writes images as PNG and their index."""
    files = []
    for i, (image, label) in enumerate(zip(pixels, labels)):
        file = f"{classes[label]}/{i:04d}.png"
        (root / "files" / classes[label]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(root / "files" / file)
        files.append(file)
    write_index(
        root,
        ImageIndex(root / "files", files, labels, list(classes), pixels.shape[1]),
        {"size": pixels.shape[1]},
    )
    return root


def noise_pixels(count: int, side: int, *index) -> np.ndarray:
    """Returns uint8 [count, side, side, 3] of noise."""
    return generator(7, "pixels", *index).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def make_suite(
    root: Path, milestones: tuple[int, ...] = (200_000, 2_500_000), seeds: tuple[int, ...] = (0,)
) -> dict:
    """Writes three encodings at every milestone and seed and returns the arguments of the table stage but `out`."""
    labels = np.arange(48) % len(CLASSES)
    scores, training = [], []
    for experiment, fid in FID.items():
        for seed in seeds:
            for k, step in enumerate(milestones):
                folder = write_samples(
                    root / "samples" / experiment / f"{seed}-{step}",
                    noise_pixels(48, 8, experiment, seed, step),
                    labels,
                )
                value = fid * (1 if k == 0 else 0.24) * (1 + 0.004 * seed)
                scores.append(
                    write_score(
                        root / "scores" / f"{experiment}-{seed}-{step}.json",
                        experiment,
                        seed,
                        step,
                        value,
                        folder,
                    )
                )
            training.append(write_twin(root, experiment, seed, milestones[-1], 0.15 + fid / 2000))
    floor = write_score(root / "scores" / "floor.json", "", 0, None, 1.9, None, spec={}, num_reference=898)
    images = write_images(root / "images", noise_pixels(20, 8, "real"), np.repeat(np.arange(4), 5))
    return {
        "scores": scores,
        "training": training,
        "floor": floor,
        "images": images,
        "spec": {
            "suite": "digits",
            "experiments": list(FID),
            "milestones": list(milestones),
            "seeds": list(seeds),
            "differences": [["gta", "rope"], ["gta", "abs"]],
        },
    }
