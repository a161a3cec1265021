"""What the jobs of a suite need of a node's memory, as formulas. Needs no torch: the workflow asks before it sends jobs."""

from ditgta.planning import cost
from ditgta.planning.work import SuiteWork

PROCESS = (
    3e9  # bytes of a process on a GPU beside its arrays: the libraries of CUDA and what they keep on the host
)
FEATURES = 4 * (2048 + 2023 + 1008)  # of one image, by the published scorer: pool3, spatial, probabilities
AT_ONCE = 2  # copies of them, while metrics are computed


def training_bytes(work: SuiteWork, experiment: str, processes: int) -> float:
    """Return what a training's processes take of one node's memory: libraries and, in the first, a copy of its state."""
    return processes * PROCESS + cost.checkpoint_bytes(work.shape(experiment))


def scoring_bytes(work: SuiteWork) -> float:
    """Return what the scoring of one row takes of memory."""
    suite = work.config.suites[work.suite]
    width = 1.0 if suite.scorer.weights else suite.scorer.width
    return PROCESS + AT_ONCE * FEATURES * width * suite.sampling.num_samples
