"""Scikit-learn's 1,797 handwritten digits as PNG files: each filling the frame, or placed on a larger canvas."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ditgta.data.ahead import map_ahead
from ditgta.data.decode import sides_of
from ditgta.data.image_index import ImageIndex
from ditgta.runtime.files import atomic_path
from ditgta.runtime.progress import Progress
from ditgta.runtime.streams import generator

LEVELS = 16  # of grey, beside 0
SIDE = 8


class Digits:
    """The digits in the order of their classes: labels, and each one's number in scikit-learn's order, int64 [1797]."""

    def __init__(self):
        from sklearn.datasets import load_digits

        digits = load_digits()
        self.numbers = np.argsort(digits.target, kind="stable")
        self.labels = digits.target[self.numbers].astype(np.int64)
        self.classes = [str(name) for name in digits.target_names]
        self._levels = digits.images

    def levels(self, number: int) -> np.ndarray:
        """Return a digit as 8 x 8 levels 0..16."""
        return self._levels[number]

    def originals(self) -> list[bytes]:
        """Return what each digit is known by, in the order of `numbers`."""
        return [f"digit {number}".encode() for number in self.numbers]


def digits_index(
    digits: Digits,
    chosen: np.ndarray,
    size: int | tuple[int, int],
    folder: Path,
    placement: dict | None = None,
    copies: int = 1,
) -> ImageIndex:
    """Writes some digits, places in `digits.numbers`, as PNG files and returns their index; `size` is a side or (height, width).

    `placement` is {scales, grid} of placed digits, which are as large on every canvas; None enlarges each digit to the image.
    """

    def write(item: tuple[int, int]) -> str:
        place, copy = item
        number = digits.numbers[place]
        levels = digits.levels(number)
        if placement is None:
            pixels = enlarge_digit(levels, size)
        else:
            pixels = place_digit(levels, size, placement["scales"], placement["grid"], number, copy)
        suffix = f"-{copy}" if copies > 1 else ""
        file = f"{digits.labels[place]}/{number:04d}{suffix}.png"
        with atomic_path(folder / file) as temporary:
            Image.fromarray(pixels).save(temporary)
        return file

    items = [(place, copy) for place in chosen.tolist() for copy in range(copies)]
    files = []
    with Progress("images", len(items)) as progress:
        for file in map_ahead(write, items, threads=8):  # they wait for the disk, not for a core
            files.append(file)
            progress.advance()
    return ImageIndex(folder, files, np.repeat(digits.labels[chosen], copies), digits.classes, size)


def enlarge_digit(levels: np.ndarray, size: int | tuple[int, int]) -> np.ndarray:
    """Draws one digit of 8 x 8 levels 0..16 as white strokes on black, uint8 [size, size]; in the middle of oblong images.

    A margin of one level keeps strokes off the border; the bicubic image is too soft for handwriting, so a smooth
    step sharpens its edges.
    """
    height, width = sides_of(size)
    side = min(height, width)
    padded = Image.fromarray(np.pad(levels.astype(np.float32) / LEVELS, 1))
    soft = np.asarray(padded.resize((side, side), Image.Resampling.BICUBIC))
    edge = np.clip((soft - 0.25) / 0.65, 0, 1)
    canvas = np.zeros((height, width), np.uint8)
    top, left = (height - side) // 2, (width - side) // 2
    canvas[top : top + side, left : left + side] = np.round(255 * edge * edge * (3 - 2 * edge))
    return canvas


def place_digit(
    levels: np.ndarray,
    size: int | tuple[int, int],  # side of the canvas in pixels, or (height, width)
    scales: Sequence[int],  # sides in pixels; at 8 levels are drawn as they are, else resized bicubically
    grid: int,  # the digit's upper left corner lies at multiples of so many pixels
    number: int,
    copy: int,
) -> np.ndarray:
    """Draws one digit of 8 x 8 levels 0..16 somewhere on a black canvas, uint8 [height, width].

    Scale and place are random functions of the digit's number and the copy's, whatever its class.
    """
    random = generator(0, "digit place", number, copy)
    side = scales[int(random.integers(len(scales)))]
    height, width = sides_of(size)
    top, left = (grid * int(random.integers((length - side) // grid + 1)) for length in (height, width))
    digit = levels.astype(np.float32) / LEVELS
    if side != SIDE:
        digit = np.asarray(Image.fromarray(digit).resize((side, side), Image.Resampling.BICUBIC)).clip(0, 1)
    canvas = np.zeros((height, width), np.uint8)
    canvas[top : top + side, left : left + side] = np.round(255 * digit)
    return canvas
