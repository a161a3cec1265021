"""Every option of every stage, once: typed, documented beside the field, unknown keys refused."""

import json
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, model_validator
from pydantic_core import PydanticKnownError

from ditgta.config.choices import listed
from ditgta.config.differences import Differences
from ditgta.config.inputs import Images, Latents
from ditgta.config.loss import Loss
from ditgta.config.names import (
    LATENT_FORMATS,
    PIXEL_CHANNELS,
    POSENCS,
    PRIMARY,
    RESULTS_VERSION,
    named_sizes,
    rotation_fault,
)
from ditgta.config.sampling import Sampling, SuiteSampling
from ditgta.config.scorer import Scorer
from ditgta.config.section import Added, Option, Place, Section
from ditgta.config.sizes import SamplingChange, Size, points_of
from ditgta.config.training import Training
from ditgta.runtime import modules


def _identified(posenc: str) -> str:
    """Takes a known encoding by its name, and a class of one's own as MODULE:CLASS@SHA256: what it is decides results."""
    if posenc not in POSENCS and not modules.is_own(posenc):
        known = f"MODULE:CLASS, {', '.join(map(repr, POSENCS[:-1]))} or {POSENCS[-1]!r}"
        raise PydanticKnownError("literal_error", {"expected": known})
    return modules.identified(posenc)


# For editors: the names, or something of the form MODULE:CLASS.
_SCHEMA = {"anyOf": [{"enum": list(POSENCS)}, {"type": "string", "pattern": f"^{modules.PATTERN.pattern}$"}]}
Posenc = Annotated[str, AfterValidator(_identified), WithJsonSchema(_SCHEMA)]


class Autoencoder(Section):
    """What turns images into latents: a pretrained autoencoder, a small one trained on the images themselves, or none."""

    pretrained: Place | None = Option(
        None, "hub id or local folder of a diffusers AutoencoderKL; none: train one on the images"
    )
    revision: str | None = Option(None, "revision of the hub id")
    pixels: Literal[tuple(PIXEL_CHANNELS)] | None = Added(
        None,
        "no autoencoder: latents are the pixels in -1..1, with one channel (grey, for images without colour) or three",
    )
    widths: tuple[Annotated[int, Field(ge=1, le=2**14)], ...] = Option(
        (16, 32, 32),
        "channels per resolution of a trained autoencoder; each resolution but the last halves the side",
        min_length=1,
    )
    latent_channels: int = Option(4, "latent channels of a trained autoencoder", ge=1, le=2**12)
    steps: int = Option(500, "training steps of a trained autoencoder", ge=1)
    batch_size: int = Option(8, "batch of a trained autoencoder", ge=1)
    learning_rate: float = Option(3e-3, "learning rate of a trained autoencoder", gt=0)
    kl_weight: float = Option(1e-3, "weight of the KL term of a trained autoencoder", ge=0)
    seed: int = Option(0, "seed of a trained autoencoder")
    tf32: bool = Option(
        False, "allow TF32 for float32 matmuls on GPUs, when the autoencoder is trained and when it encodes"
    )

    @model_validator(mode="after")
    def _one_kind(self) -> "Autoencoder":
        if self.pretrained and self.pixels:
            raise ValueError("pretrained names an autoencoder, pixels uses none; give one of them")
        return self

    @property
    def downsampling(self) -> int:
        """Image pixels per latent pixel and side; 8 of a pretrained one, as all that are known have it."""
        if self.pixels:
            return 1
        return 8 if self.pretrained else 2 ** (len(self.widths) - 1)

    @property
    def channels(self) -> int:
        """Channels of the latents; 4 of a pretrained one, as most have."""
        if self.pixels:
            return PIXEL_CHANNELS[self.pixels]
        return 4 if self.pretrained else self.latent_channels


