"""Every option of every stage, once: typed, documented beside the field, unknown keys refused."""

import hashlib
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from ditgta.config.inputs import Images, Latents
from ditgta.config.names import (
    LATENT_FORMATS,
    OBJECTIVES,
    POSENCS,
    POSITIONS,
    PRIMARY,
    SAMPLERS,
    rotation_fault,
)
from ditgta.config.posenc import Posenc
from ditgta.config.section import Free, Section

Compile = Field(
    None,
    description="compile the network with torch.compile, which changes rounding: yes, no, or none: where a GPU and Triton are",
)
Kernels = Field(
    "auto",
    description="layers written for CPUs, which change rounding: auto takes them on CPUs, off the plain formulas everywhere",
)


Side = Annotated[int, Field(ge=1)]


def _both_sides(value: Any) -> Any:
    """Takes one side, as people type it, for height and width."""
    if value is None:
        return None
    sides = value if isinstance(value, list | tuple) else [value]
    return sides * 2 if len(sides) == 1 else sides


class Autoencoder(Section):
    """Which autoencoder turns images into latents: a pretrained one, or a small one trained on the images themselves."""

    pretrained: str | None = Field(
        None, description="hub id or local folder of a diffusers AutoencoderKL; none: train one on the images"
    )
    revision: str | None = Field(None, description="revision of the hub id")
    widths: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (16, 32, 32),
        min_length=1,
        description="channels per resolution of a trained autoencoder; every one but the last halves the side",
    )
    latent_channels: int = Field(4, ge=1, description="latent channels of a trained autoencoder")
    steps: int = Field(500, ge=1, description="training steps of a trained autoencoder")
    batch_size: int = Field(8, ge=1, description="batch of a trained autoencoder")
    learning_rate: float = Field(3e-3, gt=0, description="learning rate of a trained autoencoder")
    kl_weight: float = Field(1e-3, ge=0, description="weight of the KL term of a trained autoencoder")
    seed: int = Field(0, description="seed of a trained autoencoder")
    tf32: bool = Field(
        False,
        description="allow TF32 for float32 products on GPUs, when it is trained and when it encodes images",
    )


class Model(Section):
    """Which diffusion transformer."""

    name: str = Field(
        "DiT-B/2",
        pattern=r"^DiT-(Ti|S|B|L|XL)/[1248]$",
        description="DiT-{Ti,S,B,L,XL}/PATCH: the named size and the patch side in latent pixels: 1, 2, 4 or 8",
        json_schema_extra={"flag": "model"},
    )
    posenc: Posenc = Field(
        "gta",
        description=f"positional encoding: MODULE:CLASS of your own (docs/adding-an-encoding.md), or one of {{{', '.join(POSENCS)}}}",
    )
    rotary_base: float | None = Field(
        None, gt=1, description="base of the frequencies of an encoding that rotates; none: its paper's"
    )
    absolute_table: bool = Field(
        False, description="add the table of abs to the patch embeddings too, for an encoding that rotates"
    )
    qk_norm: bool = Field(
        True, description="RMSNorm of queries and keys; the GTA reference has it, the original DiT has not"
    )
    depth: int | None = Field(None, ge=1, description="number of blocks, instead of the named size's")
    width: int | None = Field(None, ge=4, description="token width, instead of the named size's")
    heads: int | None = Field(None, ge=1, description="attention heads, instead of the named size's")

    @model_validator(mode="after")
    def _options_of_rotations(self) -> "Model":
        if fault := rotation_fault(self.posenc, self.rotary_base is not None, self.absolute_table):
            raise ValueError(fault)
        return self


class Training(Section):
    """How the transformer is trained."""

    objective: Literal[tuple(OBJECTIVES)] = Field(
        "ddpm",
        description="what the network learns: ddpm: noise and variance at 1000 noise levels; flow: velocity of a straight path (flow matching)",
    )
    batch_size: int = Field(
        256, ge=1, description="global batch: exactly this many images per step on any number of processes"
    )
    learning_rate: float = Field(1e-4, gt=0, description="constant learning rate of AdamW")
    weight_decay: float = Field(0.0, ge=0, description="decoupled weight decay")
    ema_decay: float = Field(
        0.9999, ge=0, lt=1, description="decay of the moving average of the weights, per step"
    )
    label_dropout: float = Field(
        0.1, ge=0, lt=1, description="fraction of labels replaced by the null label, for guidance"
    )
    flip: Literal["random", "baked", "none"] = Field(
        "random", description="mirroring: anew at each step, drawn once per image, or never"
    )
    posterior: Literal["resample", "baked", "mean"] = Field(
        "resample", description="latent: posterior drawn anew at each step, drawn once per image, or its mean"
    )
    precision: Literal["float32", "bf16"] = Field(
        "float32", description="precision of the matrix products; weights stay float32"
    )
    tf32: bool = Field(False, description="allow TF32 for float32 products on GPUs")
    gradient_clip: float | None = Field(None, gt=0, description="largest gradient norm; none: no clipping")
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


