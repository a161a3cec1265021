"""Options of the held-out loss."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from ditgta.config.choices import Average
from ditgta.config.section import Added, Compile, Free, Kernels, Option, Section


class Loss(Section):
    """How the denoising loss of held-out images is measured; it is a stage where images are held out."""

    max_images: int = Option(2000, "largest number of held-out images, drawn within the classes", ge=2)
    timesteps: int = Option(
        20, "noise levels of each image, evenly spread; a multiple of the number of bands", ge=1
    )
    weights: tuple[Annotated[float, Field(ge=0)], ...] = Option(
        (1.0,) * 10,
        "weight of each band of noise levels, from none to all noise, in the mean of the logarithms of their losses",
        min_length=1,
    )
    ema_decay: Average = Added(
        None, "decay of the averaged weights (EMA) to measure, if training kept several; none: the first"
    )
    seed: int = Option(0, "seed of noise and noise levels, shared by all rows and training seeds")
    tf32: bool = Option(False, "allow TF32 for float32 matmuls of network and encoder on GPUs")
    compile: bool | None = Compile
    kernels: Literal["auto", "off"] = Kernels
    batch_size: int = Free(
        64, "noisy images per forward pass; each is passed with its label and without", ge=1
    )

    @model_validator(mode="after")
    def _bands(self) -> "Loss":
        if self.timesteps % len(self.weights):
            raise ValueError(
                f"timesteps must be a multiple of the {len(self.weights)} bands; change one of them (got {self.timesteps})"
            )
        if not sum(self.weights):
            raise ValueError("weights are all 0; give at least one band a weight above 0")
        return self
