"""Loss: the denoising error of a checkpoint on images that training has not seen, with their label and without.

Guarantees: noise, noise levels and posterior draws are functions of the image and the draw, common to all rows and training seeds, so
that differences are paired exactly; the numbers do not depend on the number of processes.

Beside the losses it measures, on a few of the images, how far each block attends. That decides nothing, so it is no part of the spec.
"""

from collections import ChainMap
from pathlib import Path

import numpy as np
import torch

from ditgta.config import Loss
from ditgta.config.names import HELD_OUT
from ditgta.data.autoencoder import autoencoder_sha256, encode_moments, threads_for
from ditgta.data.image_index import ImageIndex
from ditgta.data.images import load_index
from ditgta.data.npz import write_with_arrays
from ditgta.data.order import cut, middles
from ditgta.data.sides import draw_within_classes
from ditgta.diffusion.objectives import objective_of
from ditgta.kernels import for_inference
from ditgta.model.dit import DiT
from ditgta.model.similarity import attention_distances, mean_distances, uniform_distance
from ditgta.runtime.checkpoint_records import CheckpointHeader
from ditgta.runtime.checkpoints import further_decay, identity_of
from ditgta.runtime.errors import InputError
from ditgta.runtime.files import check_ending
from ditgta.runtime.finished import read_finished, refuse_other, settled
from ditgta.runtime.loss_records import LossRecord
from ditgta.runtime.processes import Processes, processes
from ditgta.runtime.progress import Progress
from ditgta.runtime.records import part
from ditgta.runtime.streams import generator
from ditgta.sampling import load_both
from ditgta.scoring.loss import by_band, gain_estimate, loss_estimate
from ditgta.scoring.statistics import entry_of, strata_of

TERM = {"ddpm": "mse", "flow": "loss"}  # of the noise, and of the velocity
ATTENTION_IMAGES, ATTENTION_LEVELS = 16, 4  # 64 passes; the losses of the digits are 14,360


def run(checkpoint: Path, autoencoder: Path, images: Path, out: Path, options: Loss) -> dict:
    """Measures the loss of a checkpoint's EMA weights and writes it to `out` (.json), that of each image in each band beside it (.npz).

    `images` is the folder of the index of the held-out images. Returns the content of `out` on the first process, else {}. Raises
    InputError where something given cannot be used, or they do not belong together.
    """
    out = Path(out)
    check_ending(out, ".json")
    with processes(options.tf32) as group:
        network, vae, header = load_both(checkpoint, autoencoder, group.device, options.ema_decay)
        options = options.model_copy(update={"ema_decay": further_decay(header, options.ema_decay)})
        index = load_index(images)
        check_held_out(index, header, Path(images))
        chosen = choose(index, options.max_images)
        held_out = {"sha256": index.files_sha256, "folder": str(images), "count": index.count}
        spec = {
            "checkpoint": identity_of(checkpoint, header),
            "autoencoder_sha256": header.autoencoder_sha256 or autoencoder_sha256(autoencoder),
            "loss": options.spec(),
        }
        _refuse_other(out, {"spec": spec, "held_out": held_out})
        measure = Measure(network, vae, index, chosen, options)
        losses = _gathered(measure, group)
        attention = attention_of(network, measure, group)
        if not group.is_first:
            return {}
        labels = index.labels[chosen]
        by_image = {name: by_band(table, len(options.weights)) for name, table in losses.items()}
        content = {
            **_summary(**by_image, labels=labels, options=options),
            "attention": attention,
            "num_images": len(chosen),
            "held_out": held_out,
            "objective": network.config.objective,
            "step": header.step,
            "spec": spec,
            "numerics": measure.numerics,
        }
        arrays = {"image": chosen, "label": labels, **by_image}
        content = write_with_arrays(out, content, arrays, "arrays_sha256")
    for name, entry in content["metrics"].items():
        print(f"{name.replace('_', ' ')}: {entry['value']:.5g} +- {entry['se']:.2g}", flush=True)
    return content