class Sampling(Section):
    """How images are sampled from a checkpoint."""

    num_samples: int = Field(50000, ge=1, description="number of images")
    sampler: Literal[SAMPLERS] = Field(
        "ancestral",
        description="sampler; the papers' protocol is ancestral; euler and heun belong to objective flow",
    )
    steps: int = Field(
        250, ge=1, le=1000, description="sampling steps, each one pass of the network; two with heun"
    )
    cfg_scale: float = Field(1.5, ge=0, description="classifier-free guidance scale; 1 is no guidance")
    cfg_channels: Literal["3", "all"] = Field(
        "all", description="noise channels that are guided; the DiT reference guides the first 3 of 4"
    )
    cfg_interval: tuple[Annotated[float, Field(ge=0, le=1)], Annotated[float, Field(ge=0, le=1)]] | None = (
        Field(
            None,
            description="least and largest time in 0..1 (timestep / 1000; 1 is noise) at which images are guided; none: at all times",
        )
    )
    size: Annotated[tuple[Side, Side] | None, BeforeValidator(_both_sides)] = Field(
        None, description="side, or height and width, of the images in pixels; none: as in training"
    )
    positions: Literal[POSITIONS] = Field(
        "extrapolate",
        description="how the encoding is told of places at another size; see ditgta/model/positional/places.py",
    )
    temperature: Annotated[Literal["1", "log"], BeforeValidator(str)] = Field(
        "1",
        description="of attention at another size: log multiplies its logits by sqrt(ln tokens / ln tokens in training)",
    )
    labels: Literal["random", "balanced"] = Field(
        "balanced", description="labels: i.i.d. uniform, or interleaved equal counts"
    )
    precision: Literal["float32", "bf16"] = Field(
        "float32", description="precision of the network's matrix products"
    )
    tf32: bool = Field(
        False, description="allow TF32 for float32 products, of the network and of the decoder, on GPUs"
    )
    compile: bool | None = Compile
    kernels: Literal["auto", "off"] = Kernels
    guidance_precision: Literal["float32", "float64"] = Field(
        "float32", description="precision of guidance and of the sampling update"
    )
    uint8: Literal["round", "floor"] = Field(
        "round",
        description="how pixels become uint8: rounded as in the DiT reference, or rounded down as in ADM",
    )
    seed: int = Field(
        0, description="seed of noise and labels, common to all rows so that their differences are paired"
    )
    training_seed: int | None = Field(
        None,
        ge=0,
        description="training seed of the checkpoint, which gives it noise and labels of its own, common to all rows; "
        "none: those of `seed` alone",
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
                "positions and temperature are for another size than that of training; give size too"
            )
        return self

    @property
    def noise_seed(self) -> int:
        """The seed from which noise and labels are drawn: of `seed` and `training_seed` together, by a stable hash."""
        if self.training_seed is None:
            return self.seed
        key = f"{self.seed}\x1f{self.training_seed}".encode()
        return int.from_bytes(hashlib.sha256(key).digest()[:8], "little")

    def of_training(self, training_seed: int) -> "Sampling":
        """Returns the options for the checkpoints of a training seed.

        With noise of its own each run shows, beside the luck of training, that of sampling, and a mean over runs averages both.
        """
        return self.model_copy(update={"training_seed": training_seed})


class Scorer(Section):
    """Which network and which real images the scores come from."""

    weights: str | None = Field(
        None,
        description="FID Inception weights: a file, or an https address fetched once; none: train a small one on the images",
    )
    reference: str | None = Field(
        None,
        description="reference npz (statistics or images) as ADM's suite takes; none: the experiment's images",
    )
    width: float = Field(
        0.0625, gt=0, le=1, description="width of a trained scorer as a fraction of Inception-V3"
    )
    input_size: int = Field(75, ge=75, description="side in pixels to which a trained scorer resizes images")
    epochs: int = Field(20, ge=1, description="training epochs of a trained scorer")
    batch_size: int = Field(64, ge=1, description="batch of a trained scorer")
    learning_rate: float = Field(2e-2, gt=0, description="peak learning rate of a trained scorer")
    holdout: float = Field(
        0.2, gt=0, lt=1, description="fraction of images on which a trained scorer's accuracy is measured"
    )
    seed: int = Field(0, description="seed of a trained scorer")


