"""Training batches as a pure function of (seed, step): which images, which noise, which timesteps, which dropped labels."""

from collections.abc import Iterator

import numpy as np
import torch

from ditgta.data.ahead import map_ahead
from ditgta.data.order import batch_indices
from ditgta.data.shards import LatentShards, draw_latents
from ditgta.runtime.streams import generator


class Batches:
    """Draws each step's global batch and keeps this process's slice of it.

    Args:
        shards: the latents.
        seed: the experiment's seed.
        batch_size: images in the global batch.
        part: this process's slice of the global batch.
        flip: "random" (anew at each step), "baked" (once per image) or "none".
        posterior: "resample" (anew at each step), "baked" (once per image) or "mean".
        label_dropout: probability that a label becomes the null label.
        timesteps: t is uniform in 0..timesteps-1.

    All draws are made for the global batch, so they do not depend on the number of processes; nothing depends on earlier steps.
    """

    def __init__(
        self,
        shards: LatentShards,
        seed: int,
        batch_size: int,
        part: slice,
        flip: str,
        posterior: str,
        label_dropout: float,
        timesteps: int,
    ):
        self.shards, self.seed, self.batch_size, self.part = shards, seed, batch_size, part
        self.flip, self.posterior, self.label_dropout = flip, posterior, label_dropout
        self.timesteps = timesteps
        self.shape = (batch_size, *shards.latent_shape)
        self.baked_flips = generator(seed, "flip").random(shards.count) < 0.5 if flip == "baked" else None

    def at(self, step: int) -> dict[str, torch.Tensor]:
        """Returns x0 (b, C, h, w) float32, t (b,), y (b,) with null labels, noise (b, C, h, w) float32 of this process's b images."""
        part, seed = self.part, self.seed
        indices = batch_indices(seed, step, self.shards.count, self.batch_size)[part]
        records = self.shards.read(indices, self._flips(step, indices))
        noise = generator(seed, "noise", step).standard_normal(self.shape, dtype=np.float32)[part]
        timesteps = generator(seed, "timestep", step).integers(0, self.timesteps, self.batch_size)[part]
        dropped = generator(seed, "dropout", step).random(self.batch_size)[part] < self.label_dropout
        labels = np.where(dropped, len(self.shards.classes), records["label"])
        x0 = draw_latents(records, self._posterior_noise(step, indices), self.shards.scaling_factor)
        return {
            "x0": torch.from_numpy(np.ascontiguousarray(x0)),
            "t": torch.from_numpy(timesteps),
            "y": torch.from_numpy(labels.astype(np.int64)),
            "noise": torch.from_numpy(np.ascontiguousarray(noise)),
        }

    def _flips(self, step: int, indices: np.ndarray) -> np.ndarray:
        if self.flip == "random":
            return generator(self.seed, "flip", step).random(self.batch_size)[self.part] < 0.5
        if self.flip == "baked":
            return self.baked_flips[indices]
        return np.zeros(len(indices), dtype=bool)

    def _posterior_noise(self, step: int, indices: np.ndarray) -> np.ndarray | None:
        if self.posterior == "resample":
            return generator(self.seed, "posterior", step).standard_normal(self.shape, dtype=np.float32)[
                self.part
            ]
        if self.posterior == "baked":
            shape = self.shape[1:]
            draws = [
                generator(self.seed, "posterior baked", int(i)).standard_normal(shape, dtype=np.float32)
                for i in indices
            ]
            return np.stack(draws)
        return None

    def ahead(self, start: int, stop: int, pin: bool = False) -> Iterator[dict[str, torch.Tensor]]:
        """Yields the batches of steps start..stop-1, drawn a few steps ahead: while one waits for the disk, another is computed."""

        def draw(step: int) -> dict[str, torch.Tensor]:
            batch = self.at(step)
            return {name: tensor.pin_memory() for name, tensor in batch.items()} if pin else batch

        return map_ahead(draw, range(start, stop), threads=2, ahead=4)
