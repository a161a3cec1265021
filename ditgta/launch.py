"""Puts a stage on 1..N processes, GPUs and nodes: the words in front of `-m ditgta STAGE`. Needs no torch.

On one machine Snakemake limits how many GPUs are in use but names none, so each job there takes free GPUs by file locks:
`python -m ditgta.launch --gpus N COMMAND...`. Under Slurm the GPUs are Slurm's to give. Left out on purpose: several
machines without Slurm, and several processes on one machine without GPUs (threads do as well).
"""

import argparse
import contextlib
import fcntl
import math
import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from ditgta.runtime.errors import InputError, one_line

# What torchrun passes on to its processes, and how long it lets them write a snapshot then.
SIGNALS = "SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1"
SNAPSHOT_SECONDS = 90
SAY_SECONDS = 60  # between lines that say what is waited for
GPU_NAME = re.compile(r"\d+|(GPU|MIG)-[0-9A-Za-z/-]+")  # a number, or a UUID or its beginning


def visible_gpus() -> list[str]:
    """Return the names of this machine's NVIDIA GPUs, as CUDA_VISIBLE_DEVICES takes them; none where there are none.

    Raises InputError if that variable holds something else.
    """
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        names = [name for name in map(str.strip, chosen.split(",")) if name not in ("", "-1", "NoDevFiles")]
        if len(set(names)) < len(names) or not all(map(GPU_NAME.fullmatch, names)):
            raise InputError(
                f"CUDA_VISIBLE_DEVICES={chosen!r} does not name a set of GPUs; write numbers or UUIDs separated by commas, each once"
            )
        return names
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    count = sum(line.startswith("GPU ") for line in listed.stdout.splitlines())
    return [str(number) for number in range(count)]


