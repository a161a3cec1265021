"""Files that are either whole or absent, and the small JSON record that stands beside every heavy one."""

import contextlib
import errno
import hashlib
import json
import os
import platform
import re
import resource
import secrets
import shlex
import stat
import sys
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TypeVar

from ditgta import __version__
from ditgta.runtime.addresses import redacted
from ditgta.runtime.errors import InputError, as_input_error, one_line
from ditgta.runtime.file_records import FileRecord
from ditgta.runtime.orphans import sweep, temporary_prefix
from ditgta.runtime.records import Kind, parsed

_START, _STARTED = time.monotonic(), round(time.time(), 3)
_digests: dict[tuple[int, ...], str] = {}  # of files that this process has read, by what they were then
_KEPT_BYTES, _SETTLED_SECONDS = 2**20, 5.0
_work: list[float] = []  # when this process began what it is for
_File = TypeVar("_File", bound=FileRecord)


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder that becomes `path` when the block ends without an error.

    The content is fsynced before the rename and the folder after it: a reader, or a machine that lost power,
    sees the old file or the new one, never a part. The temporary file keeps the suffix of `path`. Those that killed processes have
    left in the folder are removed.
    Raises InputError if the folder cannot be written or the disk is full, and then the old file is untouched.
    """
    path = Path(path)
    temporary = path.parent / f"{temporary_prefix(path)}{secrets.token_hex(4)}.tmp{path.suffix}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep(path.parent)
        temporary.touch(exist_ok=False)
        mode = stat.S_IMODE(temporary.stat().st_mode)
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.chmod(temporary, mode)  # safetensors puts a file of its own there, which only its owner may read
        os.replace(temporary, path)
        _fsync_folder(path.parent)
    except Exception as error:
        number = _system_error(error)
        if number in (None, errno.ENOENT):
            raise
        raise InputError(
            f"cannot write {path}: {os.strerror(number)}; free space or fix the folder's permissions, then run again"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def _system_error(error: Exception) -> int | None:
    """Return the system's number of an error, which safetensors puts into words and torch hides behind one of its own; None of others."""
    if isinstance(error, RuntimeError) and isinstance(error.__context__, Exception):
        return _system_error(error.__context__)
    if isinstance(error, OSError):  # numpy tells of a short write without a number
        return errno.ENOSPC if error.errno is None and "written" in str(error) else error.errno
    if number := re.search(r"\(os error (\d+)\)", str(error)):
        return int(number[1])
    return None


def _fsync_folder(folder: Path) -> None:
    with contextlib.suppress(OSError):  # some network file systems refuse to sync a folder
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_text(path: str | Path, text: str) -> None:
    """Writes a text file atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, content: dict | list) -> None:
    """Writes JSON atomically, keys sorted, so that equal content gives equal bytes."""
    write_text(path, json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n")


def check_ending(out: Path, *endings: str) -> None:
    """Raise InputError where an output's name does not end as it must."""
    if Path(out).suffix not in endings:
        raise InputError(f"--out {out} must end in {' or '.join(endings)}")


def is_file(path: str | Path) -> bool:
    """Tells whether a path leads to a file that can be read; raises InputError if it is a pipe or device, or cannot be followed."""
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError) as error:
        raise InputError(f"cannot open {path} ({reason_of(error)}); check the path") from None
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise InputError(f"{path} is a pipe or device, not a file; give a file")
    return stat.S_ISREG(mode)


def expanded(path: str | Path) -> Path:
    """Return a path with its `~` as the home folder; raise InputError if the home folder is unknown, or the path is none."""
    if "\0" in str(path):
        raise InputError(f"{str(path)!r} is not a path: it holds a zero byte; correct it")
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise InputError(f"the home folder in {path} is unknown; write the path in full") from None


def read_text(path: str | Path, missing: str = "run the stage that writes it") -> str:
    """Reads a text file; raises InputError, with `missing` as the fix where there is none, if it cannot be read as UTF-8."""
    try:
        if not is_file(path):
            if os.path.isdir(path):
                raise InputError(f"{path} is a folder, not a file; name a file")
            raise InputError(f"{path} does not exist; {missing}")
        return Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not a text file ({one_line(error)}); give another file") from None
    except OSError as error:
        raise InputError(f"cannot open {path}: {reason_of(error)}; check its permissions") from None


def reason_of(error: Exception) -> str:
    """Return why the system refuses something, in its own words."""
    return getattr(error, "strerror", None) or one_line(error)


def read_json(path: str | Path) -> dict:
    """Reads a JSON file; raises InputError if the file is missing or is no JSON object."""
    fix = "delete it and run its stage again"
    with as_input_error(f"{path} is not valid JSON", fix, ValueError, RecursionError):
        content = json.loads(read_text(path))
    if not isinstance(content, dict):
        raise InputError(f"{path} holds no JSON object; {fix}")
    return content


def read_as(kind: type[Kind], path: str | Path, fix: str = "run its stage again") -> Kind:
    """Reads a JSON file as a record; raises InputError, with the fix, if it is missing or not such a record."""
    return parsed(kind, read_json(path), str(path), fix)