class Model(Section):
    """Which diffusion transformer."""

    name: str = Option(
        "DiT-B/2",
        "DiT-{Pi,Ti,S,B,L,XL}/PATCH: the named size and the patch side in latent pixels: 1, 2, 4 or 8",
        pattern=r"^DiT-(Pi|Ti|S|B|L|XL)/[1248]$",
        json_schema_extra={"flag": "model"},
    )
    posenc: Posenc = Option(
        "gta",
        f"positional encoding: your own as MODULE:CLASS (docs/adding-an-encoding.md), or one of {{{', '.join(POSENCS)}}}",
    )
    rotary_base: float | None = Option(
        None, "base of the frequencies of an encoding that rotates; none: its paper's", gt=1
    )
    absolute_table: bool = Option(
        False, "for an encoding that rotates: also add the table of abs to the patch embeddings"
    )
    qk_norm: bool = Option(
        True, "RMSNorm of queries and keys; the GTA reference has it, the original DiT does not"
    )
    depth: int | None = Option(None, "number of blocks, instead of the named size's", ge=1, le=10_000)
    width: int | None = Option(None, "token width, instead of the named size's", ge=4, le=2**20)
    heads: int | None = Option(None, "attention heads, instead of the named size's", ge=1, le=2**16)
    label_std: float | None = Added(
        None,
        "standard deviation of the initial label embeddings, with Xavier weights in the time MLP, for short trainings; "
        "none: both N(0, .02), as in the papers",
        gt=0,
    )

    @property
    def sizes(self) -> dict[str, int]:
        """Patch, depth, width and heads: those of the named size, or what is given instead."""
        return {key: getattr(self, key, None) or size for key, size in named_sizes(self.name).items()}

    @model_validator(mode="after")
    def _options_of_rotations(self) -> "Model":
        if fault := rotation_fault(self.posenc, self.rotary_base is not None, self.absolute_table):
            raise ValueError(fault)
        width, heads = self.sizes["width"], self.sizes["heads"]
        if width % heads or (width // heads) % 4:
            raise ValueError(
                f"width {width} over {heads} heads: the head width must be a whole multiple of 4; change one of them"
            )
        return self


class Experiment(Section):
    """One row of a table: images, autoencoder, model and training. `like` names an experiment to start from."""

    like: str | None = Option(None, "experiment that gives the options that are not set here")
    images: Images = Images()
    autoencoder: Autoencoder = Autoencoder()
    latents: Latents = Latents()
    model: Model = Model()
    training: Training = Training()
    checkpoint: Place | None = Option(None, "trained checkpoint to sample and score, without training")
    sampling: SamplingChange | None = Option(
        None, "sampling options in which this row differs from its suite's: {cfg_scale: 2}"
    )

    @property
    def decays(self) -> tuple[float, ...]:
        """The decays of the averages that its checkpoints hold, () where they are not known: of a checkpoint made elsewhere."""
        return () if self.checkpoint else self.training.decays

    @model_validator(mode="after")
    def _what_latents_allow(self) -> "Experiment":
        holds = LATENT_FORMATS.get(self.latents.format)
        if holds and not holds.flips and self.training.flip != "none":
            raise ValueError(
                f"latents of {self.latents.format} hold only one orientation of each image; set training: {{flip: none}}"
            )
        if holds and not holds.moments and self.training.posterior != "mean":
            raise ValueError(
                f"latents of {self.latents.format} hold one draw of each posterior; set training: {{posterior: mean}}"
            )
        if self.autoencoder.pixels and not self.latents.format and self.training.posterior != "mean":
            raise ValueError("pixels have no posterior to draw from; set training: {posterior: mean}")
        if self.latents.format and self.images.hold_out:
            raise ValueError(
                "imported latents contain all images, so none can be held out; set images: {hold_out: 0}, "
                "and name another source in images.held_out"
            )
        return self


class TrainSpec(Section):
    """What decides the weights of a training, as `ditgta.specs` says it."""

    version: int = RESULTS_VERSION
    latents: dict = Field(default_factory=dict)
    model: dict = Field(default_factory=dict)
    training: dict = Field(default_factory=dict)
    seed: int = 0


def _seeds(value: Any) -> Any:
    """Refuses a number in place of a list: a user who writes 3 wants three seeds, not seed 3."""
    if isinstance(value, int | float | str):
        raise ValueError(
            f"write a list: {list(range(3))} for three seeds, or [{value}] for seed {value} alone"
        )
    return value


class Suite(Section):
    """One table: experiments at the same milestones, sampled and scored alike."""

    experiments: Annotated[tuple[str, ...], BeforeValidator(listed)] = Field(
        description="rows of the table", min_length=1
    )
    milestones: Annotated[tuple[Annotated[int, Field(ge=1, lt=10**12)], ...], BeforeValidator(listed)] = (
        Field(description="training steps at which rows are sampled and scored", min_length=1)
    )
    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], BeforeValidator(_seeds)] = Option(
        (0,), "training seeds", min_length=1, max_length=1000
    )
    differences: Differences = Option(
        (),
        "paired differences to show: pairs of experiments (first minus second), and contrasts of several, "
        "{name: ..., weights: {row: weight, ...}}",
    )
    primary: Literal[PRIMARY] | None = Option(
        None,
        "metric that gets verdicts (at the last milestone, with several seeds); none: "
        "fid, or kid if a row has too few samples for an error bar of fid and for fid_infinity",
    )
    training_cov: float | None = Option(
        None,
        "spread of the primary metric between training runs, as the standard deviation of its "
        "logarithm (FID: 0.01 to 0.02 at scale), to compute z for rows with one seed; none: no z",
        gt=0,
        lt=1,
    )
    published: dict[str, dict[Annotated[int, Field(ge=1)], Annotated[float, Field(gt=0)]]] = Option(
        {},
        "published FID of rows by milestone, shown beside those of the table: {imagenet256-gta: {200000: 25.15}}",
    )
    published_source: str | None = Option(None, "source of the published values")
    sampling: SuiteSampling = SuiteSampling()
    sizes: tuple[Size, ...] = Option(
        (),
        "other sizes at which the last milestone is also sampled and scored, in a separate chapter: "
        "[{size: 512, positions: [extrapolate, ntk], cfg_scale: [1.5, 2]}]",
    )
    loss: Loss = Loss()
    scorer: Scorer = Scorer()

    @model_validator(mode="after")
    def _rising(self) -> "Suite":
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError("milestones must increase; sort them")
        for name in ("experiments", "seeds"):
            if len(set(getattr(self, name))) != len(getattr(self, name)):
                raise ValueError(f"{name} must be different from each other; leave one out")
        if self.published and not self.published_source:
            raise ValueError("published values need their source; name it in published_source")
        return self