def _refuse_other(out: Path, ours: dict) -> None:
    """Raise InputError where a file holds losses of another checkpoint, of other images or of other options."""
    record = read_finished(LossRecord, out)
    if record:
        held_out = settled(record.held_out.said(), ours["held_out"], "sha256")
        theirs = {"spec": record.spec.said(), "held_out": held_out}
        again = {"held_out.sha256", "held_out.count", "spec.checkpoint.sha256", "spec.autoencoder_sha256"}
        refuse_other(out, "losses", theirs, ours, again)


def choose(index: ImageIndex, most: int) -> np.ndarray:
    """Return the images that are taken, ascending: all, or a stable draw within the classes."""
    if index.count <= most:
        return np.arange(index.count)
    return np.sort(draw_within_classes(index.labels, index.count, most, "held-out loss"))


class Measure:
    """The loss of batches of noisy images.

    An item is one noise level of one image; items are numbered image by image, from little noise to much, and `batches` of them are of
    equal size, so that no result depends on who computes which batch.
    """

    def __init__(self, network: DiT, vae, index: ImageIndex, chosen: np.ndarray, options: Loss):
        self.network, self.numerics = for_inference(network, None, options.kernels, options.compile)
        self.objective = objective_of(network.config.objective, network.device)
        self.term = TERM[network.config.objective]
        self.vae, self.index, self.chosen, self.options = vae, index, chosen, options
        self.shape = (network.config.latent_channels, *network.config.latent_size)
        self.batches = cut(range(len(chosen) * options.timesteps), options.batch_size)

    def images_of(self, batch: range) -> np.ndarray:
        """Return the images of a batch's items."""
        timesteps = self.options.timesteps
        return self.chosen[batch.start // timesteps : (batch.stop - 1) // timesteps + 1]

    @torch.inference_mode()
    def __call__(self, batch: range, pixels: np.ndarray) -> np.ndarray:
        """Return the losses of a batch's items with their label and with the null label, (2, b) float64.

        `pixels`: the images that `images_of` names, uint8 (n, H, W, 3).
        """
        # a compiled network takes one shape alone
        x0, t, noise, x, y = self.noisy(np.resize(np.array(batch), self.options.batch_size), pixels)
        null = torch.full_like(y, self.network.num_classes)
        outputs = self.network(torch.cat([x, x]), torch.cat([t, t]), torch.cat([y, null])).chunk(2)
        losses = [self.objective.losses(output, x0, t, noise)[self.term] for output in outputs]
        return torch.stack(losses)[:, : len(batch)].double().cpu().numpy()

    def noisy(self, items: np.ndarray, pixels: np.ndarray) -> tuple[torch.Tensor, ...]:
        """Return x0, t, noise, x and y of items (b,): latents, times, noise, latents with noise, labels; pixels as of `__call__`."""
        timesteps, device = self.options.timesteps, self.network.device
        own = items // timesteps
        u, noise, posterior = self.draw(self.chosen[own], items % timesteps)
        x0 = self.encode(pixels)[own - own[0]]
        if x0.ndim == 5:  # mean and deviation of the posterior
            x0 = x0[:, 0] + x0[:, 1] * posterior.to(device)
        x0 = x0 * self.vae.config.scaling_factor
        t, noise = self.objective.times(u.to(device)), noise.to(device)
        y = torch.from_numpy(self.index.labels[self.chosen[own]]).to(device)
        return x0, t, noise, self.objective.add_noise(x0, t, noise), y

    def encode(self, pixels: np.ndarray) -> torch.Tensor:
        """Return latents (n, C, h, w), not scaled, or mean and deviation of their posteriors (n, 2, C, h, w)."""
        mean, logvar = encode_moments(self.vae, pixels)
        mean = mean - (self.vae.config.shift_factor or 0.0)
        return mean if logvar is None else torch.stack([mean, (0.5 * logvar).exp()], 1)

    def draw(self, images: np.ndarray, draws: np.ndarray) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return u (b,), noise and posterior noise (b, C, h, w), functions of image and draw: u of draw i lies in (i, i + 1) / T."""
        count = len(images)
        u = np.empty(count)
        noise, posterior = np.empty((2, count, *self.shape), np.float32)
        for place, (image, draw) in enumerate(zip(images.tolist(), draws.tolist())):
            random = generator(self.options.seed, "held-out loss", image, draw)
            u[place] = (draw + random.random()) / self.options.timesteps
            random.standard_normal(out=noise[place], dtype=np.float32)
            random.standard_normal(out=posterior[place], dtype=np.float32)
        return tuple(map(torch.from_numpy, (u, noise, posterior)))


def _gathered(measure: Measure, group: Processes) -> dict[str, np.ndarray]:
    """Return the losses of all images at all noise levels, {"conditional", "null"}: each (N, T) float64; processes share the work."""
    mine = group.share(measure.batches)
    pixels = measure.index.batches(map(measure.images_of, mine), keep=False)
    losses, total = {}, sum(map(len, mine))
    with (
        threads_for(measure.index.size),
        Progress("loss", total, unit="noisy images", silent=not group.is_first) as progress,
    ):
        for batch in mine:
            losses[batch.start] = measure(batch, next(pixels))
            progress.advance(len(batch))
    losses = ChainMap(*group.gather(losses))
    whole = np.concatenate([losses[start] for start in sorted(losses)], axis=1)
    return dict(zip(("conditional", "null"), whole.reshape(2, -1, measure.options.timesteps)))


@torch.inference_mode()
def attention_of(network: DiT, measure: Measure, group: Processes) -> dict | None:
    """Return how far each block and head attends on some images at some noise levels, with their label; None where not finite.

    An image's levels are one batch, whoever computes it. `network` is of the plain layers, with the weights of the measured one.
    """
    timesteps = measure.options.timesteps
    places = middles(len(measure.chosen), ATTENTION_IMAGES)
    draws = middles(timesteps, ATTENTION_LEVELS)
    mine = group.share(places)
    pixels = measure.index.batches((measure.chosen[[place]] for place in mine), keep=False)
    distances = {}
    with threads_for(measure.index.size):
        for place in mine:
            _, t, _, x, y = measure.noisy(place * timesteps + np.array(draws), next(pixels))
            with attention_distances(network) as passes:
                network(x, t, y)
            distances[place] = mean_distances(passes).double().cpu().numpy()
    distances = ChainMap(*group.gather(distances))
    mean = np.mean([distances[place] for place in places], axis=0)
    if not np.isfinite(mean).all():
        return None
    return {
        "distances": mean.round(5).tolist(),
        "uniform": round(uniform_distance(*network.config.grid), 5),
        "images": len(places),
        "noise_levels": len(draws),
    }


def check_held_out(index: ImageIndex, header: CheckpointHeader, images: Path) -> None:
    """Raise InputError if images have other classes or another size than the checkpoint's training images, or are training images."""
    trained = part(header.spec, "latents", "images")
    same_source = bool(trained) and index.spec.get("contents") == trained.get("contents")
    same_division = index.spec.get("hold_out", 0) == trained.get("hold_out", 0)
    if same_source and not (index.spec.get("side") == HELD_OUT and same_division):
        fix = "list other images"
        if (images / HELD_OUT / "index.json").is_file():
            fix = f"give {images / HELD_OUT}"
        raise InputError(f"{images} lists images that the checkpoint was trained on; {fix}")
    size = header.image_size
    if header.classes and header.classes != index.classes:
        raise InputError(
            f"{images} has other classes than the checkpoint's training images; give the held-out ones"
        )
    if size and size != index.size:
        raise InputError(f"{images} has images of {index.size} pixels, the checkpoint was trained on {size}")


def _summary(conditional: np.ndarray, null: np.ndarray, labels: np.ndarray, options: Loss) -> dict:
    """Return metrics and levels by band."""
    strata = strata_of(labels)
    loss = loss_estimate(conditional, options.weights, strata)
    gain = gain_estimate(conditional, null, options.weights, strata)
    return {
        "metrics": {"loss": entry_of([loss]), "class_gain": entry_of([gain])},
        "bands": {"conditional": conditional.mean(0).tolist(), "null": null.mean(0).tolist()},
    }
