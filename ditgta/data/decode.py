"""One image's bytes to pixels: robust decoding to RGB and the square crop of ADM."""

import contextlib
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin

from ditgta.data.sources.readers import Unreadable
from ditgta.runtime.errors import InputError

# The limits guard servers against strangers' uploads; a training set is the user's own, and its panoramas count.
Image.MAX_IMAGE_PIXELS = None
PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY

# What the bytes may be, whatever the suffix says: large photo sets hold PNG and GIF files named .jpg.
Image.init()
_KNOWN = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
_FORMATS = tuple(name for name in _KNOWN if name in Image.OPEN)  # AVIF where Pillow was built with it
_LARGEST_PIXELS = 2**28
_ORIENTATION_TAG = 0x0112
_TRANSPOSE_OF_ORIENTATION = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_GREY_RAW_BITS = {"1": 1, "L;2": 2, "L;4": 4, "L": 8}


def decode_rgb(source: str | Path | bytes, name: str = "") -> Image.Image:
    """Decodes an image completely and returns it as an 8-bit RGB image, upright.

    Transparency is composed on white, 16-bit grey is scaled (x / 257), CMYK is converted as Pillow does, the EXIF orientation is
    applied, and of an animation the first frame is taken. Colour profiles are not applied. `source` is a path or the file's
    content; errors call it `name`, by default the path. Raises InputError if it is missing, no image or truncated.
    """
    try:
        return _decode(source)
    except MemoryError:
        raise  # says nothing about the file
    except Exception as error:  # Pillow's readers raise nearly every type of error on damaged bytes
        raise InputError(f"{name or source}: {reason_of(error)}; fix or remove this file") from error


def fault_in(source: str | Path | bytes) -> str | None:
    """Return why an image cannot be decoded, in a few words, or None when all of it can."""
    try:
        decode_rgb(source)
    except InputError as error:
        return reason_of(error.__cause__)
    return None


def stored_size(source: str | Path | bytes, name: str = "") -> tuple[int, int]:
    """Return (height, width) from an image's header, as it is stored."""
    try:
        with Image.open(_opened(source), formats=_FORMATS) as image:
            return image.height, image.width
    except Exception as error:
        raise InputError(
            f"{name or source} is not a readable image ({type(error).__name__}); fix or remove this file"
        ) from error


def sides_of(size: int | Sequence[int]) -> tuple[int, int]:
    """Return height and width of images that are known by their side, or by both."""
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def adm_crop(image: Image.Image, size: int | tuple[int, int]) -> np.ndarray:
    """Return the centre of an RGB image, resized to `size` (its side, or height and width), as uint8 [height, width, 3].

    The rule of ADM (Dhariwal and Nichol, "Diffusion Models Beat GANs on Image Synthesis", 2021): halve with a box
    filter while the image is at least twice as large as `size`, resize bicubically until it just covers it, crop the
    centre. Smaller images are enlarged by the same rule.
    """
    height, width = sides_of(size)
    while image.height >= 2 * height and image.width >= 2 * width:
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    scale = max(height / image.height, width / image.width)
    across, down = round(image.width * scale), round(image.height * scale)
    left, top = (across - width) // 2, (down - height) // 2
    if across * down > _LARGEST_PIXELS:  # a strip: resize its centre alone, the same to rounding
        x, y = image.width / across, image.height / down
        box = (left * x, top * y, (left + width) * x, (top + height) * y)
        return np.array(image.resize((width, height), Image.Resampling.BICUBIC, box=box))
    image = image.resize((across, down), Image.Resampling.BICUBIC)
    return np.array(image.crop((left, top, left + width, top + height)))


def reason_of(error: BaseException | None) -> str:
    """Puts an error of Pillow, of a container or of the file system in a few words."""
    if isinstance(error, Unreadable):
        return str(error)
    if isinstance(error, FileNotFoundError):
        return "does not exist"
    if isinstance(error, Image.UnidentifiedImageError):
        return "is not a PNG, JPEG, WebP, GIF, BMP, TIFF or AVIF image"
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be read ({error.strerror})"
    text = " ".join(str(error).split()) or type(error).__name__
    return f"is damaged ({text})"


def _opened(source: str | Path | bytes) -> io.BytesIO | str | Path:
    return io.BytesIO(source) if isinstance(source, bytes) else source


def _decode(source: str | Path | bytes) -> Image.Image:
    with Image.open(_opened(source), formats=_FORMATS) as image:
        raw_mode = _raw_mode(image)
        image.load()
        orientation = _orientation(image)
        transparent = _transparent_pixels(source, image, raw_mode)
        image = to_rgb(image)
    if transparent is not None:
        image.paste("white", mask=Image.fromarray(transparent))
    if orientation in _TRANSPOSE_OF_ORIENTATION:
        image = image.transpose(_TRANSPOSE_OF_ORIENTATION[orientation])
    return image


def _raw_mode(image: Image.Image) -> str:
    """Return how a PNG stores its pixels, e.g. "L;2", "" for other formats; to be asked before loading."""
    if image.format != "PNG" or not image.tile:
        return ""
    stored = image.tile[0][3] or ""
    return stored[0] if isinstance(stored, tuple) else stored


def _transparent_pixels(source, image: Image.Image, raw_mode: str) -> np.ndarray | None:
    """Return the mask of the pixels that equal a PNG's transparent value, None where a PNG names none.

    The value counts in the depth that the file stores (PNG specification, 11.3.2.1). Pillow compares it after its own
    conversion to 8 bits, in which it is another number: grey of 1, 2 and 4 bits is scaled, colour of 16 bits is cut.
    """
    value = image.info.get("transparency")
    if raw_mode in _GREY_RAW_BITS and isinstance(value, int):
        del image.info["transparency"]
        levels = 2 ** _GREY_RAW_BITS[raw_mode] - 1
        grey = np.asarray(image.convert("L"))
        return grey == (value & levels) * 255 // levels
    if raw_mode == "RGB;16B" and isinstance(value, tuple):
        del image.info["transparency"]
        with Image.open(_opened(source), formats=("PNG",)) as again:
            # Read as if the low byte came last, the low bytes are what remains of 16 bits.
            again.tile = [tile._replace(args="RGB;16L") for tile in again.tile]
            low = np.asarray(again).astype(np.int32)
        levels = 256 * np.asarray(image).astype(np.int32) + low
        return (levels == np.array(value)).all(2)
    return None


def to_rgb(image: Image.Image) -> Image.Image:
    """Converts any mode that the readers return to RGB on a white ground."""
    if image.mode.startswith("I"):
        return _from_16_bit(image)
    if image.mode == "F":
        raise ValueError(
            "its pixels are floating-point numbers, and the value of white is unknown; save it with 8 bits"
        )
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("RGBA")
        ground = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(ground, image).convert("RGB")
    return image.convert("RGB")


def _from_16_bit(image: Image.Image) -> Image.Image:
    """Scales 16-bit grey to 8 bits; Pillow's own conversion would clip everything above 255 to white."""
    levels = np.asarray(image).astype(np.int64)
    if levels.size and (levels.min() < 0 or levels.max() > 65535):
        raise ValueError(
            "its grey levels need more than 16 bits, and the value of white is unknown; save it with 8 bits"
        )
    grey = (levels + 128) // 257
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        grey[levels == transparent] = 255
    return Image.fromarray(grey.astype(np.uint8)).convert("RGB")


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 (upright) where there is none or the EXIF block is damaged."""
    with contextlib.suppress(Exception):
        return image.getexif().get(_ORIENTATION_TAG, 1)
    return 1