class Config(Section):
    """The whole of config.yaml."""

    suite: Annotated[str, BeforeValidator(lambda name: str(name) if isinstance(name, int) else name)] = (
        Option("digits", "suite that `snakemake` makes if no target is given")
    )
    experiments: dict[str, Experiment]
    suites: dict[str, Suite]

    def sampling(self, suite: str, row: str) -> Sampling:
        """Return how a row of a suite is sampled: as the suite says, but for what its experiment says."""
        experiment, options = self.experiments[row], self.suites[suite].sampling.at_first()
        if experiment.sampling:
            options = experiment.sampling.over(options)
        if options.ema_decay in experiment.decays[:1]:
            options = options.model_copy(update={"ema_decay": None})
        return options

    def loss(self, suite: str, row: str) -> Loss:
        """Return how the held-out loss of a row of a suite is measured: of the average that is sampled."""
        decay = self.sampling(suite, row).ema_decay
        return self.suites[suite].loss.model_copy(update={"ema_decay": decay})

    def rows(self, suite: str) -> dict[str, Experiment]:
        """Return the experiments of a suite by name; names of none are left out."""
        rows = self.suites[suite].experiments
        return {row: self.experiments[row] for row in rows if row in self.experiments}

    def first(self, suite: str) -> Experiment:
        """Return the experiment whose images are those of all rows of a suite."""
        return self.experiments[self.suites[suite].experiments[0]]

    def trained(self, suite: str) -> dict[str, Experiment]:
        """Return the rows of a suite that are trained here, not imported, by name."""
        return {name: row for name, row in self.rows(suite).items() if not row.checkpoint}

    def sized(self, suite: str) -> dict[str, Experiment]:
        """Return the rows of a suite at its other sizes by name."""
        rows = {}
        for size in self.suites[suite].sizes:
            for row, experiment in self.rows(suite).items():
                for name, change in size.rows(row, experiment.model.posenc):
                    rows[name] = self._sampled(row, change)
        return rows

    def swept(self, suite: str) -> dict[str, Experiment]:
        """Return the rows of a suite at the further points of its sweep by name."""
        options, rows = self.suites[suite].sampling, {}
        for row, experiment in self.rows(suite).items():
            decays = experiment.decays if options.ema_decay is None else ()
            for name, change in points_of(row, experiment.sampling, options.scales, decays):
                rows[name] = self._sampled(row, change)
        return rows

    def _sampled(self, row: str, change: SamplingChange) -> Experiment:
        """Return a row that is sampled otherwise."""
        return self.experiments[row].model_copy(update={"sampling": change, "like": row})

    def beside(self, suite: str) -> dict[str, Experiment]:
        """Return the rows beside a suite's table by name: like its experiments, but for how they are sampled."""
        return {**self.sized(suite), **self.swept(suite)}


# Where one value is taken for a list of one.
_LISTS_OF_ONE = {"Suite": ("experiments", "milestones"), "Size": ("positions", "temperature", "cfg_scale")}
_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema() -> str:
    """Return the schema as text."""
    content = {"$schema": _DIALECT, **Config.model_json_schema(), "title": "ditgta's config.yaml"}
    for section, names in _LISTS_OF_ONE.items():
        for name in names:
            options = content["$defs"][section]["properties"][name]
            several = {key: options.pop(key) for key in ("type", "items", "minItems") if key in options}
            options["anyOf"] = [several, several["items"]]
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"