def command(
    threads: int, resources: Mapping | None = None, gpus: int = 0, checkout: str | None = None
) -> str:
    """Return the shell words that start `ditgta` for one job.

    Args:
        threads: processor cores of the job, on each node.
        resources: the job's, as Snakemake and its Slurm executor name them: `gpu` (GPUs in all) or `gres` ("gpu:4", GPUs per
            node), `nodes`, `tasks` (each of which has `threads` cores), and `mpi` (the word that starts a task on each node, srun)
            for a job that Slurm signals before its time limit.
        gpus: GPUs of this machine, if it is this machine that runs the job.
        checkout: folder of this package, for a job in an environment that has all but the package and a `python` of its own; by
            default the interpreter that runs this function is taken.
    """
    resources = resources or {}
    nodes = int(resources.get("nodes") or 1)
    per_node = processes_per_node(resources, nodes)
    mpi, cores = resources.get("mpi"), int(threads)
    if mpi:
        cores *= max(1, int(resources.get("tasks") or 1) // nodes)
    share, python = max(1, cores // per_node), shlex.quote(sys.executable)
    words = [f"OMP_NUM_THREADS={share}", f"MKL_NUM_THREADS={share}"]
    if checkout:
        python = "python"
        words.append(f"PYTHONPATH={shlex.quote(checkout)}")
    if mpi:
        words += [
            f"{mpi} --nodes={nodes} --ntasks={nodes} --ntasks-per-node=1 --cpus-per-task={cores}",
            f"--kill-on-bad-exit=1 {python} -m torch.distributed.run --nnodes={nodes} --nproc-per-node={per_node}",
            "--rdzv-backend=c10d --rdzv-id=$SLURM_JOB_ID",
            "--rdzv-endpoint=$(hostname):$((20000 + SLURM_JOB_ID % 20000))",
            f"--signals-to-handle={SIGNALS} --shutdown-timeout={SNAPSHOT_SECONDS}",
        ]
    else:
        words.append(python)
        if gpus > 1 and resources.get("gpu"):
            words.append(f"-m ditgta.launch --gpus {per_node} {python}")
        if per_node > 1:
            words.append(f"-m torch.distributed.run --standalone --nproc-per-node={per_node}")
    return " ".join([*words, "-m ditgta"])


def requeue() -> bool:
    """Asks Slurm to queue this very job again, so that no time limit needs a person or a retry; False where it cannot."""
    job = os.environ.get("SLURM_JOB_ID")
    if not job:
        return False
    try:
        return subprocess.run(["scontrol", "requeue", job], capture_output=True, timeout=60).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def processes_per_node(resources: Mapping, nodes: int) -> int:
    """Return one process for each GPU of a node, and one where there are no GPUs."""
    kind, _, count = str(resources.get("gres") or "").rpartition(":")
    if kind.startswith("gpu") and count.isdigit():
        return max(1, int(count))
    return max(1, int(resources.get("gpu") or 0) // nodes)


def lock_folder(parent: Path | None = None) -> Path:
    """Return the folder of this user's locks, which nobody else can make or write: in a shared temporary folder names are free to all.

    Raises InputError if what bears its name is a link, no folder, another user's, or open to others.
    """
    folder = (parent or Path(tempfile.gettempdir())) / f"ditgta-gpus-{os.getuid()}"
    with contextlib.suppress(FileExistsError):
        os.mkdir(folder, 0o700)
    state = os.lstat(folder)
    if not stat.S_ISDIR(state.st_mode) or state.st_uid != os.getuid() or state.st_mode & 0o022:
        raise InputError(
            f"{folder} is not a folder that only this user can write; remove it, or set TMPDIR to your own folder"
        )
    os.chmod(folder, 0o700)
    return folder


def take_gpus(count: int, names: list[str], folder: Path) -> list[str]:
    """Waits until `count` of the named GPUs are free and returns them, locked until this process, and what it becomes, ends.

    Whoever lacks a GPU gives back those it holds before it tries again, so that two jobs never wait for each other. What is
    waited for is said at once and then every minute.
    """
    last_line = -math.inf
    while True:
        held: dict[str, int] = {}
        for name in names:
            descriptor = locked(folder, name)
            if descriptor is None:
                continue
            os.set_inheritable(descriptor, True)
            held[name] = descriptor
            if len(held) == count:
                return list(held)
        for descriptor in held.values():
            os.close(descriptor)
        if time.monotonic() - last_line >= SAY_SECONDS:
            last_line = time.monotonic()
            line = f"waiting for {count} free GPUs: {len(held)} of {','.join(names)} are free; locks are in {folder}"
            print(f"ditgta.launch: {line}", file=sys.stderr, flush=True)
        time.sleep(1)


def locked(folder: Path, name: str) -> int | None:
    """Return the open lock of a GPU, None where another process holds it."""
    descriptor = os.open(folder / name.replace("/", "-"), os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return descriptor
    except BlockingIOError:
        os.close(descriptor)
        return None


def main(words: list[str] | None = None) -> None:
    """Reads the words of the command line; a mistake is one line and exit code 2."""
    parser = argparse.ArgumentParser(prog="ditgta.launch", description="Run a command on free GPUs.")
    parser.add_argument("--gpus", type=int, default=None, help="number of GPUs")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="command to run")
    arguments, unknown = parser.parse_known_args(words)
    try:
        text = "give the number of GPUs as --gpus N, before the command"
        if unknown:
            raise InputError(f"{text} (got {unknown[0]})")
        if arguments.gpus is None:
            raise InputError(text)
        become(arguments.gpus, arguments.command)
    except (InputError, OSError) as error:
        parser.exit(2, f"ditgta.launch: error: {one_line(error)}\n")


def become(count: int, words: list[str]) -> None:
    """Becomes a command once enough GPUs are free, with these alone visible.

    Raises InputError if there is no command, there are fewer GPUs, or their names or locks cannot be used.
    """
    names = visible_gpus()
    if not words or shutil.which(words[0]) is None:
        raise InputError(f"{words[0] if words else 'nothing'} is not a command; give one after --gpus N")
    if not 0 < count <= len(names):
        raise InputError(f"{count} GPUs are requested, but there are {len(names)}; request 1 to {len(names)}")
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(take_gpus(count, names, lock_folder()))
    os.execvp(words[0], words)


if __name__ == "__main__":
    main()