def sha256_of(path: str | Path) -> str:
    """Return the SHA-256 of a file's bytes as 64 hexadecimal digits; large files that stay as they are, are read once."""
    with open(path, "rb") as file:
        state = os.fstat(file.fileno())
        key = (state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)
        if key in _digests:
            return _digests[key]
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        after = os.fstat(file.fileno())
    # A file that changed moments ago may change once more within one tick of the clock that its times are of.
    settled = after.st_ctime_ns == state.st_ctime_ns and time.time() - state.st_ctime > _SETTLED_SECONDS
    if settled and state.st_size >= _KEPT_BYTES:
        _digests[key] = digest
    return digest


def spec_text(spec: dict) -> str:
    """Return a spec as one line of JSON with sorted keys: the text that is tracked, hashed and compared."""
    return json.dumps(spec, sort_keys=True, separators=(",", ":"))


def spec_hash(spec: dict) -> str:
    """Return the first 12 hexadecimal digits of the SHA-256 of a spec."""
    return hashlib.sha256(spec_text(spec).encode()).hexdigest()[:12]


def record_path(path: str | Path) -> Path:
    """Return the path of a heavy file's JSON record: the same name with the suffix .json."""
    return Path(path).with_suffix(".json")


def write_record(path: str | Path, spec: dict, out: Path | None = None, **content) -> dict:
    """Writes the JSON record of a finished heavy file, to `out` or beside it, and returns its content.

    The record holds the file's sha256 and size in bytes, the spec, and `provenance()`; `content` adds counts and findings.
    """
    path = Path(path)
    facts = {"file": path.name, "sha256": sha256_of(path), "bytes": path.stat().st_size, "spec": spec}
    record = {**facts, **content, **provenance()}
    write_json(out or record_path(path), record)
    return record


def read_verified_record(path: str | Path, kind: type[_File] = FileRecord) -> _File:
    """Return a heavy file's record; raise InputError if one of the two is missing, or the file's sha256 is not the record's."""
    path = Path(path)
    if not is_file(path):
        raise InputError(f"{path} does not exist; run the stage that writes it")
    record, sha256 = read_as(kind, record_path(path)), sha256_of(path)
    if sha256 != record.sha256:
        raise InputError(
            f"{path} is damaged (sha256 {sha256[:12]}..., its record says {str(record.sha256)[:12]}...); delete it and run its stage again"
        )
    return record


def work_begins() -> None:
    """Notes that imports and loading are over and a stage begins what it is for; the first call counts."""
    if not _work:
        _work.append(time.monotonic())


def provenance() -> dict:
    """Return what produced a result and what that took.

    Code: versions, `revision` (the commit of the checkout that the package lies in, None elsewhere), `command`.
    Machine: host, cpu, gpu (None without one in use), threads per process, processes of the job.
    Cost of this process alone, until now: `started` (Unix time; with the host it tells processes apart), seconds,
    cpu_seconds (user and system), peak_memory_mb and peak_gpu_memory_mb; startup_seconds, where a stage has said that its work
    began, are those of the seconds that passed before.
    """
    versions = {"ditgta": __version__, "python": platform.python_version()}
    for module in ("torch", "numpy", "diffusers", "accelerate", "scipy", "sklearn", "PIL"):
        if version := getattr(sys.modules.get(module), "__version__", None):
            versions[module] = version
    torch = sys.modules.get("torch")
    on_gpu = torch is not None and torch.cuda.is_initialized()
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "versions": versions,
        "revision": git_revision(Path(__file__).parents[2]),
        "command": _command(),
        "host": platform.node(),
        "cpu": _processor(),
        "gpu": torch.cuda.get_device_name() if on_gpu else None,
        "threads": torch.get_num_threads() if torch is not None else 1,
        "processes": int(os.environ.get("WORLD_SIZE") or 1),
        "started": _STARTED,
        "seconds": round(time.monotonic() - _START, 3),
        **({"startup_seconds": round(_work[0] - _START, 3)} if _work else {}),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 3),
        "peak_memory_mb": round(usage.ru_maxrss / 1024, 1),
        "peak_gpu_memory_mb": round(torch.cuda.max_memory_allocated() / 2**20, 1) if on_gpu else None,
    }


@cache
def git_revision(folder: Path) -> str | None:
    """Return the commit that a checkout stands at, None where a folder is none; Git's files are read, no program is run."""
    git = folder / ".git"
    try:
        if git.is_file():  # a further worktree
            git = folder / git.read_text().removeprefix("gitdir:").strip()
        head = (git / "HEAD").read_text().strip()
        if not head.startswith("ref:"):
            return head
        name = head.removeprefix("ref:").strip()
        common = git / (git / "commondir").read_text().strip() if (git / "commondir").is_file() else git
        if (common / name).is_file():
            return (common / name).read_text().strip()
        packed = (common / "packed-refs").read_text().splitlines()
        return next((line.split()[0] for line in packed if line.endswith(f" {name}")), None)
    except OSError:
        return None


def _command() -> str | None:
    """Return the command that runs this stage, without secrets of addresses; None where another program uses the package."""
    started = Path(sys.argv[0])
    stage = started.parts[-2:] == ("ditgta", "__main__.py") or started.name == "ditgta"
    return shlex.join(["python", "-m", "ditgta", *map(redacted, sys.argv[1:])]) if stage else None


@cache
def _processor() -> str:
    """Return the processor's name as Linux tells it, elsewhere its architecture."""
    with contextlib.suppress(OSError, TypeError):
        return re.search(r"^model name[^:]*:(.*)$", Path("/proc/cpuinfo").read_text(), re.M)[1].strip()
    return platform.machine()
