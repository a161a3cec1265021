"""Stage scorer: a small Inception network learns the images' classes, so that its features can score samples of them."""

import json
import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from ditgta.config.names import HELD_OUT
from ditgta.data.autoencoder import threads_for
from ditgta.data.images import ImageIndex, load_index
from ditgta.data.order import batch_indices, cut
from ditgta.data.scorer_files import fetch_scorer
from ditgta.runtime.addresses import redacted
from ditgta.runtime.checkpoints import check_numbers, write_tensors
from ditgta.runtime.file_records import MadeOfImages
from ditgta.runtime.files import record_path, write_record
from ditgta.runtime.finished import read_finished, refuse_other_images
from ditgta.runtime.processes import processes
from ditgta.runtime.progress import Progress
from ditgta.runtime.streams import generator
from ditgta.scoring.blocks import BatchNorm
from ditgta.scoring.inception import InceptionV3, load_inception

MAX_IMAGES = 20_000
MAX_BYTES = 2**30
_LEAST_STEPS = 100
_LOSS_POINTS = 100
_WEIGHT_DECAY = 0.05
_SHIFT, _SCALE, _NOISE = 0.05, 0.1, 0.12


def run(images: Path, out: Path, spec: dict) -> None:
    """Trains a scorer on an image index and writes it as safetensors with its JSON record; or fetches `weights`, if the spec names any.

    The record records the accuracy on held-out images and what always naming the commonest class would reach; a scorer
    near that has learnt nothing of the classes, and its scores compare textures at best. On a CPU two runs give equal bytes
    (with an input above 75 pixels: at the same number of threads). Training takes a minute, so it keeps no snapshots.

    The metadata "ditgta" of the safetensors file is JSON {width, input_size, num_classes, classes, accuracy}. The spec is {width,
    input_size, epochs, batch_size, learning_rate, holdout, seed}; `holdout` is the fraction of each class kept for measuring accuracy
    where the index holds none out; an epoch is one pass over the rest, and 100 steps are made at least. Raises InputError where the
    index cannot be read, or the options do not make a network.
    """
    out = Path(out)
    with processes() as group, threads_for(spec["input_size"]):
        if not group.is_first:  # a minute on one process; more of them would change the numbers
            return
        if spec.get("weights"):
            _fetch(out, spec["weights"])
            return
        index = load_index(images)
        refuse_other_images(out, "a scorer", _record_of(out), spec, index.identity())
        model = InceptionV3(spec["width"], len(index.classes), spec["input_size"])
        chosen = choose(index, spec["seed"])
        pixels, labels = _load(index, chosen)
        others = _held_out(images, spec["seed"])
        if others is None:
            mask = hold_out(labels.numpy(), spec["holdout"], spec["seed"])
            others = pixels[mask], labels[mask]
            pixels, labels = pixels[~mask], labels[~mask]
        losses = train(model.to(group.device), pixels, labels, spec)
        accuracies = measure(model, *others)
        accuracies["train_accuracy"] = measure(model, pixels, labels)["accuracy"]
        count = len(others[1])
        check_numbers("the scorer", model.state_dict(), "lower its learning_rate")
        _write(out, model, index, spec, accuracies, losses, used=len(chosen), held_out=count)
    accuracy = "unknown, because no class has two images"
    if accuracies["accuracy"] is not None:
        accuracy = f"{accuracies['accuracy']:.2%}"
    print(f"scorer: held-out accuracy {accuracy} on {count} images, {out}", flush=True)


def _fetch(out: Path, weights: str) -> None:
    """Writes weights that are there already, with their record."""
    spec = {"weights": redacted(weights)}  # as records name them
    refuse_other_images(out, "a scorer", _record_of(out), spec, {})
    file = fetch_scorer(weights, out)
    load_inception(file.tensors, file.input_size)
    write_record(out, spec, published=file.published)
    kind = "published" if file.published else "NOT the published"
    print(f"scorer: {spec['weights']}, {kind} weights, {out}", flush=True)


