"""Are the sampled digits the digits that were asked for? An independent classifier (an SVM on the real digits) says.

    python -m benchmarks.digit_accuracy [RESULTS]

For the samples of every row of the suite `digits`, as config.yaml has it, prints the share to which the SVM gives their intended
class, and the share per class. The SVM is fitted on the training images; its accuracy on the held-out ones, which share no digit
with them, is printed first.
"""

import sys
from pathlib import Path

import numpy as np
from sklearn.svm import SVC

from ditgta.config import Config, load, read
from ditgta.data.image_index import ImageIndex
from ditgta.data.image_sets import open_image_set
from ditgta.data.images import load_index
from ditgta.layout import Layout
from ditgta.runtime.errors import InputError

SUITE = "digits"


def features(images: np.ndarray) -> np.ndarray:
    """Return grey values in 0..1 of uint8 images (N, H, W, 3), one row each."""
    return images.mean(axis=3).reshape(len(images), -1) / 255


def read_images(index: ImageIndex) -> np.ndarray:
    """Return the features of all images of an index."""
    return features(np.stack([index.image(i) for i in range(index.count)]))


def fit(training: ImageIndex, held_out: ImageIndex) -> tuple[SVC, float]:
    """Return an SVM fitted on the training images, and its accuracy on the held-out ones."""
    classifier = SVC(C=10).fit(read_images(training), training.labels)
    return classifier, float((classifier.predict(read_images(held_out)) == held_out.labels).mean())


def accuracy(classifier: SVC, folder: Path, classes: list[str]) -> tuple[float, list[float]]:
    """Return the share of a sample folder's images that are given their label, and that share per class."""
    samples = open_image_set(folder)
    images = np.concatenate(list(samples.batches(0, samples.count, 1000)))
    right = classifier.predict(features(images)) == samples.labels
    return float(right.mean()), [
        float(right[samples.labels == label].mean()) for label in range(len(classes))
    ]


def main(results: Path, config: Config | None = None) -> dict[str, float]:
    """Prints and returns the accuracy of every row that has been sampled; raises InputError if there is none."""
    layout = Layout(config or load(read()), str(results))
    first = layout.specs.first(SUITE)
    rows = [row for row in layout.rows(SUITE) if Path(layout.samples(SUITE, row), "index.json").is_file()]
    if not rows:
        raise InputError(
            f"{results} holds no samples of the suite {SUITE}; run `snakemake --cores all {SUITE}` first"
        )
    training = load_index(layout.images(first))
    classifier, held_out = fit(training, load_index(layout.held_out(first)))
    print(f"SVM on real digits: {held_out:.1%} of held-out images right")
    accuracies = {}
    for row in rows:
        name = f"{row.experiment}/{row.place}"
        accuracies[name], per_class = accuracy(classifier, Path(layout.samples(SUITE, row)), training.classes)
        shares = " ".join(f"{share:.0%}" for share in per_class)
        print(f"{name:<28} {accuracies[name]:6.1%}   per class {shares}")
    return accuracies


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1] if len(sys.argv) > 1 else "results"))
    except InputError as error:
        sys.exit(str(error))
