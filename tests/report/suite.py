"""A small made-up suite on disk: score files with influence values, samples, records of checkpoints and an image index."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from ditgta.data.image_sets import open_image_set
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
    "fid_infinity": (lambda fid: 0.9 * fid, 0.95),
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


def findings(labels: np.ndarray, references: int, *index) -> dict[str, np.ndarray]:
    """Returns what a score file holds image by image: every sixth sample is taken for another class."""
    random = generator(3, "findings", *index)
    count = len(labels)
    distances = np.sort(random.uniform(0.5, 3.0, (count, 3)), axis=1)
    return {
        "label": labels,
        "predicted": np.where(np.arange(count) % 6, labels, (labels + 1) % len(CLASSES)),
        "nearest_index": random.integers(0, references, (count, 3)),
        "nearest_distance": distances,
        "reference_distance": np.linspace(0.6, 1.4, references),
    }


def write_score(
    path: Path, experiment: str, seed: int, step: int | None, fid: float, folder: Path | None, **changes
) -> Path:
    """Writes a score file and the influence values beside it."""
    count = changes.pop("num_samples", 48)
    found = changes.pop("findings", {})
    sampling = {**changes.pop("sampling", SAMPLING), "num_samples": count}
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
            "spec": changes.pop("made_from", {}),
        },
        "spec": {
            "suite": "digits",
            "experiment": experiment,
            "posenc": experiment,
            "seed": seed,
            "step": step,
            "sampling": sampling,
        },
        "warnings": [],
        "kid_by_class": {
            str(label): {"value": fid / 1000 * (label + 1), "se": 2e-4, "reason": None}
            for label in np.unique(found.get("label", [])).tolist()
        },
        "provenance": process_record("score", started=1000.0 + fid),
    } | changes
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    np.savez(path.with_suffix(".npz"), **psi, **found)
    return path


def process_record(stage: str, started: float, **changes) -> dict:
    """Returns what a process writes about itself."""
    return {
        "command": f"python -m ditgta {stage} somewhere",
        "revision": "12" * 20,
        "versions": {"ditgta": "0.1.0", "torch": "2.13.0"},
        "host": "node1",
        "cpu": "Some Processor",
        "gpu": None,
        "processes": 1,
        "started": started,
        "seconds": 36.0,
        "cpu_seconds": 72.0,
        "peak_memory_mb": 500.0,
        "peak_gpu_memory_mb": None,
    } | changes


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
    content |= process_record("sample", started=2000.0)
    (folder / "index.json").write_text(json.dumps(content))
    return folder


def write_record(root: Path, experiment: str, seed: int, step: int, level: float, **changes) -> Path:
    """Writes the JSON record of a checkpoint with a loss curve of 100 points; all rows share its noise."""
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
        **process_record("train", started=3000.0 + step, seconds=4320.0),
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
    root: Path,
    milestones: tuple[int, ...] = (200_000, 2_500_000),
    seeds: tuple[int, ...] = (0,),
    own_noise: bool = True,
    levels: dict[str, float] = FID,
) -> dict:
    """Writes three encodings at every milestone and seed and returns the arguments of the table stage but `out`.

    Of several seeds each has noise of its own where `own_noise` says so. `levels`: other encodings, and the FID of each.
    """
    labels = np.arange(48) % len(CLASSES)
    images = write_images(root / "images", noise_pixels(20, 8, "real"), np.repeat(np.arange(4), 5))
    reference = {"sha256": open_image_set(images).sha256(), "folder": str(images), "spec": {"size": 8}}
    scores, training = [], []
    for experiment, fid in levels.items():
        spec = {
            "latents": {"images": {"size": 8}},
            "model": {"posenc": experiment, "qk_norm": True},
            "seed": 0,
        }
        spec["training"] = {"flip": "none", "learning_rate": 1e-4}
        for seed in seeds:
            sampling = SAMPLING | ({"training_seed": seed} if own_noise and len(seeds) > 1 else {})
            for k, step in enumerate(milestones):
                folder = write_samples(
                    root / "samples" / experiment / f"{seed}-{step}",
                    noise_pixels(48, 8, experiment, seed, step),
                    labels,
                )
                scores.append(
                    write_score(
                        root / "scores" / f"{experiment}-{seed}-{step}.json",
                        experiment,
                        seed,
                        step,
                        fid * (1 if k == 0 else 0.24) * (1 + 0.004 * seed),
                        folder,
                        reference=reference,
                        findings=findings(labels, 20, experiment, seed, step),
                        made_from={"checkpoint": {"spec": spec}, "sampling": sampling},
                        sampling=sampling,
                    )
                )
            training.append(write_record(root, experiment, seed, milestones[-1], 0.15 + fid / 2000))
    real = findings(np.repeat(np.arange(4), 2), 10)
    baseline = write_score(
        root / "scores" / "baseline.json",
        "",
        0,
        None,
        1.9,
        None,
        spec={},
        num_reference=1749,
        findings=real,
        settings={"baseline": True, "draws": 10},
    )
    shared = root / "scorer" / "digits" / "scorer.json"
    shared.parent.mkdir(parents=True)
    shared.write_text(json.dumps(process_record("scorer", started=1.0, peak_memory_mb=900.0)))
    return {
        "scores": scores,
        "training": training,
        "baseline": baseline,
        "images": images,
        "shared": [shared],
        "spec": {
            "suite": "digits",
            "experiments": list(levels),
            "milestones": list(milestones),
            "seeds": list(seeds),
            "differences": [["gta", "rope"], ["gta", "abs"]],
        },
    }