def _record_of(out: Path) -> MadeOfImages | None:
    """Return the record of a scorer that is there, None without one."""
    return read_finished(MadeOfImages, record_path(out)) if out.is_file() else None


def _held_out(images: Path, seed: int) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Return pixels and labels of the images that no stage is trained on, None where none are held out."""
    if not (Path(images) / HELD_OUT / "index.json").is_file():
        return None
    index = load_index(Path(images) / HELD_OUT)
    return _load(index, choose(index, seed))


def choose(index: ImageIndex, seed: int) -> np.ndarray:
    """Return the indices of the images that are used, ascending: all, or a random 20,000 or 1 GB of pixels."""
    most = max(min(MAX_IMAGES, MAX_BYTES // (index.size * index.size * 3)), 1)
    if index.count <= most:
        return np.arange(index.count)
    return np.sort(generator(seed, "scorer images").permutation(index.count)[:most])


def _load(index: ImageIndex, chosen: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the chosen images as uint8 (N, size, size, 3), and their labels (N,)."""
    pixels = np.empty((len(chosen), index.size, index.size, 3), np.uint8)
    done = 0
    for batch in index.batches(cut(chosen, 64), keep=False):
        pixels[done : done + len(batch)] = batch
        done += len(batch)
    return torch.from_numpy(pixels), torch.from_numpy(index.labels[chosen])


