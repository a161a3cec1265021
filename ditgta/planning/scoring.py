"""What scoring costs: which images each network sees, features of real images being kept, and what enters the metrics."""

from collections import Counter
from dataclasses import dataclass

from ditgta.config import Experiment, Suite
from ditgta.planning import cost
from ditgta.runtime.errors import InputError
from ditgta.runtime.files import expanded

METRIC_SECONDS = 14e-3  # of a core for all metrics of one image with 2,048 features, measured
DISTANCES = 0.5  # share of that for a Frechet and a kernel distance alone, measured
BASELINE_DRAWS = 10  # of real images, each of which is scored as a row is
FEATURES = (2048, 2023, 1008)  # of the scorer: pool3, spatial, probabilities


@dataclass(frozen=True)
class Scored:
    """Images that are scored, and how.

    whole, crops: that networks see as they are, and as crops of the size of training. compared, compared_crops: that metrics take.
    """

    whole: int
    crops: int
    compared: int
    compared_crops: int


def scored_images(suite: Suite, experiment: Experiment, rows: Counter[tuple[int, int]], count: int) -> Scored:
    """Return the images that a suite scores; `rows` by height and width of their samples, `count` images of training.

    Samples are seen once for each row, real images once for each size: of training and, where samples are compared with them, held
    out. At other sizes than that of training, crops are seen too, where the images are large enough.
    """
    options, samples, trained = suite.scorer, suite.sampling.num_samples, (experiment.images.size,) * 2
    listed = count
    if not (options.weights or options.reference):
        listed += cost.held_out_count(experiment.images, count)
    whole = crops = compared = compared_crops = 0
    for size, number in rows.items():
        real, drawn_from = listed, count
        if size == trained and options.reference:
            real = drawn_from = images_in(options.reference)
        seen = number * samples + real
        taken = number * samples + BASELINE_DRAWS * min(samples, drawn_from // 2)
        whole, compared = whole + seen, compared + taken
        if size != trained and min(size) >= min(trained):
            crops, compared_crops = crops + seen, compared_crops + taken
    return Scored(whole, crops, compared, compared_crops)


def metric_seconds(scored: Scored, width: float, judge_width: int) -> float:
    """Return the seconds of a core for all metrics; `width` of the scorer is a share of Inception's.

    `judge_width`: features of the second judge, 0 without one; of crops and of these there are two distances alone.
    """
    own = METRIC_SECONDS * width**2
    beside = METRIC_SECONDS * DISTANCES * judge_width / FEATURES[0]
    return scored.compared * (own + beside) + scored.compared_crops * DISTANCES * own


def feature_bytes(scored: Scored, width: float, judge_width: int) -> float:
    """Return the bytes of the features that are kept, float32; of crops there is one kind alone."""
    return 4 * (scored.whole * (sum(FEATURES) * width + judge_width) + scored.crops * FEATURES[0] * width)


def images_in(reference: str) -> int:
    """Return how many images a reference file holds beside its statistics, 0 where it is not at hand."""
    from ditgta.data.npz import NpzArray  # and NumPy, without which a status is quick

    try:
        array = NpzArray.find(expanded(reference), "arr_0")
    except InputError:
        return 0
    return array.shape[0] if array else 0
