"""Awkward image files and the crop."""

import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from ditgta.data.decode import adm_crop, decode_rgb, fault_in, to_rgb
from ditgta.runtime.errors import InputError


def pixels(path):
    image = decode_rgb(path)
    assert image.mode == "RGB"
    return np.asarray(image)


def saved(tmp_path, image, name="x.png", **options):
    image.save(tmp_path / name, **options)
    return tmp_path / name


def test_transparency_is_composed_on_white(tmp_path):
    rgba = np.array([[[255, 0, 0, 255], [255, 0, 0, 0], [0, 0, 0, 128]]], np.uint8)
    found = pixels(saved(tmp_path, Image.fromarray(rgba)))
    assert found.tolist() == [[[255, 0, 0], [255, 255, 255], [127, 127, 127]]]
    grey_alpha = np.array([[[10, 255], [10, 0]]], np.uint8)
    found = pixels(saved(tmp_path, Image.fromarray(grey_alpha)))
    assert found.tolist() == [[[10, 10, 10], [255, 255, 255]]]
    found = pixels(saved(tmp_path, Image.fromarray(rgba), "x.webp", lossless=True))
    assert found[0, :2].tolist() == [[255, 0, 0], [255, 255, 255]]


def test_palette_with_and_without_transparency(tmp_path):
    image = Image.fromarray(np.array([[0, 1, 2]], np.uint8), "P")
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    assert pixels(saved(tmp_path, image)).tolist() == [[[255, 0, 0], [0, 255, 0], [0, 0, 255]]]
    path = saved(tmp_path, image, transparency=1)
    assert pixels(path).tolist() == [[[255, 0, 0], [255, 255, 255], [0, 0, 255]]]
    path = saved(tmp_path, image, transparency=bytes([255, 0, 128]))
    assert pixels(path).tolist() == [[[255, 0, 0], [255, 255, 255], [127, 127, 255]]]


def test_transparent_colour_key_of_rgb_and_grey(tmp_path):
    rgb = Image.fromarray(np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8))
    assert pixels(saved(tmp_path, rgb, transparency=(1, 2, 3))).tolist() == [[[255] * 3, [4, 5, 6]]]
    grey = Image.fromarray(np.array([[7, 8]], np.uint8))
    assert pixels(saved(tmp_path, grey, transparency=7)).tolist() == [[[255] * 3, [8] * 3]]


def test_grey_and_one_bit(tmp_path):
    assert pixels(saved(tmp_path, Image.fromarray(np.array([[0, 99]], np.uint8)))).tolist() == [
        [[0] * 3, [99] * 3]
    ]
    bits = Image.fromarray(np.array([[0, 255]], np.uint8)).convert("1")
    assert pixels(saved(tmp_path, bits)).tolist() == [[[0] * 3, [255] * 3]]


def test_sixteen_bit_grey_is_scaled_not_clipped(tmp_path):
    levels = np.array([[0, 257, 25700, 32896, 65535]], np.uint16)
    expected = [0, 1, 100, 128, 255]
    assert pixels(saved(tmp_path, Image.fromarray(levels)))[0, :, 0].tolist() == expected
    keyed = saved(tmp_path, Image.fromarray(levels), transparency=25700)
    assert pixels(keyed)[0, :, 1].tolist() == [0, 1, 255, 128, 255]
    older_pillow = Image.fromarray(levels.astype(np.int32))  # opens the same files in mode "I"
    assert older_pillow.mode == "I"
    assert np.asarray(to_rgb(older_pillow))[0, :, 2].tolist() == expected


@pytest.mark.parametrize("suffix", ["jpg", "JPEG"])
def test_cmyk_jpeg_has_the_right_colours(tmp_path, suffix):
    inks = np.zeros((16, 16, 4), np.uint8)
    inks[:, :, 0] = 255  # full cyan ink: no red light
    path = saved(tmp_path, Image.fromarray(inks, "CMYK"), f"x.{suffix}", quality=100)
    assert Image.open(path).info.get("adobe") is not None
    assert np.abs(pixels(path).astype(int) - [0, 255, 255]).max() <= 2


def test_ycck_jpeg_has_the_right_colours(tmp_path):
    inks = np.zeros((16, 16, 4), np.uint8)
    inks[:, :, 3] = (
        100  # grey through black ink alone: YCCK and CMYK differ only in the three colour channels
    )
    data = bytearray(saved(tmp_path, Image.fromarray(inks, "CMYK"), "x.jpg", quality=100).read_bytes())
    marker = data.index(b"Adobe")
    assert data[marker + 11] == 0
    data[marker + 11] = 2  # the Adobe marker's colour transform: YCCK
    (tmp_path / "ycck.jpg").write_bytes(data)
    # Y = Cb = Cr = 255 turns into RGB (433, 121, 480), clipped, which YCCK defines as the inks C, M, Y; K is 100.
    inks = np.array([255, 120.6, 255])
    expected = (255 - inks) * (255 - 100) / 255
    assert np.abs(pixels(tmp_path / "ycck.jpg").astype(float) - expected).max() <= 2


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path, orientation):
    upright = np.zeros((4, 6, 3), np.uint8)
    upright[0, 0], upright[0, -1], upright[-1, 0] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: np.rot90(upright, 2).transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path, Image.fromarray(np.ascontiguousarray(stored)), exif=exif)
    assert np.array_equal(pixels(path), upright)


