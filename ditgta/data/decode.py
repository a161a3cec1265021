"""One image file to pixels: robust decoding to RGB and the square crop of ADM."""

from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin

from ditgta.runtime.errors import InputError

# The limits guard servers against strangers' uploads; a training set is the user's own, and its panoramas count.
Image.MAX_IMAGE_PIXELS = None
PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY

# What the bytes may be, whatever the suffix says: large photo sets hold PNG and GIF files named .jpg.
_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
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


def decode_rgb(path: str | Path) -> Image.Image:
    """Reads an image file completely and returns it as an 8-bit RGB image, upright.

    Transparency is composed on white, 16-bit grey is scaled (x / 257), CMYK is converted as Pillow does, the EXIF
    orientation is applied, and of an animation the first frame is taken. Colour profiles are not applied.

    Raises:
        InputError: the file is missing, is not an image, or is truncated.
    """
    try:
        with Image.open(path, formats=_FORMATS) as image:
            image.load()
            orientation = _orientation(image)
            image = _to_rgb(image)
    except Exception as error:  # Pillow's readers raise nearly every type of error on damaged bytes
        raise InputError(f"{path}: {_reason(error)}; mend or remove this file") from error
    if orientation in _TRANSPOSE_OF_ORIENTATION:
        image = image.transpose(_TRANSPOSE_OF_ORIENTATION[orientation])
    return image


def fault_in(path: str | Path) -> str | None:
    """Returns why an image file cannot be decoded, in a few words, or None when all of it can."""
    try:
        decode_rgb(path)
    except InputError as error:
        return _reason(error.__cause__)
    return None


def stored_size(path: Path) -> tuple[int, int]:
    """Returns (height, width) from a file's header, as it is stored."""
    try:
        with Image.open(path) as image:
            return image.height, image.width
    except Exception as error:
        raise InputError(
            f"{path} is not a readable image ({type(error).__name__}); mend or remove this file"
        ) from error


def adm_crop(image: Image.Image, size: int) -> np.ndarray:
    """Returns the centre square of an RGB image, resized to `size`, as uint8 [size, size, 3].

    The rule of ADM (Dhariwal and Nichol, "Diffusion Models Beat GANs on Image Synthesis", 2021): halve with a box
    filter while the short side is at least 2 x size, resize bicubically until it is `size`, crop the centre. Smaller
    images are enlarged by the same rule.
    """
    while min(image.size) >= 2 * size:
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    scale = size / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
    left, top = (image.width - size) // 2, (image.height - size) // 2
    return np.array(image.crop((left, top, left + size, top + size)))


def _to_rgb(image: Image.Image) -> Image.Image:
    """Converts any mode that the readers return to RGB on a white ground."""
    if image.mode.startswith("I"):
        return _from_16_bit(image)
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("RGBA")
        ground = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(ground, image).convert("RGB")
    return image.convert("RGB")


def _from_16_bit(image: Image.Image) -> Image.Image:
    """Scales 16-bit grey to 8 bits; Pillow's own conversion would clip everything above 255 to white."""
    levels = np.asarray(image).astype(np.int64).clip(0, 65535)
    grey = (levels + 128) // 257
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        grey[levels == transparent] = 255
    return Image.fromarray(grey.astype(np.uint8)).convert("RGB")


def _orientation(image: Image.Image) -> int:
    """Returns the EXIF orientation, 1 (upright) where there is none or the EXIF block is damaged."""
    try:
        return image.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:
        return 1


def _reason(error: BaseException | None) -> str:
    """Puts an error of Pillow or of the file system in a few words."""
    if isinstance(error, FileNotFoundError):
        return "does not exist"
    if isinstance(error, Image.UnidentifiedImageError):
        return "is not a PNG, JPEG or WebP image"
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be read ({error.strerror})"
    text = " ".join(str(error).split()) or type(error).__name__
    return f"is damaged ({text})"
