"""Options of training."""

from typing import Annotated, Literal

from pydantic import Field

from ditgta.config.choices import Decays, several
from ditgta.config.names import OBJECTIVES
from ditgta.config.section import Added, Compile, Free, Kernels, Section


class Training(Section):
    """How the transformer is trained."""

    objective: Literal[tuple(OBJECTIVES)] = Field(
        "ddpm",
        description="what the network learns: ddpm: noise and variance at 1000 noise levels; flow: velocity of a straight path (flow matching)",
    )
    batch_size: int = Field(
        256,
        ge=1,
        le=10**9,
        description="global batch: exactly this many images per step on any number of processes",
    )
    learning_rate: float = Field(1e-4, gt=0, description="constant learning rate of AdamW")
    weight_decay: float = Field(0.0, ge=0, description="decoupled weight decay")
    ema_decay: Decays = Field(
        0.9999,
        description="decay of the moving average of the weights, per step. A list: an average of each is kept; the first is the "
        "one that is used, and in a suite each row's is chosen by FID on one noise and reported on another",
        json_schema_extra={"several": True},
    )
    label_dropout: float = Field(
        0.1, ge=0, lt=1, description="fraction of labels replaced by the null label, for guidance"
    )
    flip: Literal["random", "baked", "none"] = Field(
        "random", description="mirroring: drawn again at each step, drawn once per image, or never"
    )
    posterior: Literal["resample", "baked", "mean"] = Field(
        "resample",
        description="latent: posterior drawn again at each step, drawn once per image, or its mean",
    )
    precision: Literal["float32", "bf16"] = Field(
        "float32", description="precision of the matmuls; weights stay float32"
    )
    tf32: bool = Field(False, description="allow TF32 for float32 matmuls on GPUs")
    gradient_clip: float | None = Field(None, gt=0, description="largest gradient norm; none: no clipping")
    warmup: int = Added(
        0, "steps over which the learning rate rises in proportion to the step, before it is constant", ge=0
    )
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = Added(
        (0.9, 0.999), "decay of AdamW's means of gradients and of their squares, per step"
    )
    timesteps: Literal["independent", "stratified"] = Added(
        "independent",
        "times of a batch's images: drawn one by one, or evenly spread over noise levels from a random start",
    )
    time_density: Literal["uniform", "logit-normal"] = Added(
        "uniform", "how often each time is seen: all alike, or those in the middle more often (logit-normal)"
    )
    compile: bool | None = Compile
    kernels: Literal["auto", "off"] = Kernels
    checkpoint_gradients: bool = Free(
        False,
        "recompute activations in the backward pass: less memory; about a third more time, on CPUs three quarters",
    )
    micro_batch: int | None = Free(
        None, "most images per process and forward pass; larger shares are accumulated", ge=1
    )
    log_every: int = Free(100, "steps between logged losses", ge=1)
    snapshot_every: int = Free(1000, "steps between snapshots: the most that a crash can lose", ge=1)
    tracker: str | None = Free(
        None, "tracker that accelerate knows (tensorboard, wandb, ...), beside metrics.jsonl"
    )

    @property
    def decays(self) -> tuple[float, ...]:
        """The decays of the averages that are kept, the first of which is used where no other is asked for."""
        return several(self.ema_decay) or (self.ema_decay,)
