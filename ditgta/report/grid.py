"""Grids of images: samples of the same noise and label side by side, and images beside their neighbours."""

import io
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path

import numpy as np
from matplotlib import get_data_path
from PIL import Image, ImageDraw, ImageFont

from ditgta.data import order
from ditgta.data.npz import NpzArray, load_members
from ditgta.report.drawing import drawable
from ditgta.report.evidence import Score, last_scores, samples_folder
from ditgta.report.figures import colour_of
from ditgta.report.view import class_name, short_names
from ditgta.runtime.files import read_json

MOST_ROWS = 12
MOST_COLUMNS = 9  # of samples in one grid
CELL_PIXELS = 96
INK = "#3c4249"
PAPER = "#ffffff"  # behind words: the rest of the picture is transparent, on a page that may be dark
GAP = 5


@dataclass(frozen=True)
class Grid:
    """Images in rows and columns."""

    columns: Sequence[tuple[str, str | None]]  # (heading, colour of its mark or None)
    # (label, images as uint8 [H, W, 3]); a missing image leaves its cell empty. A second line of a label may follow \n.
    rows: Sequence[tuple[str, Sequence[np.ndarray | None]]]
    apart: int | None = None  # number of the column that a wider gap sets apart, if any
    most: int = 256  # the largest side of a cell in pixels; larger images are reduced to it

    @cached_property
    def side(self) -> int:
        """The side in pixels of the largest image."""
        there = [image for _, images in self.rows for image in images if image is not None]
        return max((image.shape[0] for image in there), default=1)

    @cached_property
    def cell(self) -> int:
        """The side of a cell in pixels: a whole multiple of the largest image's, if that has room."""
        return min(self.side * max(1, round(CELL_PIXELS / self.side)), self.most)

    @cached_property
    def text(self) -> int:
        """The font size that stays legible when a page shrinks the picture to its width."""
        return max(17, self.cell // 6)

    @cached_property
    def margin(self) -> int:
        """The width in pixels of the labels, which are cut where they are longer than two cells."""
        words = "\n".join(label for label, _ in self.rows).split("\n")
        longest = max(_font(self.text).getlength(drawable(word)) for word in words)
        return min(int(longest), 2 * self.cell) + 3 * GAP

    def box(self, row: int, column: int) -> tuple[int, int, int, int]:
        """Return left, top, right and bottom of a cell in pixels."""
        apart = 2 * GAP if self.apart is not None and column >= self.apart else 0
        left = self.margin + column * (self.cell + GAP) + apart
        top = int(self.text * 1.4) + 12 + row * (self.cell + GAP)
        return left, top, left + self.cell, top + self.cell


def sample_grid(
    scores: Sequence[Score], experiments: Sequence[str], images=None
) -> tuple[list[Grid], list[str]]:
    """Return every experiment's samples at its last milestone and first training seed, and warnings.

    A row has one noise index and label throughout; rows follow the order of the classes. They come in two grids of equal
    height, to stand beside or below each other; more than 9 experiments in grids of as many columns as are legible. Of an image
    index a last column shows real images of the same classes.
    """
    folders, faults = {}, []
    for score in last_scores(scores):
        if folder := samples_folder(score):
            folders[score.experiment] = folder
        else:
            faults.append(
                f"The samples of {score.name} were deleted, so the picture of samples has no column for them."
            )
    if not folders:
        return [], faults
    first = next(iter(folders))
    chosen = choose_samples(labels_of(folders[first]))
    for name, folder in folders.items():
        if not set(chosen) <= set(labels_of(folder)):
            faults.append(
                f"The samples of {name} have other labels than those of {first}: the picture's rows do not match."
            )
    indices, labels = zip(*chosen)
    sets = [pick(folder, indices) for folder in folders.values()]
    columns = list(zip(short_names(list(folders)), [colour_of(experiments, name) for name in folders]))
    real, classes = [], []
    if images is not None:
        real, classes = [_real(images, labels, sets[0][0].shape[0])], images.classes
    words = [f"{class_name(label, classes)}\n#{index}" for index, label in chosen]
    parts = -(-len(sets) // MOST_COLUMNS)
    grids = []
    for part in range(parts):
        own = slice(part * len(sets) // parts, (part + 1) * len(sets) // parts)
        heads = [*columns[own], *[("real", None)] * len(real)]
        rows = list(zip(words, zip(*sets[own], *real, strict=True)))
        grids.append(Grid(heads, rows, apart=len(columns[own]) if real else None))
    if parts > 1:
        return grids, faults
    half = (len(chosen) + 1) // 2
    halves = (grids[0].rows[:half], grids[0].rows[half:])
    return [replace(grids[0], rows=rows) for rows in halves if rows], faults


def labels_of(folder: Path) -> Iterator[tuple[int, int]]:
    """Yield (index, label) of every sample of a folder in order; only the labels are read."""
    for shard in _shards(folder):
        labels = load_members(folder / shard["file"], ("arr_1",))["arr_1"]
        yield from enumerate(labels.tolist(), start=shard["start"])


def choose_samples(labels: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return (index, label) of the samples to show: up to 12, spread over the classes, in their order.

    Fewer classes are shown several times each, as often as room allows. The first samples of a class are taken.
    """
    indices = by_class(labels)
    classes = spread(sorted(indices), MOST_ROWS)
    per_class = MOST_ROWS // len(classes)
    return [(index, label) for label in classes for index in indices[label][:per_class]]


def by_class(labels: Iterable[tuple[int, int]]) -> dict[int, list[int]]:
    """Return the indices of each class's samples, of (index, label) of every sample."""
    indices: dict[int, list[int]] = defaultdict(list)
    for index, label in labels:
        indices[label].append(index)
    return indices


def spread(items: Sequence, most: int) -> list:
    """Return so many of some items at most, evenly spread from the first to the last."""
    return [items[place] for place in order.spread(len(items), most)]


def pick(folder: Path | None, indices: Sequence[int]) -> list[np.ndarray | None]:
    """Return the samples of the given indices as uint8 [H, W, 3], or None where there is none, opening each shard once."""
    samples: dict[int, np.ndarray] = {}
    for shard in _shards(folder) if folder else ():
        start = shard["start"]
        inside = sorted(i for i in set(indices) if start <= i < start + shard["count"])
        if inside:
            pixels = NpzArray(folder / shard["file"], "arr_0")
            for i in inside:
                samples[i] = rgb(pixels.read(i - start, 1)[0])
            pixels.close()
    return list(map(samples.get, indices))


def beside(grids: Sequence[Grid]) -> Image.Image:
    """Return grids beside each other as one picture, transparent between the cells."""
    drawn = list(map(draw, grids)) or [notice("no samples to show")]
    widths, heights = zip(*(image.size for image in drawn))
    canvas = Image.new("RGBA", (sum(widths), max(heights)))
    left = 0
    for image in drawn:
        canvas.paste(image, (left, 0))
        left += image.width
    return canvas


def draw(grid: Grid) -> Image.Image:
    """Return a grid as a picture, small images enlarged by whole numbers without smoothing."""
    right, bottom = grid.box(len(grid.rows) - 1, len(grid.columns) - 1)[2:]
    canvas = Image.new("RGBA", (right + 3 * GAP, bottom + GAP), (0, 0, 0, 0))
    pen = ImageDraw.Draw(canvas)
    for column, (heading, colour) in enumerate(grid.columns):
        left, top, _, _ = grid.box(0, column)
        mark = 0 if colour is None else 18
        text, font = _fitted(heading, grid.text, grid.cell - mark)
        start = left + (grid.cell - mark - font.getlength(text)) / 2
        if colour is not None:
            pen.rectangle((start, top - 20, start + 12, top - 8), fill=colour)
        _write(pen, (start + mark, top - 8), text, font, "ls")
    for row, (label, images) in enumerate(grid.rows):
        _label(pen, grid, row, label.split("\n"))
        for column, image in enumerate(images):
            if image is not None:
                rule = Image.Resampling.LANCZOS if image.shape[0] > grid.cell else Image.Resampling.NEAREST
                cell = Image.fromarray(image).resize((grid.cell, grid.cell), rule)
                canvas.paste(cell, grid.box(row, column)[:2])
    return canvas


def _write(
    pen: ImageDraw.ImageDraw, place: tuple[float, float], text: str, font: ImageFont.FreeTypeFont, anchor: str
) -> None:
    """Write a line of text on paper, which is as high under all texts of a font."""
    left, top, right, bottom = pen.textbbox(place, text, font, anchor=anchor)
    _, highest, _, lowest = pen.textbbox(place, "Äg", font, anchor=anchor)
    pen.rectangle((left - 2, min(top, highest) - 1, right + 2, max(bottom, lowest) + 1), fill=PAPER)
    pen.text(place, text, INK, font, anchor=anchor)


def _label(pen: ImageDraw.ImageDraw, grid: Grid, row: int, lines: Sequence[str]) -> None:
    """Writes a row's label at its middle: one line, and smaller ones below it."""
    _, top, _, bottom = grid.box(row, 0)
    for line, text in enumerate(lines):
        height = (top + bottom) / 2 + (line - (len(lines) - 1) / 2) * grid.text * 1.25
        text, font = _fitted(text, int(grid.text * (0.8 if line else 1)), grid.margin - 3 * GAP)
        _write(pen, (GAP, height), text, font, "lm")


def encode(image: Image.Image, kind: str = "PNG", lossless: bool = True) -> bytes:
    """Return a picture as a file: PNG, or WEBP, which takes a third of its bytes and without `lossless` far fewer."""
    options = {"PNG": {"optimize": True}, "WEBP": {"lossless": lossless, "quality": 80, "exact": False}}
    stream = io.BytesIO()
    image.save(stream, format=kind, **options[kind])
    return stream.getvalue()


def fitted(image: np.ndarray, side: int) -> np.ndarray:
    """Return an image as uint8 [side, side, 3]."""
    image = rgb(image)
    if image.shape[:2] == (side, side):
        return image
    return np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC))


def rgb(image: np.ndarray) -> np.ndarray:
    """Return an image as uint8 [H, W, 3], a grey one's channel repeated."""
    return np.ascontiguousarray(np.broadcast_to(image, (*image.shape[:2], 3)))


def _real(images, labels: Sequence[int], side: int) -> list[np.ndarray | None]:
    """Return real images of the given labels, another one for each repetition, at the samples' side."""
    real = []
    for place, label in enumerate(labels):
        turn = labels[:place].count(label)
        image = next(iter(np.flatnonzero(images.labels == label)[turn:]), None)
        real.append(None if image is None else fitted(images.image(int(image)), side))
    return real


def _shards(folder: Path) -> list[dict]:
    return sorted(read_json(folder / "index.json")["shards"], key=lambda shard: shard["start"])


@cache
def _font(height: int) -> ImageFont.FreeTypeFont:
    """Return matplotlib's own DejaVu Sans, so that pictures look the same on every machine."""
    return ImageFont.truetype(Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", height)


def _fitted(text: str, height: int, width: float) -> tuple[str, ImageFont.FreeTypeFont]:
    """Return a text and its font: smaller where it is too wide, down to a legible size, and then cut with an ellipsis."""
    text = drawable(text)
    while _font(height).getlength(text) > width and height > 14:
        height -= 1
    font = _font(height)
    if font.getlength(text) <= width:
        return text, font
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…", font


def notice(text: str) -> Image.Image:
    font = _font(20)
    canvas = Image.new("RGBA", (int(font.getlength(text)) + 40, 60), (0, 0, 0, 0))
    _write(ImageDraw.Draw(canvas), (20, 30), text, font, "lm")
    return canvas
