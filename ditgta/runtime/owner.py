"""Which process something belongs to, and whether that process lives: by machine, container, number and time of birth."""

import contextlib
import hashlib
import os
import re
import socket
from functools import cache
from pathlib import Path

_OWNER = re.compile(r"([0-9a-f]{8})-(\d+)-(\w*)")


def boot_id() -> str:
    """Return what tells one start of this machine from the next, the machine's name where nothing does."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return socket.gethostname()


def process_namespace() -> str:
    """Return in which numbering of processes this one has its number, "" where there is one only."""
    with contextlib.suppress(OSError):
        return os.readlink("/proc/self/ns/pid")
    return ""


def start_of(pid: int) -> str:
    """Return when a process began, in the kernel's ticks, or "" if there is none: tells a reused pid from its former owner."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if fields[0] in "ZX" else fields[19]
    except OSError:
        if Path("/proc/self").exists():
            return ""
    try:
        os.kill(pid, 0)
        return "alive"
    except OSError:
        return ""


@cache
def _machine(_: int) -> str:
    known = "\n".join((boot_id(), socket.gethostname(), process_namespace()))
    return hashlib.sha256(known.encode()).hexdigest()[:8]


def owner() -> str:
    """Return this process as a word for names of files: machine and container, number, time of birth."""
    pid = os.getpid()
    return f"{_machine(pid)}-{pid}-{start_of(pid)}"


def is_alive(word: str) -> bool | None:
    """Tell whether the process that `owner` named lives; None on another machine, in another container, or where it names none."""
    match = _OWNER.fullmatch(word)
    if not match or match[1] != _machine(os.getpid()):
        return None
    return start_of(int(match[2])) == match[3] != ""


def is_running(holder: dict) -> bool | None:
    """Tell whether a lease's holder lives; None on another machine or in another container, where only a moving heartbeat can tell."""
    if holder.get("boot") != boot_id() or holder.get("host") != socket.gethostname():
        return None
    if holder.get("processes", process_namespace()) != process_namespace():
        return None  # another container, whose processes have numbers of their own
    pid = holder.get("pid")
    return isinstance(pid, int) and start_of(pid) == holder.get("started") != ""


def name_of(holder: dict | None) -> str:
    """Return a lease's holder in words."""
    if not holder:
        return "another process"
    job = f", job {holder['job']}" if holder.get("job") else ""
    return f"process {holder.get('pid')} on {holder.get('host')}{job}"