def test_damaged_exif_is_ignored(tmp_path):
    path = saved(
        tmp_path, Image.new("RGB", (8, 8), "red"), "x.jpg", exif=b"Exif\x00\x00MM\x00\x2a\xff\xff\xff\xff"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert pixels(path).shape == (8, 8, 3)


def test_first_frame_of_animations(tmp_path):
    red, blue = Image.new("RGB", (4, 4), "red"), Image.new("RGB", (4, 4), "blue")
    for name, options in {"x.webp": {"lossless": True}, "x.png": {}, "gif.png": {"format": "GIF"}}.items():
        path = saved(tmp_path, red, name, save_all=True, append_images=[blue], **options)
        assert pixels(path)[2, 2].tolist() == [255, 0, 0]


def test_wrong_suffix_is_no_fault(tmp_path):
    path = saved(tmp_path, Image.new("RGB", (4, 4), "red"), "x.jpg", format="PNG")
    assert pixels(path)[0, 0].tolist() == [255, 0, 0]


def test_huge_image_and_huge_text_do_not_stop(tmp_path):
    text = PngImagePlugin.PngInfo()
    text.add_text("comment", "x" * (2 << 20), zip=True)
    path = saved(tmp_path, Image.new("1", (20000, 10000), 1), pnginfo=text)
    assert Image.MAX_IMAGE_PIXELS is None
    assert fault_in(path) is None


def test_one_pixel_is_enlarged(tmp_path):
    image = decode_rgb(saved(tmp_path, Image.new("RGB", (1, 1), (9, 8, 7))))
    assert (adm_crop(image, 32) == np.array([9, 8, 7])).all()


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_truncated_and_foreign_files_are_errors(tmp_path, suffix):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    path = saved(tmp_path, Image.fromarray(noise), f"x.{suffix}")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert "damaged" in fault_in(path) or "not a PNG" in fault_in(path)
    with pytest.raises(InputError, match=rf"x\.{suffix}.*fix or remove"):
        decode_rgb(path)
    path.write_text("not an image")
    assert fault_in(path) == "is not a PNG, JPEG, WebP, GIF, BMP, TIFF or AVIF image"
    path.write_bytes(b"")
    assert fault_in(path) is not None
    path.unlink()
    assert fault_in(path) == "does not exist"


def box_halved(array):
    """Averages 2 x 2 pixels as Pillow's box filter does, for even sides: rows first, rounded, then columns."""
    array = array.astype(int)
    array = (array[:, 0::2] + array[:, 1::2] + 1) // 2
    return (array[0::2] + array[1::2] + 1) // 2


@pytest.mark.parametrize(
    ("width", "height", "halvings"),
    [(32, 32, 0), (40, 32, 0), (63, 41, 0), (64, 64, 1), (200, 128, 2), (136, 300, 2), (7, 5, 0)],
)
def test_crop_against_an_independent_expectation(width, height, halvings):
    rng = np.random.default_rng(width)
    array = np.array(Image.fromarray(rng.integers(0, 255, (6, 6, 3), dtype=np.uint8)).resize((width, height)))
    expected = array
    for _ in range(halvings):
        expected = box_halved(expected)
    short = min(expected.shape[:2])
    long_width, long_height = round(expected.shape[1] * (32 / short)), round(expected.shape[0] * (32 / short))
    expected = np.array(
        Image.fromarray(expected.astype(np.uint8)).resize((long_width, long_height), Image.Resampling.BICUBIC)
    )
    top, left = (long_height - 32) // 2, (long_width - 32) // 2
    expected = expected[top : top + 32, left : left + 32]
    found = adm_crop(Image.fromarray(array), 32)
    assert found.shape == (32, 32, 3) and found.dtype == np.uint8
    assert np.abs(found.astype(int) - expected).max() <= halvings  # of rounding


def test_crop_of_the_right_size_changes_nothing():
    array = np.random.default_rng(0).integers(0, 255, (48, 48, 3), dtype=np.uint8)
    assert np.array_equal(adm_crop(Image.fromarray(array), 48), array)
    wide = np.random.default_rng(0).integers(0, 255, (48, 51, 3), dtype=np.uint8)
    assert np.array_equal(adm_crop(Image.fromarray(wide), 48), wide[:, 1:49])


def test_decoding_does_not_depend_on_the_way_in(tmp_path):
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4), "green").save(buffer, "PNG")
    (tmp_path / "x.PnG").write_bytes(buffer.getvalue())
    assert pixels(str(tmp_path / "x.PnG"))[0, 0].tolist() == [0, 128, 0]


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(depth: int, colour: int, row: bytes, width: int, transparent: bytes) -> bytes:
    """Returns a PNG of one row, whose transparent value stands in its own depth."""
    header = struct.pack(">IIBBBBB", width, 1, depth, colour, 0, 0, 0)
    chunks = [
        (b"IHDR", header),
        (b"tRNS", transparent),
        (b"IDAT", zlib.compress(b"\0" + row)),
        (b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*pair) for pair in chunks)


