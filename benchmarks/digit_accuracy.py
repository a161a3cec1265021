"""Are the sampled digits the digits that were asked for? An independent classifier (an SVM on the real digits) says.

    python -m benchmarks.digit_accuracy [RESULTS]

For every sample folder of the suite `digits` prints the share of samples to which the SVM gives their intended class, and the share
per class. The SVM is fitted on two thirds of the real images; its accuracy on the rest is printed first.
"""

import sys
from pathlib import Path

import numpy as np
from sklearn.model_selection import train_test_split
from sklearn.svm import SVC

from ditgta.data.images import load_index


def features(images: np.ndarray) -> np.ndarray:
    """Returns grey values in 0..1 of uint8 images (N, H, W, 3), one row each."""
    return images.mean(axis=3).reshape(len(images), -1) / 255


def fit(index_folder: Path) -> tuple[SVC, float]:
    """Returns an SVM fitted on two thirds of an index's images, and its accuracy on the rest."""
    index = load_index(index_folder)
    x = features(np.stack([index.image(i) for i in range(index.count)]))
    fitted, rest, y_fitted, y_rest = train_test_split(
        x, index.labels, test_size=1 / 3, random_state=0, stratify=index.labels
    )
    classifier = SVC(C=10).fit(fitted, y_fitted)
    return classifier, float((classifier.predict(rest) == y_rest).mean())


def accuracy(classifier: SVC, folder: Path, classes: list[str]) -> tuple[float, list[float]]:
    """Returns the share of a sample folder's images that are given their label, and that share per class."""
    with np.load(folder / "samples.npz") as file:
        images, labels = file["arr_0"], file["arr_1"]
    right = classifier.predict(features(images)) == labels
    return float(right.mean()), [float(right[labels == label].mean()) for label in range(len(classes))]


def main(results: Path) -> dict[str, float]:
    """Prints and returns the accuracy of every row."""
    (index_folder,) = sorted((results / "images").glob("digits-*"))[:1]
    classifier, held_out = fit(index_folder)
    print(f"SVM on real digits: {held_out:.1%} of held-out images right")
    accuracies = {}
    for path in sorted((results / "sample" / "digits").glob("*/seed*/*/samples.npz")):
        row = str(path.parent.relative_to(results / "sample" / "digits"))
        accuracies[row], per_class = accuracy(classifier, path.parent, load_index(index_folder).classes)
        print(
            f"{row:<28} {accuracies[row]:6.1%}   per class " + " ".join(f"{share:.0%}" for share in per_class)
        )
    return accuracies


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "results"))
