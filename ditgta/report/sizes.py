"""A picture of images of several sizes, all enlarged alike, so that a twice as large one is twice as large."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

CELL_PIXELS = 96  # about the height of the first column's images
GAP, BAND, TEXT = 6, 34, 13


def draw(
    columns: Sequence[str],
    rows: Sequence[str],
    images: Sequence[Sequence[np.ndarray | None]],
    most: int | None = None,
) -> Image.Image:
    """Return images in columns of one size each, with a heading (of two lines at most) above and a name before.

    A row of images is uint8 (H, W, 3); None leaves a place empty, and says so. All are reduced alike so that the first column's
    images are at most `most` pixels high; None: as they are.
    """
    shapes = []
    for column in zip(*images):
        shapes.append(next((image.shape[:2] for image in column if image is not None), (1, 1)))
    zoom: float = max(1, round(CELL_PIXELS / shapes[0][0]))
    if most and shapes[0][0] > most:
        zoom = most / shapes[0][0]
    font = ImageFont.load_default(TEXT)
    margin = int(max(map(font.getlength, rows))) + 2 * GAP
    widths = []
    for (_, width), heading in zip(shapes, columns):
        longest = max(map(font.getlength, heading.split("\n")))
        widths.append(max(round(zoom * width), int(longest)))
    height = round(zoom * max(shape[0] for shape in shapes))
    rule = Image.Resampling.NEAREST if zoom >= 1 else Image.Resampling.LANCZOS
    whole = (margin + sum(widths) + GAP * len(widths), BAND + len(rows) * (height + GAP))
    canvas = Image.new("RGB", whole, "white")
    pen, left = ImageDraw.Draw(canvas), margin
    for k, heading in enumerate(columns):
        pen.multiline_text((left, 2), heading, fill="black", font=font, spacing=2)
        for i, row in enumerate(images):
            top = BAND + i * (height + GAP)
            if row[k] is None:
                pen.text((left, top), "-", fill="black", font=font)
                continue
            size = (round(zoom * row[k].shape[1]), round(zoom * row[k].shape[0]))
            canvas.paste(Image.fromarray(row[k]).resize(size, rule), (left, top))
        left += widths[k] + GAP
    for i, name in enumerate(rows):
        pen.text((GAP, BAND + i * (height + GAP)), name, fill="black", font=font)
    return canvas
