"""Options of sampling."""

import hashlib
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from ditgta.config.choices import Average, Scales, listed, several
from ditgta.config.names import OBJECTIVES, POSITIONS, SAMPLERS
from ditgta.config.section import Added, Compile, Free, Kernels, Option, Section

Side = Annotated[int, Field(ge=1, le=2**14)]


def _both_sides(value: Any) -> Any:
    """Takes one side, as people type it, for height and width."""
    sides = listed(value)
    return sides * 2 if sides and len(sides) == 1 else sides


_SIDE = {"type": "integer", "minimum": 1}
# For editors: one side, or height and width.
_SIDES = {"anyOf": [_SIDE, {"type": "array", "items": _SIDE, "minItems": 1, "maxItems": 2}]}
BothSides = Annotated[tuple[Side, Side], BeforeValidator(_both_sides), WithJsonSchema(_SIDES)]

# Between the seeds of noise on which a point is chosen and on which it is reported.
CHOICE_SEED = 1_000_000


class Sampling(Section):
    """How images are sampled from a checkpoint."""

    num_samples: int = Option(50000, "number of images", ge=1, le=10**8)
    sampler: Literal[SAMPLERS] | None = Option(
        None,
        "sampler; none: the default of the objective: ancestral (the papers' protocol) for ddpm, euler for flow",
    )
    steps: int = Option(250, "sampling steps, each one pass of the network; two with heun", ge=1, le=1000)
    cfg_scale: float = Option(1.5, "classifier-free guidance scale; 1 is no guidance", ge=0)
    cfg_channels: Annotated[Literal["3", "all"], BeforeValidator(lambda n: "3" if n == 3 else n)] = Option(
        "all", "which noise channels are guided; the DiT reference guides the first 3 of 4"
    )
    cfg_interval: tuple[Annotated[float, Field(ge=0, le=1)], Annotated[float, Field(ge=0, le=1)]] | None = (
        Option(
            None,
            "least and largest time in 0..1 (timestep / 1000; 1 is noise) at which images are guided; none: at all times",
        )
    )
    ema_decay: Average = Added(
        None, "decay of the averaged weights (EMA) to sample from, if training kept several; none: the first"
    )
    size: BothSides | None = Option(
        None, "side, or height and width, of the images in pixels; none: as in training"
    )
    positions: Literal[POSITIONS] = Option(
        "extrapolate", "how positions are encoded at another size; see ditgta/model/positional/places.py"
    )
    temperature: Annotated[Literal["1", "log"], BeforeValidator(str)] = Option(
        "1",
        "temperature of attention at another size: log multiplies the logits by sqrt(ln tokens / ln tokens in training)",
    )
    labels: Literal["random", "balanced"] = Option(
        "balanced", "labels: i.i.d. uniform, or interleaved equal counts"
    )
    precision: Literal["float32", "bf16"] = Option("float32", "precision of the network's matmuls")
    tf32: bool = Option(False, "allow TF32 for float32 matmuls of network and decoder on GPUs")
    compile: bool | None = Compile
    kernels: Literal["auto", "off"] = Kernels
    guidance_precision: Literal["float32", "float64"] = Option(
        "float32", "precision of guidance and of the sampling update"
    )
    uint8: Literal["round", "floor"] = Option(
        "round", "how pixels become uint8: rounded as in the DiT reference, or rounded down as in ADM"
    )
    seed: int = Option(0, "seed of noise and labels; all rows share it, so their differences are paired")
    training_seed: int | None = Option(
        None,
        "training seed of the checkpoint: another seed gets other noise and labels, which all rows share; "
        "none: only `seed` decides them",
        ge=0,
    )
    batch_size: int = Free(64, "images per forward pass", ge=1)

    @model_validator(mode="after")
    def _interval(self) -> "Sampling":
        if self.cfg_interval and self.cfg_interval[0] > self.cfg_interval[1]:
            raise ValueError(
                f"cfg_interval must rise, from the least to the largest time (got {self.cfg_interval})"
            )
        if self.size is None and (self.positions, self.temperature) != ("extrapolate", "1"):
            raise ValueError(
                "positions and temperature apply only to another size than in training; give size too"
            )
        return self

    @property
    def noise_seed(self) -> int:
        """The seed from which noise and labels are drawn: of `seed` and `training_seed` together, by a stable hash."""
        if self.training_seed is None:
            return self.seed
        key = f"{self.seed}\x1f{self.training_seed}".encode()
        return int.from_bytes(hashlib.sha256(key).digest()[:8], "little")

    def for_objective(self, objective: str) -> "Sampling":
        """Return the options for networks of an objective: with its first sampler, where none is chosen."""
        return self if self.sampler else self.model_copy(update={"sampler": OBJECTIVES[objective][0]})

    def of_training(self, training_seed: int) -> "Sampling":
        """Return the options for the checkpoints of a training seed.

        With noise of its own each run shows, beside the luck of training, that of sampling, and a mean over runs averages both.
        """
        return self.model_copy(update={"training_seed": training_seed})

    def for_choice(self) -> "Sampling":
        """Return the options with the noise on which points are chosen, which is not that on which they are reported."""
        return self.model_copy(update={"seed": self.seed + CHOICE_SEED})


class SuiteSampling(Sampling):
    """How the rows of a suite are sampled; a list of guidance scales is a sweep, from which each row's is chosen."""

    cfg_scale: Scales = Option(
        1.5,
        "classifier-free guidance scale; 1 is no guidance. A list: each row is sampled at all scales; its own scale is "
        "chosen by FID on one noise and reported on another",
    )

    @property
    def scales(self) -> tuple[float, ...]:
        """The guidance scales to choose from; () where there is one alone."""
        return several(self.cfg_scale)

    def at_first(self) -> "SuiteSampling":
        """Return the options at the first guidance scale."""
        return self.model_copy(update={"cfg_scale": self.scales[0]}) if self.scales else self
