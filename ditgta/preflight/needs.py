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


def memory_needs(work: SuiteWork, resources_of: Callable[[str], Mapping]) -> Iterator[Need]:
    """Yield the needs of the jobs that take most, where a profile says by `resources_of` what a rule's jobs are given."""
    suite, train = work.config.suites[work.suite], resources_of("train")
    states = []  # of a training's processes the first holds a copy of its state
    for name, experiment in work.config.trained(work.suite).items():
        states.append(cost.checkpoint_bytes(work.shape(name), len(experiment.training.decays)))
    needed = {}
    if states:
        needed["train"] = PROCESS * processes_per_node(train, int(train.get("nodes") or 1)) + max(states)
    width = 1.0 if suite.scorer.weights else suite.scorer.width
    needed["score"] = PROCESS + AT_ONCE * 4 * sum(FEATURES) * width * suite.sampling.num_samples
    for rule, bytes in needed.items():
        megabytes = str(resources_of(rule).get("mem_mb") or "")
        if megabytes.isdigit():
            yield Need(rule, bytes, 1e6 * int(megabytes))