class Experiment(Section):
    """One row of a table: images, autoencoder, model and training. `like` names an experiment to start from."""

    like: str | None = Field(None, description="experiment whose options are taken where this one is silent")
    images: Images = Images()
    autoencoder: Autoencoder = Autoencoder()
    latents: Latents = Latents()
    model: Model = Model()
    training: Training = Training()
    checkpoint: str | None = Field(None, description="trained checkpoint to score as it is, without training")

    @model_validator(mode="after")
    def _what_latents_allow(self) -> "Experiment":
        holds = LATENT_FORMATS.get(self.latents.format)
        if holds and not holds.flips and self.training.flip != "none":
            raise ValueError(
                f"latents of {self.latents.format} hold one side of each image; set training: {{flip: none}}"
            )
        if holds and not holds.moments and self.training.posterior != "mean":
            raise ValueError(
                f"latents of {self.latents.format} hold one draw of each posterior; set training: {{posterior: mean}}"
            )
        return self


class TrainSpec(Section):
    """What decides the weights of a training, as `Config.train_spec` says it."""

    latents: dict = Field(default_factory=dict)
    model: dict = Field(default_factory=dict)
    training: dict = Field(default_factory=dict)
    seed: int = 0


def _listed(value: Any) -> Any:
    """Takes one value for a list of one, as people type it."""
    return value if isinstance(value, list | tuple | dict) or value is None else [value]


class Suite(Section):
    """One table: experiments at the same milestones, sampled and scored alike."""

    experiments: Annotated[tuple[str, ...], BeforeValidator(_listed)] = Field(
        description="rows of the table", min_length=1
    )
    milestones: Annotated[tuple[Annotated[int, Field(ge=1)], ...], BeforeValidator(_listed)] = Field(
        description="training steps at which rows are sampled and scored", min_length=1
    )
    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], BeforeValidator(_listed)] = Field(
        (0,), description="training seeds", min_length=1
    )
    differences: tuple[tuple[str, str], ...] = Field(
        (), description="pairs of experiments whose paired difference, first minus second, is shown"
    )
    primary: Literal[PRIMARY] | None = Field(
        None,
        description="metric whose differences at the last milestone are given verdicts, which several seeds can earn; none: "
        "fid, or kid where a trained scorer has too few samples for the error of fid",
    )
    training_cov: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="how far one training run lies from another in the primary metric, as the standard deviation of its "
        "logarithm (FID: 0.01 to 0.02 at scale), for the z that rows with one seed are given; none: they are given nothing",
    )
    sampling: Sampling = Sampling()
    scorer: Scorer = Scorer()

    @model_validator(mode="after")
    def _rising(self) -> "Suite":
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError("milestones must rise")
        for name in ("experiments", "seeds"):
            if len(set(getattr(self, name))) != len(getattr(self, name)):
                raise ValueError(f"{name} must differ from each other")
        return self


class Config(Section):
    """The whole of config.yaml."""

    suite: str = Field("digits", description="suite that `snakemake` makes when no other is named")
    experiments: dict[str, Experiment]
    suites: dict[str, Suite]

    def images_spec(self, experiment: str) -> dict:
        """Returns what decides an experiment's images."""
        return self.experiments[experiment].images.spec()

    def autoencoder_spec(self, experiment: str) -> dict:
        """Returns what decides an experiment's autoencoder: its options and, where it is trained, the images."""
        options = self.experiments[experiment].autoencoder
        if options.pretrained:
            return {name: getattr(options, name) for name in ("pretrained", "revision", "tf32")}
        return {**options.spec(), "images": self.images_spec(experiment)}

    def latents_spec(self, experiment: str) -> dict:
        """Returns what decides an experiment's latents."""
        made = {"images": self.images_spec(experiment), "autoencoder": self.autoencoder_spec(experiment)}
        imported = self.experiments[experiment].latents
        return {**made, "latents": imported.spec()} if imported.format else made

    def train_spec(self, experiment: str, seed: int) -> dict:
        """Returns what decides an experiment's weights at every step."""
        options = self.experiments[experiment]
        return {
            "latents": self.latents_spec(experiment),
            "model": options.model.spec(),
            "training": options.training.spec(),
            "seed": seed,
        }

    def scorer_spec(self, suite: str) -> dict:
        """Returns what decides a suite's scorer: the weights file, or the small network's training and its images."""
        options = self.suites[suite].scorer
        if options.weights:
            return {"weights": options.weights}
        content = options.spec()
        del content["weights"], content["reference"]
        return {**content, "images": self.images_spec(self.suites[suite].experiments[0])}

    def milestones(self, experiment: str) -> list[int]:
        """Returns the chain of milestones of an experiment: those of every suite that holds it."""
        return sorted(
            {
                step
                for suite in self.suites.values()
                if experiment in suite.experiments
                for step in suite.milestones
            }
        )
