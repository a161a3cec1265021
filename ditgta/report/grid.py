"""The sample grid as PNG: encodings below each other, the same noise and label in each column."""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from matplotlib import get_data_path
from PIL import Image, ImageDraw, ImageFont

from ditgta.report.evidence import Score
from ditgta.report.figures import colour_of
from ditgta.runtime.files import read_json

MOST_COLUMNS = 12
CELL_PIXELS = 96
INK = "#7c828a"  # legible on white and on near-black: the picture's background is transparent
GAP = 5


@dataclass(frozen=True)
class Layout:
    """Where the cells of a grid lie, in pixels: `cell` is their side, a whole multiple of an image's."""

    cell: int
    left: int
    top: int
    extra: int

    def box(self, row: int, column: int) -> tuple[int, int, int, int]:
        """Returns left, top, right and bottom of a cell; `extra` sets the first row apart."""
        left = self.left + column * (self.cell + GAP)
        top = self.top + row * (self.cell + GAP) + (self.extra if row else 0)
        return left, top, left + self.cell, top + self.cell


def sample_grid(scores: Sequence[Score], experiments: Sequence[str], images=None) -> tuple[bytes, list[str]]:
    """Returns a PNG of every experiment's samples at its last milestone and first training seed, and warnings.

    Args:
        scores: score files, which name the folders of their samples.
        experiments: names in the order of rows.
        images: an image index, for one row of real images of the same classes on top.

    A column has one noise index and label throughout; columns follow the order of the classes.
    """
    rows, faults = [], []
    for name in experiments:
        own = [score for score in scores if score.experiment == name]
        if not own:
            continue
        score = max(own, key=lambda score: (score.step if score.step is not None else -1, -score.seed))
        folder = samples_folder(score)
        if folder is None:
            faults.append(f"The samples of {score.name} are gone, so the picture of samples lacks their row.")
        else:
            rows.append((name, folder))
    if not rows:
        return _notice("no samples to show"), faults
    columns = choose_columns(labels_of(rows[0][1]))
    for name, folder in rows[1:]:
        if not set(columns) <= set(labels_of(folder)):
            faults.append(
                f"The samples of {name} have other labels than those of {rows[0][0]}: the picture's columns do not match."
            )
    pictures = [
        (name, colour_of(experiments, name), list(pick(folder, [i for i, _ in columns])))
        for name, folder in rows
    ]
    headers = [f"class {label}" for _, label in columns]
    if images is not None:
        real = list(_real(images, [label for _, label in columns], pictures[0][2][0].shape[0]))
        pictures.insert(0, ("real", INK, real))
        headers = [
            images.classes[label] if label < len(images.classes) else f"class {label}" for _, label in columns
        ]
    return draw(pictures, headers, first_apart=images is not None), faults


def samples_folder(score: Score) -> Path | None:
    """Returns the folder of a score file's samples if it still exists."""
    named = (score.content.get("samples") or {}).get("folder")
    for folder in (Path(named), score.path.parent / named) if named else ():
        if (folder / "index.json").is_file():
            return folder
    return None


def labels_of(folder: Path) -> Iterator[tuple[int, int]]:
    """Yields (index, label) of every sample of a folder in order; only the labels are read."""
    for shard in _shards(folder):
        with np.load(folder / shard["file"]) as arrays:
            yield from enumerate(arrays["arr_1"].tolist(), start=shard["start"])


def choose_columns(labels: Iterator[tuple[int, int]]) -> list[tuple[int, int]]:
    """Returns (index, label) of the samples to show: up to 12 columns spread over the classes, in their order.

    Fewer classes than columns are shown several times each, as often as room allows. The first samples of a class are taken.
    """
    indices: dict[int, list[int]] = {}
    for index, label in labels:
        indices.setdefault(label, []).append(index)
    classes = sorted(indices)
    if len(classes) > MOST_COLUMNS:
        classes = [classes[round(i)] for i in np.linspace(0, len(classes) - 1, MOST_COLUMNS)]
    each = MOST_COLUMNS // len(classes)
    return [(index, label) for label in classes for index in indices[label][:each]]


def pick(folder: Path, indices: Sequence[int]) -> Iterator[np.ndarray]:
    """Yields the samples of the given indices as uint8 [H, W, 3] or None, opening each shard once."""
    found: dict[int, np.ndarray] = {}
    for shard in _shards(folder):
        inside = [i for i in indices if shard["start"] <= i < shard["start"] + shard["count"]]
        if inside:
            with np.load(folder / shard["file"]) as arrays:
                pixels = arrays["arr_0"]
            found.update({i: _rgb(pixels[i - shard["start"]]) for i in inside})
    for i in indices:
        yield found.get(i)


