"""Options of training."""

from typing import Annotated, Literal

from pydantic import Field

from ditgta.config.choices import Decays, several
from ditgta.config.names import OBJECTIVES
from ditgta.config.section import Added, Compile, Free, Kernels, Option, Section


class Training(Section):
    """How the transformer is trained."""

    objective: Literal[tuple(OBJECTIVES)] = Option(
        "ddpm",
        "what the network learns: ddpm: noise and variance at 1000 noise levels; flow: velocity of a straight path (flow matching)",
    )
    batch_size: int = Option(
        256, "global batch: exactly this many images per step on any number of processes", ge=1, le=10**9
    )
    learning_rate: float = Option(1e-4, "constant learning rate of AdamW", gt=0)
    weight_decay: float = Option(0.0, "decoupled weight decay", ge=0)
    ema_decay: Decays = Option(
        0.9999,
        "decay of the moving average of the weights, per step. A list: an average is kept for each; the first is "
        "the default, and in a suite each row's average is chosen by FID on one noise and reported on another",
        json_schema_extra={"several": True},
    )
    label_dropout: float = Option(
        0.1, "fraction of labels replaced by the null label, for guidance", ge=0, lt=1
    )
    flip: Literal["random", "baked", "none"] = Option(
        "random",
        "horizontal flip: drawn again at each step (random), drawn once per image (baked), or never (none)",
    )
    posterior: Literal["resample", "baked", "mean"] = Option(
        "resample",
        "latent: the posterior drawn again at each step (resample), drawn once per image (baked), or its mean",
    )
    precision: Literal["float32", "bf16"] = Option(
        "float32", "precision of the matmuls; weights stay float32"
    )
    tf32: bool = Option(False, "allow TF32 for float32 matmuls on GPUs")
    gradient_clip: float | None = Option(None, "largest gradient norm; none: no clipping", gt=0)
    warmup: int = Added(0, "steps of linear warm-up of the learning rate, which is constant afterwards", ge=0)
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = Added(
        (0.9, 0.999), "decay of AdamW's means of gradients and of their squares, per step"
    )
    timesteps: Literal["independent", "stratified"] = Added(
        "independent",
        "times of a batch's images: drawn one by one (independent), or evenly spread from a random start (stratified)",
    )
    time_density: Literal["uniform", "logit-normal"] = Added(
        "uniform", "distribution of the times: uniform, or times in the middle more often (logit-normal)"
    )
    compile: bool | None = Compile
    kernels: Literal["auto", "off"] = Kernels
    checkpoint_gradients: bool = Free(
        False,
        "recompute activations in the backward pass: less memory, about a third more time (on CPUs three quarters more)",
    )
    micro_batch: int | None = Free(
        None,
        "largest number of images per process and forward pass; gradients of larger batches are accumulated",
        ge=1,
    )
    log_every: int = Free(100, "steps between logged losses", ge=1)
    snapshot_every: int = Free(1000, "steps between snapshots; a crash loses at most this many steps", ge=1)
    tracker: str | None = Free(
        None, "a tracker of accelerate (tensorboard, wandb, ...) in addition to metrics.jsonl"
    )

    @property
    def decays(self) -> tuple[float, ...]:
        """The decays of the averages that are kept, the first of which is used where no other is asked for."""
        return several(self.ema_decay) or (self.ema_decay,)

    @property
    def outputs(self) -> int:
        """Channels that the network predicts per latent channel: noise and variance, or velocity alone."""
        return 2 if self.objective == "ddpm" else 1