WHITE = [255] * 3
WIDE = np.array([[0x1234, 0x5678, 0x9ABC], [0x1234, 0x5678, 0x9ABD], [0, 0, 0]], ">u2")
KEYED = {
    "grey of 1 bit": (png(1, 0, bytes([0b01000000]), 2, b"\0\1"), [[0] * 3, WHITE]),
    "grey of 1 bit, black": (png(1, 0, bytes([0b01000000]), 2, b"\0\0"), [WHITE, WHITE]),
    "grey of 2 bits": (png(2, 0, bytes([0b00011011]), 4, b"\0\1"), [[0] * 3, WHITE, [170] * 3, WHITE]),
    "grey of 4 bits": (png(4, 0, bytes([0x07, 0x80]), 3, b"\0\7"), [[0] * 3, WHITE, [136] * 3]),
    "grey of 8 bits, high bits set": (png(8, 0, bytes([7, 8]), 2, b"\1\7"), [WHITE, [8] * 3]),
    "grey of 16 bits": (png(16, 0, b"\x12\x34\x12\x35", 2, b"\x12\x34"), [WHITE, [0x12] * 3]),
    "RGB of 8 bits": (png(8, 2, bytes([1, 2, 3, 1, 2, 4]), 2, b"\0\1\0\2\0\3"), [WHITE, [1, 2, 4]]),
    "RGB of 16 bits": (
        png(16, 2, WIDE.tobytes(), 3, WIDE[0].tobytes()),
        [WHITE, [0x12, 0x56, 0x9A], [0] * 3],
    ),
}


@pytest.mark.parametrize("name", KEYED)
def test_transparent_value_counts_in_the_depth_of_the_file(name):
    content, expected = KEYED[name]
    assert np.asarray(decode_rgb(content))[0].tolist() == expected


def test_transparent_value_of_an_interlaced_png_turned_by_exif(tmp_path):
    levels = np.array([[3, 0], [1, 2]], np.uint8) * 85
    image = Image.fromarray(levels)
    exif = Image.Exif()
    exif[0x0112] = 6
    path = saved(tmp_path, image, bits=8, transparency=85, exif=exif)
    expected = np.rot90(np.where(levels == 85, 255, levels), -1)
    assert np.array_equal(pixels(path)[:, :, 0], expected)


@pytest.mark.parametrize("kind", ["tiff", "bmp", "gif", "avif", "webp"])
def test_further_formats(tmp_path, kind):
    array = np.kron(np.array([[[255, 0, 0], [0, 0, 255]]], np.uint8), np.ones((16, 16, 1), np.uint8))
    frames = (
        {"save_all": True, "append_images": [Image.new("RGB", (32, 16), "green")]}
        if kind in ("gif", "tiff")
        else {}
    )
    path = saved(tmp_path, Image.fromarray(array), f"x.{kind}", **frames)
    assert np.abs(pixels(path).astype(int) - array).mean() < 8
    path.write_bytes(path.read_bytes()[:60])
    assert fault_in(path).startswith(("is damaged", "is not a PNG"))


def test_tiff_of_other_modes(tmp_path):
    inks = np.zeros((4, 4, 4), np.uint8)
    inks[:, :, 0] = 255
    assert pixels(saved(tmp_path, Image.fromarray(inks, "CMYK"), "cmyk.tif"))[0, 0].tolist() == [0, 255, 255]
    levels = np.array([[0, 257, 65535]], np.uint16)
    assert pixels(saved(tmp_path, Image.fromarray(levels), "x.TIF"))[0, :, 0].tolist() == [0, 1, 255]
    path = saved(tmp_path, Image.fromarray(np.array([[0.5]], np.float32)), "float.tif")
    assert "floating-point" in fault_in(path)
    path = saved(tmp_path, Image.fromarray(np.array([[70000]], np.int32)), "wide.tif")
    assert "more than 16 bits" in fault_in(path)


def test_a_strip_is_cropped_before_it_is_enlarged():
    strip = Image.fromarray(np.arange(50_000, dtype=np.int64).astype(np.uint8)[None].repeat(2, 0)).convert(
        "RGB"
    )
    cropped = adm_crop(strip, 256)
    middle = np.asarray(strip.crop((24_990, 0, 25_010, 2)).resize((20 * 128, 256), Image.Resampling.BICUBIC))
    assert cropped.shape == (256, 256, 3)
    assert np.abs(cropped[:, 64:192].astype(int) - middle[:, 1280 - 64 : 1280 + 64]).max() <= 1


def test_want_of_memory_is_not_called_damage(tmp_path, monkeypatch):
    path = saved(tmp_path, Image.new("RGB", (4, 4)))
    monkeypatch.setattr(Image.Image, "convert", lambda *_: (_ for _ in ()).throw(MemoryError()))
    with pytest.raises(MemoryError):
        fault_in(path)
