"""Arrays whose headers lie: one line, before memory is taken for what is not there."""

import io
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest

from ditgta.data.image_sets import open_image_set
from ditgta.data.npz import NpzArray, load_members
from ditgta.runtime.errors import InputError


def forged(header: str, content: bytes = b"") -> bytes:
    """Returns a member of an npz whose header is any text."""
    text = header.ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode("latin1") + content


def described(shape: str, kind: str = "|u1") -> str:
    return f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}}}"


def write(path, method=zipfile.ZIP_STORED, **members: bytes):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return path


PIXELS = bytes(2 * 16 * 16 * 3)
LIES = {
    "rows without end": described("(1000000000000, 16, 16, 3)"),
    "a number of 90 digits": described(f"({10**90}, 16, 16, 3)"),
    "sides without end": described("(2, 1000000, 1000000, 3)"),
    "more bytes than numbers can count": described(f"(2, {2**40}, {2**40}, 3)"),
    "bytes that overflow to what is there": described(f"(2, {2**62}, 2, 3)"),
    "rows below zero": described("(-5, 16, 16, 3)"),
    "sides below zero": described("(2, -16, -16, 3)"),
    "too few rows": described("(1, 16, 16, 3)"),
    "brackets without end": "[" * 100,
    "half a line": "{'descr': '|u1', 'shape': (",
    "no shape": "{'descr': '|u1', 'fortran_order': False}",
    "a shape that is a number": described("7"),
    "a shape of truths": described("(True, 'a')"),
    "a type that is none": described("(2, 16, 16, 3)", "|q9"),
}


@pytest.mark.parametrize("member", ["arr_0", "mu"])
@pytest.mark.parametrize("name", LIES)
def test_a_header_that_lies_is_one_line(tmp_path, name, member):
    path = write(tmp_path / "a.npz", **{member: forged(LIES[name], PIXELS)})
    tracemalloc.start()
    with pytest.raises(InputError, match=r"a\.npz") as raised:
        images = open_image_set(path)
        list(images.batches(0, images.count, 32))
    assert "\n" not in str(raised.value) and tracemalloc.get_traced_memory()[1] < 2**24
    tracemalloc.stop()


def test_member_without_the_suffix_is_left_alone(tmp_path):
    np.savez(tmp_path / "a.npz", arr_0=np.zeros((3, 8, 8, 3), np.uint8))
    with zipfile.ZipFile(tmp_path / "a.npz", "a") as archive:
        archive.writestr("mu", b"what is this")
    assert open_image_set(tmp_path / "a.npz").count == 3
    assert list(load_members(tmp_path / "a.npz")) == ["arr_0"]


def test_encrypted_member(tmp_path):
    path = write(tmp_path / "a.npz", arr_0=forged(described("(2, 16, 16, 3)"), PIXELS))
    content = bytearray(path.read_bytes())
    content[content.rindex(b"PK\1\2") + 8] |= 1
    content[6] |= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match="not a whole npz file"):
        open_image_set(path)


@pytest.mark.parametrize("name", ["arr_1", "sigma", "predicted"])
def test_bomb_takes_no_memory(tmp_path, name):
    rows = 2**29
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("arr_0.npy", forged(described("(2, 16, 16, 3)"), PIXELS))
        with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
            member.write(forged(described(f"({rows},)")))
            for _ in range(rows // 2**24):
                member.write(bytes(2**24))
    assert path.stat().st_size < 2**22
    tracemalloc.start()
    if name == "arr_1":
        assert "left out" in open_image_set(path).warnings[0]
    else:
        with pytest.raises(InputError, match=rf"{name} of .*a\.npz has shape \({rows},\), 512 MB"):
            load_members(path)
    assert tracemalloc.get_traced_memory()[1] < 2**25
    tracemalloc.stop()


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_what_is_whole_is_read_as_it_is(tmp_path, save):
    arrays = {
        "columns": np.asfortranarray(np.arange(12.0).reshape(3, 4)),
        "none": np.empty((0, 3), np.float32),
        "one": np.array(3),
        "words": np.array(["a", "bc"]),
        "big": np.arange(3, dtype=">i4"),
    }
    save(tmp_path / "a.npz", **arrays)
    found = load_members(tmp_path / "a.npz")
    for name, array in arrays.items():
        assert (
            np.array_equal(found[name], array)
            and found[name].dtype == array.dtype
            and found[name].flags.writeable
        )
    assert load_members(tmp_path / "a.npz", ("big",)).keys() == {"big"}
    assert NpzArray(tmp_path / "a.npz", "big").read(1, 2).tolist() == [1, 2]


def test_buffer_of_numpys_own_writer_is_not_refused(tmp_path):
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.zeros((2, 16, 16, 3), np.uint8), version=(2, 0))
    assert open_image_set(write(tmp_path / "a.npz", arr_0=buffer.getvalue())).count == 2
