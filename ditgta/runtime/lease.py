"""A lease on a folder: one writer at a time, on any number of machines, without flock and without equal clocks."""

import contextlib
import errno
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from ditgta.runtime.errors import InputError
from ditgta.runtime.files import read_json, write_json
from ditgta.runtime.owner import boot_id, is_running, name_of, process_namespace, start_of
from ditgta.runtime.progress import reached

# What link() says where there are none: exFAT, SMB, object stores.
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOTSUP)
LEASE_NAME = "lease.json"
HEARTBEAT_SECONDS = 5.0
DEAD_AFTER_SECONDS = 30.0
WAIT_IN_JOB_SECONDS = 3000.0  # less than the hour after which processes that wait for the first one give up


class Lease:
    """The lease of a folder, held or asked for; `purpose` says in the error line who may hold it, e.g. "another trainer"."""

    def __init__(self, path: Path, purpose: str = "another process"):
        self.path, self.purpose, self.token = path, purpose, uuid.uuid4().hex
        self.stop = threading.Event()
        self.beat = 0

    def content(self) -> dict:
        """Return what the lease file says of this holder, and how far it is."""
        return {
            "token": self.token,
            "beat": self.beat,
            "host": socket.gethostname(),
            "boot": boot_id(),
            "processes": process_namespace(),
            "pid": os.getpid(),
            "started": start_of(os.getpid()),
            "job": os.environ.get("SLURM_JOB_ID", ""),
            "reached": reached(),
        }

    def acquire(self) -> None:
        """Takes the lease, from a dead holder too; a live one is waited for in a Slurm job only, and else raises InputError."""
        deadline, waits = time.monotonic(), False
        if os.environ.get("SLURM_JOB_ID"):
            deadline += WAIT_IN_JOB_SECONDS
        while not _create(self.path, self.content()):
            holder = read_holder(self.path)
            if not holder or _is_dead(self.path, holder):
                self.steal(holder)
                continue
            line = f"{self.purpose} is already running in {self.path.parent}: {name_of(holder)}"
            if time.monotonic() >= deadline:
                raise InputError(f"{line}; wait for it, or stop it and run again")
            if not waits:
                print(f"{line}; waiting for it to end", flush=True)
            waits = True
            time.sleep(HEARTBEAT_SECONDS)

    def steal(self, holder: dict) -> None:
        """Removes a dead holder's lease: the first process that renames it has removed it; the others find it gone and try again."""
        grave = self.path.with_name(f".lease.{uuid.uuid4().hex}")
        with contextlib.suppress(OSError):
            os.rename(self.path, grave)
            removed = read_holder(grave)
            if removed and holder and removed.get("token") != holder.get("token"):
                os.link(grave, self.path)  # a live one, who came between
            grave.unlink()

    def check(self) -> None:
        """Raise InputError where another process has taken the lease over: to be called before anything is written under it."""
        holder = read_holder(self.path)
        if holder.get("token") != self.token:
            raise InputError(
                f"{self.path.parent} was taken over by {name_of(holder)} while this process was suspended; this process stops"
            )

    def keep(self) -> None:
        """Raise, until it is to stop, the count by which others see that this holder lives; no clock need be compared."""
        while not self.stop.wait(HEARTBEAT_SECONDS):
            with contextlib.suppress(OSError, InputError):
                self.check()
                self.beat += 1
                write_json(self.path, self.content())

    def release(self) -> None:
        """Removes the lease file if it is still ours."""
        with contextlib.suppress(OSError, InputError):
            self.check()
            self.path.unlink()


@contextlib.contextmanager
def lease(folder: str | Path, purpose: str, name: str = LEASE_NAME) -> Iterator[Lease]:
    """Holds a lease of the folder, which is made where it is missing; yields it. Raises InputError if a live holder has it.

    A holder that is known to be dead (same machine, no such process) is replaced at once. Any other is watched for 30 seconds of
    this process's own clock: if its heartbeat stands still it is replaced, if it moves this process gives way. A Slurm job waits up
    to 50 minutes for a live holder: it is there because a head was killed whose jobs live on, or because a node lost its daemon.

    `purpose` says in the error line who may hold it, e.g. "another trainer"; leases of other file names are other leases.
    """
    path = Path(folder) / name
    made = [place for place in (path.parent, *path.parent.parents) if not place.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    held = Lease(path, purpose)
    held.acquire()
    thread = threading.Thread(target=held.keep, daemon=True)
    thread.start()
    try:
        yield held
    finally:
        held.stop.set()
        thread.join()
        held.release()
        with contextlib.suppress(OSError):  # nothing is left of a stage that wrote nothing
            for place in made:
                place.rmdir()


def _create(path: Path, content: dict) -> bool:
    """Creates the lease file whole or not at all; False if there is one. A hard link is atomic on NFS too."""
    draft = path.with_name(f".lease.{content['token']}")
    draft.write_text(json.dumps(content))
    try:
        os.link(draft, path)
        return True
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_LINKS or not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
            raise
        raise InputError(
            f"the file system of {path.parent} has no hard links ({error.strerror}), which the lock of writers "
            "needs; write to another disk"
        ) from None
    finally:
        draft.unlink(missing_ok=True)


def read_holder(path: Path) -> dict:
    try:
        return read_json(path)
    except InputError:
        return {}


def _is_dead(path: Path, holder: dict) -> bool:
    if (running := is_running(holder)) is not None:
        return not running
    begin = time.monotonic()
    while time.monotonic() - begin < DEAD_AFTER_SECONDS:
        time.sleep(1)
        now = read_holder(path)
        if now.get("token") != holder.get("token"):
            return True
        if now.get("beat") != holder.get("beat"):
            return False
    return True
