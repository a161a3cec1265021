"""What is known of rows beside their scores: losses, classes, nearness to real images, options, costs."""

from dataclasses import dataclass

import numpy as np

COMPARED = "model.posenc"
CHOSEN = "chosen"  # options of each row, by the same rule


@dataclass(frozen=True)
class Curve:
    """The loss of one training run: steps and, for each kind of loss, one value per step."""

    experiment: str
    seed: int
    steps: list[int]
    losses: dict[str, list[float]]
    images_per_second: float | None = None

    @property
    def by_step(self) -> dict[int, float]:
        """The training loss at each step."""
        return dict(zip(self.steps, self.losses["loss"]))


@dataclass(frozen=True)
class Interval:
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class ClassResult:
    """One class of one row at a milestone, over its training seeds."""

    label: int
    count: int  # samples of the class per training seed
    # share of them that the scorer takes for this class, None where it has not learnt the classes
    accuracy: Interval | None
    # kernel distance to the real images of the class, None where it could not be computed
    kid: Interval | None


@dataclass(frozen=True)
class BandRatio:
    """How the held-out loss of a row lies to that of the first row, band by band, at the last milestone."""

    experiment: str  # the row
    ratio: np.ndarray  # (bands,) exp of the mean over training seeds of the logarithm of the ratio
    low: np.ndarray  # low, high: (bands,) ends of the 95 % interval that the images' number leaves
    high: np.ndarray


@dataclass(frozen=True)
class Nearness:
    """How near the samples of one row lie to the reference images, in the scorer's features."""

    experiment: str  # the row
    checked: int  # number of samples whose neighbours were looked for: the first ones
    candidates: int  # number of reference images that they were looked for among
    trained_on: bool  # these are the images that the row was trained on; False also where that is unknown
    typical: float  # median distance of a real image to the nearest other one
    ratio: float  # the samples' median distance to the nearest reference image, in units of `typical`
    near: Interval  # share of samples that are nearer than all but 5 % of real images are
    copies: int  # number of samples nearer than the two nearest real images are
    # (index, distance in units of `typical`) of the sample that lies nearest of all
    closest: tuple[int, float]


@dataclass(frozen=True)
class Option:
    """An option that decides results, and its value in each row as text; a row that does not tell has a dash."""

    name: str
    values: dict[str, str]

    @property
    def differs(self) -> bool:
        """True if two rows have different values."""
        return len(set(self.values.values())) > 1

    @property
    def is_each_rows(self) -> bool:
        """True of what rows may differ in: what is compared, and what was chosen for each by the same rule."""
        return self.name == COMPARED or self.name.startswith(f"{CHOSEN}.")

    @property
    def text(self) -> str:
        """The value that all rows have, or each row's."""
        if not self.differs:
            return next(iter(self.values.values()))
        return "; ".join(f"{name}: {value}" for name, value in self.values.items())


@dataclass(frozen=True)
class Cost:
    """What the jobs of one stage took for one row, or for all rows."""

    stage: str  # stage, row: the stage's word; the experiment, or the folder that several rows share
    row: str
    jobs: int  # processes that left a record (the first process of each job)
    seconds: float  # their wall times together
    # cpu_hours, gpu_hours: over all processes of the jobs; None where a record does not tell
    cpu_hours: float | None
    gpu_hours: float | None
    memory_mb: float | None  # memory_mb, gpu_memory_mb: most that one process had at a time; None likewise
    gpu_memory_mb: float | None
    machines: tuple[str, ...]  # the processors and GPUs
    commands: tuple[str, ...]  # what was run, in order
    revisions: tuple[str, ...]  # the commits at which that was