def hold_out(labels: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Return a mask of held-out images: about `fraction` of each class, one at least; none of a class with one image."""
    mask = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        count = min(max(round(fraction * len(members)), 1), len(members) - 1)
        mask[generator(seed, "scorer holdout", int(label)).permutation(members)[:count]] = True
    return mask


def train(model: InceptionV3, pixels: torch.Tensor, labels: torch.Tensor, spec: dict) -> list[dict]:
    """Trains a network in place by cross entropy with AdamW, and leaves it in evaluation mode.

    The learning rate rises over the first tenth and falls to zero along a cosine. fc.bias stays zero, so that the
    probabilities of the Inception Score, which leave it out, are those of the classifier. Afterwards the running
    statistics are averaged again over images as they are scored, without augmentation and with the final weights.

    `pixels` are uint8 (N, height, width, 3), `labels` int64 (N,). Returns about 100 points {step, loss} of the training.
    """
    seed, count, device = spec["seed"], len(pixels), model.fc.weight.device
    initialize(model, seed)
    model.to(memory_format=torch.channels_last)
    batch_size = min(spec["batch_size"], count)
    steps_per_epoch = count // batch_size
    steps = max(spec["epochs"] * steps_per_epoch, _LEAST_STEPS)
    warmup, keep_every = max(1, steps // 10), math.ceil(steps / _LOSS_POINTS)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=spec["learning_rate"], weight_decay=_WEIGHT_DECAY)
    losses = []
    model.train()
    with (
        torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False),
        Progress("scorer", steps, unit="steps", images_per_unit=batch_size) as progress,
    ):
        for step in range(steps):
            batch = _batch(seed, step, count, batch_size)
            x = jitter(pixels[batch].to(device), model.input_size, generator(seed, "scorer jitter", step))

            # Evaluate loss and gradients.
            loss = F.cross_entropy(model.classify(x), labels[batch].to(device))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()

            # Run optimizer.
            rate = min((step + 1) / warmup, 0.5 + 0.5 * math.cos(math.pi * step / steps))
            optimizer.param_groups[0]["lr"] = spec["learning_rate"] * rate
            optimizer.step()
            if step % keep_every == 0 or step == steps - 1:
                losses.append({"step": step, "loss": round(loss.item(), 6)})
            progress.advance(loss=loss.item)
        renew_statistics(model, pixels, seed)
    model.eval()
    return losses


def _batch(seed: int, step: int, count: int, batch_size: int) -> torch.Tensor:
    """Return the image indices of one step; a single image comes twice, since normalisation needs two values."""
    batch = batch_indices(seed, step, count, batch_size)
    return torch.from_numpy(np.resize(batch, max(len(batch), 2)))


def initialize(model: InceptionV3, seed: int) -> None:
    """Draws convolutions by He et al. 2015 (arXiv:1502.01852, equation 10) and a small classifier, each from its name."""
    model.fc.bias.requires_grad_(False).zero_()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("conv.weight", "fc.weight")):
                gain = 1.0 if name == "fc.weight" else 2.0
                values = generator(seed, "scorer weights", name).standard_normal(parameter.shape, np.float32)
                deviation = math.sqrt(gain / math.prod(parameter.shape[1:]))
                parameter.copy_(torch.from_numpy(values) * deviation)


def jitter(images_NHWC: torch.Tensor, size: int, random: np.random.Generator) -> torch.Tensor:
    """Return training input (N, 3, size, size) in -1..1: TF1's resize, each image shifted, scaled and made noisy.

    Images are not mirrored: a mirrored digit or letter is another one. Without shift, scale and noise the result is
    that of `InceptionV3.prepare`, except for rounding.
    """
    count, height, width, _ = images_NHWC.shape
    scale = np.exp(random.uniform(-_SCALE, _SCALE, (count, 2, 1)))
    shift = random.uniform(-_SHIFT, _SHIFT, (count, 2, 1))
    places = np.arange(size) / size
    source = (0.5 + (places - 0.5) * scale + shift) * np.array([[height], [width]])
    source = torch.from_numpy(
        (2 * source / np.maximum([[height - 1], [width - 1]], 1) - 1).astype(np.float32)
    )
    rows, columns = source[:, 0, :, None].expand(-1, -1, size), source[:, 1, None, :].expand(-1, size, -1)
    grid = torch.stack([columns, rows], dim=-1).to(images_NHWC.device)
    x = (images_NHWC.permute(0, 3, 1, 2).float() - 128) * 0.0078125
    x = F.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=True)
    noise = torch.from_numpy(random.random(x.shape, np.float32)).to(x.device)
    return x.add_(noise.sub_(0.5).mul_(_NOISE)).contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def renew_statistics(model: InceptionV3, pixels: torch.Tensor, seed: int) -> None:
    """Replaces all running means and variances by averages over up to 2,048 images as they are scored."""
    norms = [module for module in model.modules() if isinstance(module, BatchNorm)]
    momentum, batch_size = norms[0].momentum, min(len(pixels), 256)
    for done in range(min(len(pixels) // batch_size, 8)):
        for norm in norms:
            norm.momentum = 1 / (done + 1)
        model.classify(model.prepare(pixels[_batch(seed, done, len(pixels), batch_size)]))
    for norm in norms:
        norm.momentum = momentum


def measure(model: InceptionV3, pixels: torch.Tensor, labels: torch.Tensor) -> dict:
    """Return {accuracy, chance}, shares of images classified rightly and of the commonest class; None where there are no images."""
    if not len(pixels):
        return {"accuracy": None, "chance": None}
    fused, right = model.fuse(), 0
    for batch in torch.arange(len(pixels)).split(256):
        right += int((fused(pixels[batch]).logits.argmax(1).cpu() == labels[batch]).sum())
    return {"accuracy": right / len(labels), "chance": int(labels.bincount().max()) / len(labels)}


def _write(
    out: Path,
    model: InceptionV3,
    index: ImageIndex,
    spec: dict,
    accuracies: dict,
    losses: list,
    **counts: int,
) -> None:
    """Writes the weights and their record."""
    header = {
        "width": model.width,
        "input_size": model.input_size,
        "num_classes": model.num_classes,
        "classes": index.classes,
        "accuracy": accuracies["accuracy"],
    }
    write_tensors(out, model.state_dict(), {"ditgta": json.dumps(header, sort_keys=True)})
    images = {**index.identity(), "count": index.count, "size": index.size, **counts}
    content = {**header, **accuracies, "images": images, "pool3": model.pool3_channels, "loss": losses}
    write_record(out, spec, **content)
