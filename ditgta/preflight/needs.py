"""What the jobs of a suite need of a node's memory, as formulas. Needs no torch: the workflow asks before it sends jobs."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from ditgta.launch import processes_per_node
from ditgta.planning import cost
from ditgta.planning.scoring import FEATURES
from ditgta.planning.work import SuiteWork

# Bytes of a process on a GPU beside its arrays: the libraries of CUDA and what they keep on the host.
PROCESS = 3e9
AT_ONCE = 2  # copies of all features, float32, while metrics are computed


@dataclass(frozen=True)
class Need:
    """bytes: what jobs of a rule need on a node. given: what they are given there."""

    rule: str
    bytes: float
    given: float

    @property
    def is_met(self) -> bool:
        """Whether a job can run."""
        return self.bytes <= self.given

    def said(self, profile: str) -> str:
        """Return the need as words."""
        return f"{self.rule} needs {self.bytes / 1e9:.3g} GB of a node's memory, but {profile} gives {self.given / 1e9:.3g} GB"


def training_bytes(work: SuiteWork, experiment: str, processes: int) -> float:
    """Return what a training's processes take of one node's memory: libraries and, in the first, a copy of its state."""
    averages = len(work.config.experiments[experiment].training.decays)
    return processes * PROCESS + cost.checkpoint_bytes(work.shape(experiment), averages)


def scoring_bytes(work: SuiteWork) -> float:
    """Return what the scoring of one row takes of memory."""
    suite = work.config.suites[work.suite]
    width = 1.0 if suite.scorer.weights else suite.scorer.width
    return PROCESS + AT_ONCE * 4 * sum(FEATURES) * width * suite.sampling.num_samples


def memory_needs(work: SuiteWork, resources_of: Callable[[str], Mapping]) -> Iterator[Need]:
    """Yield the needs of the jobs that take most, where a profile says by `resources_of` what a rule's jobs are given."""
    experiments = work.config.experiments
    names = [name for name in work.config.suites[work.suite].experiments if not experiments[name].checkpoint]
    train, score = resources_of("train"), resources_of("score")
    processes = processes_per_node(train, int(train.get("nodes") or 1))
    needed = {"score": scoring_bytes(work)}
    if names:
        needed["train"] = max(training_bytes(work, name, processes) for name in names)
    for rule, resources in (("train", train), ("score", score)):
        megabytes = str(resources.get("mem_mb") or "")
        if rule in needed and megabytes.isdigit():
            yield Need(rule, needed[rule], 1e6 * int(megabytes))
