"""A folder of small pictures, for tests that need images of their own."""

from pathlib import Path

import numpy as np
from PIL import Image

COLOURS = {"cats": (200, 60, 60), "dogs": (60, 60, 200)}


def pictures(folder: Path, count: int = 6, side: int = 20, seed: int = 0) -> Path:
    """Writes `count` pictures of each of two classes; other seeds are other pictures of the same names."""
    rng = np.random.default_rng(seed)
    for name, colour in COLOURS.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            pixels = np.clip(colour + rng.normal(0, 30, (side, side, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i}.png")
    return folder
