"""Files are whole or absent, and damage is found."""

import errno
import os
import stat

import pytest

from ditgta.runtime.errors import InputError
from ditgta.runtime.files import (
    atomic_path,
    read_json,
    read_verified_twin,
    spec_hash,
    spec_text,
    twin_path,
    write_json,
    write_text,
    write_twin,
)


def test_a_failed_write_leaves_the_old_file_and_no_temporary(tmp_path):
    path = tmp_path / "table.csv"
    write_text(path, "old")
    with pytest.raises(RuntimeError), atomic_path(path) as temporary:
        temporary.write_text("half of the n")
        raise RuntimeError("killed")
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["table.csv"]


def test_a_new_file_has_the_usual_permissions(tmp_path):
    write_text(tmp_path / "new", "x")
    (tmp_path / "plain").write_text("x")
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == stat.S_IMODE(
        (tmp_path / "plain").stat().st_mode
    )


def test_a_full_disk_is_one_line_and_leaves_the_old_file(tmp_path):
    path = tmp_path / "shard.npy"
    write_text(path, "old")
    with (
        pytest.raises(InputError, match=r"cannot write .*shard.npy: No space left") as caught,
        atomic_path(path),
    ):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert "\n" not in str(caught.value) and path.read_text() == "old"


def test_twin_names_damage(tmp_path):
    path = tmp_path / "heavy.npy"
    path.write_bytes(b"0123456789")
    twin = write_twin(path, {"a": 1}, count=10)
    assert read_verified_twin(path) == twin
    assert (
        twin["bytes"] == 10
        and twin["count"] == 10
        and twin["spec"] == {"a": 1}
        and twin["peak_memory_mb"] > 1
    )
    path.write_bytes(b"0123456780")
    with pytest.raises(InputError, match=r"heavy.npy is damaged"):
        read_verified_twin(path)
    twin_path(path).unlink()
    with pytest.raises(InputError, match=r"heavy.json does not exist"):
        read_verified_twin(path)


def test_broken_json_is_named(tmp_path):
    (tmp_path / "index.json").write_text("{")
    with pytest.raises(InputError, match=r"index.json is not valid JSON"):
        read_json(tmp_path / "index.json")


def test_json_is_the_same_bytes_for_the_same_content(tmp_path):
    write_json(tmp_path / "a", {"b": 1, "a": [1.5, "x"]})
    write_json(tmp_path / "b", {"a": [1.5, "x"], "b": 1})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert spec_text({"b": 1, "a": 2}) == '{"a":2,"b":1}'
    assert spec_hash({"b": 1, "a": 2}) == spec_hash({"a": 2, "b": 1}) != spec_hash({"a": 2, "b": 2})
