"""Files are whole or absent, and damage is found."""

import errno
import os
import shutil
import stat
import subprocess
import sys
import time

import pytest
import torch

from ditgta.runtime.checkpoints import write_tensors
from ditgta.runtime.errors import InputError
from ditgta.runtime.files import (
    atomic_path,
    git_revision,
    provenance,
    read_json,
    read_verified_record,
    record_path,
    spec_hash,
    spec_text,
    write_json,
    write_record,
    write_text,
)
from ditgta.runtime.records import Job


def test_a_failed_write_leaves_the_old_file_and_no_temporary(tmp_path):
    path = tmp_path / "table.csv"
    write_text(path, "old")
    with pytest.raises(RuntimeError), atomic_path(path) as temporary:
        temporary.write_text("half of the n")
        raise RuntimeError("killed")
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["table.csv"]


def test_a_new_file_has_the_usual_permissions(tmp_path):
    """Of safetensors' files, too, which the library gives to their owner alone."""
    write_text(tmp_path / "new", "x")
    write_tensors(tmp_path / "new.safetensors", {"a": torch.zeros(1)})
    (tmp_path / "plain").write_text("x")
    new, tensors, plain = (
        stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("new", "new.safetensors", "plain")
    )
    assert new == tensors == plain


def test_a_full_disk_is_one_line_and_leaves_the_old_file(tmp_path):
    path = tmp_path / "shard.npy"
    write_text(path, "old")
    with (
        pytest.raises(InputError, match=r"cannot write .*shard.npy: No space left") as caught,
        atomic_path(path),
    ):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert "\n" not in str(caught.value) and path.read_text() == "old"


def test_record_names_damage(tmp_path):
    path = tmp_path / "heavy.npy"
    path.write_bytes(b"0123456789")
    record = write_record(path, {"a": 1}, count=10)
    assert read_verified_record(path).said() == record
    assert (
        record["bytes"] == 10
        and record["count"] == 10
        and record["spec"] == {"a": 1}
        and record["peak_memory_mb"] > 1
    )
    path.write_bytes(b"0123456780")
    with pytest.raises(InputError, match=r"heavy.npy is damaged"):
        read_verified_record(path)
    record_path(path).unlink()
    with pytest.raises(InputError, match=r"heavy.json does not exist"):
        read_verified_record(path)


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


def test_what_provenance_says_is_known_where_records_are_read():
    assert provenance().keys() <= Job.model_fields.keys(), "a resumed training would forget the rest"


def test_provenance_says_what_a_result_took_and_where(monkeypatch):
    busy = time.process_time() + 0.02
    while time.process_time() < busy:
        pass
    found = provenance()
    assert found["cpu_seconds"] >= 0.02 and 0 < found["seconds"] < time.time() - found["started"] + 1
    assert found["cpu"] and found["host"] and found["processes"] == 1 and found["threads"] >= 1
    assert found["command"] is None  # pytest's own command line makes no result
    monkeypatch.setattr(sys, "argv", ["/somewhere/ditgta/__main__.py", "score", "a b", "--floor"])
    monkeypatch.setenv("WORLD_SIZE", "4")
    found = provenance()
    assert found["command"] == "python -m ditgta score 'a b' --floor" and found["processes"] == 4


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_revision_is_gits_own_answer(tmp_path):
    def git(*words, folder=tmp_path / "main"):
        identity = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
        done = subprocess.run(["git", *identity, *words], cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def read(folder):
        git_revision.cache_clear()
        return git_revision(folder)

    main, other = tmp_path / "main", tmp_path / "other"
    main.mkdir()
    git("init", "-q")
    assert read(main) is None  # nothing committed
    git("commit", "-q", "--allow-empty", "-m", "one")
    first = git("rev-parse", "HEAD")
    git("worktree", "add", "-q", "-b", "side/branch", str(other))
    git("commit", "-q", "--allow-empty", "-m", "two", folder=other)
    assert read(main) == first
    assert read(other) == git("rev-parse", "HEAD", folder=other) != first
    git("pack-refs", "--all")
    assert read(main) == first and read(other) == git("rev-parse", "HEAD", folder=other)
    git("checkout", "-q", "--detach")
    assert read(main) == first
    assert read(tmp_path) is None
