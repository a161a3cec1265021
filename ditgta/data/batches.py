"""Training batches as a pure function of (seed, step): which images, which noise, which times, which dropped labels."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from ditgta.data.ahead import map_ahead
from ditgta.data.order import batch_indices
from ditgta.data.shards import LatentShards, draw_latents
from ditgta.runtime.streams import generator


@dataclass
class Batches:
    """Draws this process's slice of each step's global batch.

    What is random about an image at a step is a function of (seed, step, place in the global batch): it depends neither on the
    number of processes nor on earlier steps, and a process draws for its own images alone.
    """

    shards: LatentShards
    seed: int  # of the experiment
    batch_size: int  # images in the global batch
    part: slice  # this process's slice of the global batch
    flip: str  # "random" (drawn at each step), "baked" (once per image) or "none"
    posterior: str  # "resample" (drawn at each step), "baked" (once per image) or "mean"
    label_dropout: float  # probability that a label becomes the null label
    # or "stratified": the times of a global batch are evenly spread from a random start
    timesteps: str = "independent"
    # or "logit-normal": 1 / (1 + exp(-z)) of standard normal z, so that the middle is seen more often
    # (Esser et al., "Scaling Rectified Flow Transformers", 2024, section 3.1)
    time_density: str = "uniform"

    @cached_property
    def baked_flips(self) -> np.ndarray:
        """Whether each image is mirrored where that is drawn once, bool [count]."""
        return generator(self.seed, "flip").random(self.shards.count) < 0.5

    def at(self, step: int) -> dict[str, torch.Tensor]:
        """Return the batch of this process's b images.

        x0 (b, C, h, w) float32, u (b,) float64 in 0..1, from which the objective takes its time, y (b,) with null labels,
        noise (b, C, h, w) float32.
        """
        indices = batch_indices(self.seed, step, self.shards.count, self.batch_size)[self.part]
        places = range(*self.part.indices(self.batch_size))
        drawn = self.draw(step, places)
        mirrored, posterior = drawn["mirrored"] & (self.flip == "random"), drawn["posterior"]
        if self.flip == "baked":
            mirrored = self.baked_flips[indices]
        if self.posterior == "baked":
            posterior = np.empty_like(drawn["noise"])
            for own, index in zip(posterior, indices.tolist()):
                generator(self.seed, "posterior baked", index).standard_normal(out=own, dtype=np.float32)
        records = self.shards.read(indices, mirrored)
        x0 = draw_latents(records, posterior, self.shards.scaling_factor)
        labels = np.where(drawn["dropped"], len(self.shards.classes), records["label"])
        return {
            "x0": torch.from_numpy(np.ascontiguousarray(x0)),
            "u": torch.from_numpy(drawn["u"]),
            "y": torch.from_numpy(labels.astype(np.int64)),
            "noise": torch.from_numpy(drawn["noise"]),
        }

    def draw(self, step: int, places: range) -> dict[str, np.ndarray | None]:
        """Return the random numbers of the images at some places of a step's global batch.

        Each image has a stream of its own, from which all is drawn in one order, whatever the options use of it.
        """
        count = len(places)
        u, dropped, mirrored = np.empty(count), np.empty(count, bool), np.empty(count, bool)
        noise = np.empty((count, *self.shards.latent_shape), np.float32)
        posterior = np.empty_like(noise) if self.posterior == "resample" else None
        for i, place in enumerate(places):
            random = generator(self.seed, "image", step, place)
            u[i] = random.random()
            dropped[i] = random.random() < self.label_dropout
            mirrored[i] = random.random() < 0.5
            random.standard_normal(out=noise[i], dtype=np.float32)
            if posterior is not None:
                random.standard_normal(out=posterior[i], dtype=np.float32)
        if self.timesteps == "stratified":
            # Places are filled in random order, so an image's time is still any.
            start = generator(self.seed, "times", step).random()
            u = (start + np.array(places) / self.batch_size) % 1
        if self.time_density == "logit-normal":
            # Imported here: it takes a sixth of a second, for which a training with uniform times need not wait.
            from scipy.special import expit, ndtri

            u = expit(ndtri(u))
        return {"u": u, "dropped": dropped, "mirrored": mirrored, "noise": noise, "posterior": posterior}

    def ahead(self, start: int, stop: int, pin: bool = False) -> Iterator[dict[str, torch.Tensor]]:
        """Yield the batches of steps start..stop-1, drawn a few steps ahead: while one waits for the disk, another is computed."""

        def draw(step: int) -> dict[str, torch.Tensor]:
            batch = self.at(step)
            return {name: tensor.pin_memory() for name, tensor in batch.items()} if pin else batch

        return map_ahead(draw, range(start, stop), threads=2, ahead=4)