def draw(
    rows: Sequence[tuple[str, str, Sequence[np.ndarray | None]]],
    headers: Sequence[str],
    first_apart: bool = False,
) -> bytes:
    """Returns a PNG, transparent between the cells, of images enlarged by whole numbers without smoothing.

    Args:
        rows: (label, colour, images as uint8 [H, W, 3]) from top to bottom; a missing image leaves its cell empty.
        headers: one per column.
        first_apart: leave a wider gap below the first row.
    """
    layout, font = layout_of(rows, first_apart), _font(_text_height(rows))
    right, bottom = layout.box(len(rows) - 1, max(len(headers) - 1, 0))[2:]
    canvas = Image.new("RGBA", (right + GAP, bottom + GAP), (0, 0, 0, 0))
    pen = ImageDraw.Draw(canvas)
    for column, header in enumerate(headers):
        left, top, _, _ = layout.box(0, column)
        if column and header == headers[column - 1]:
            continue
        pen.text(
            (left + layout.cell / 2, top - 8), _fitted(header, font, layout.cell), INK, font, anchor="mb"
        )
    for row, (label, colour, images) in enumerate(rows):
        _, top, _, below = layout.box(row, 0)
        pen.rectangle((GAP, (top + below) // 2 - 7, GAP + 13, (top + below) // 2 + 6), fill=colour)
        pen.text((GAP + 22, (top + below) / 2), label, INK, font, anchor="lm")
        for column, image in enumerate(images):
            if image is not None:
                size = (layout.cell, layout.cell)
                cell = Image.fromarray(image).resize(size, Image.Resampling.NEAREST)
                canvas.paste(cell, layout.box(row, column)[:2])
    return _png(canvas)


def layout_of(rows: Sequence[tuple[str, str, Sequence[np.ndarray | None]]], first_apart: bool) -> Layout:
    """Returns the places of the cells of a grid."""
    side = max(image.shape[0] for _, _, images in rows for image in images if image is not None)
    height = _text_height(rows)
    widest = max(_font(height).getlength(label) for label, _, _ in rows)
    return Layout(
        cell=side * max(1, round(CELL_PIXELS / side)),
        left=int(widest) + 22 + 4 * GAP,
        top=int(height * 1.4) + 12,
        extra=2 * GAP if first_apart else 0,
    )


def _text_height(rows: Sequence[tuple[str, str, Sequence[np.ndarray | None]]]) -> int:
    """Returns the font size that stays legible when a page shrinks the picture to its width."""
    side = max(image.shape[0] for _, _, images in rows for image in images if image is not None)
    return max(17, side * max(1, round(CELL_PIXELS / side)) // 6)


def _real(images, labels: Sequence[int], side: int) -> Iterator[np.ndarray | None]:
    """Yields real images of the given labels, another one for each repetition, at the samples' side."""
    used: dict[int, int] = {}
    for label in labels:
        of_class = np.flatnonzero(images.labels == label)
        turn = used[label] = used.get(label, -1) + 1
        if turn >= len(of_class):
            yield None
            continue
        image = _rgb(images.image(int(of_class[turn])))
        if image.shape[0] != side:
            image = np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC))
        yield image


def _shards(folder: Path) -> list[dict]:
    return sorted(read_json(folder / "index.json")["shards"], key=lambda shard: shard["start"])


def _rgb(image: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(np.broadcast_to(image, (*image.shape[:2], 3)))


@cache
def _font(height: int) -> ImageFont.FreeTypeFont:
    """Returns matplotlib's own DejaVu Sans, so that pictures look the same on every machine."""
    return ImageFont.truetype(Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", height)


def _fitted(text: str, font: ImageFont.FreeTypeFont, width: float) -> str:
    """Returns a text, cut with an ellipsis where it is wider than its column."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"


def _notice(text: str) -> bytes:
    font = _font(20)
    canvas = Image.new("RGBA", (int(font.getlength(text)) + 40, 60), (0, 0, 0, 0))
    ImageDraw.Draw(canvas).text((20, 30), text, INK, font, anchor="lm")
    return _png(canvas)


def _png(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format="PNG", optimize=True)
    return stream.getvalue()
