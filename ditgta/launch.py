"""Puts a stage on 1..N processes, GPUs and nodes: the words in front of `-m ditgta STAGE`. Needs no torch.

On one machine Snakemake limits how many GPUs are in use but names none, so each job there takes free GPUs by file locks:
`python -m ditgta.launch --gpus N COMMAND...`. Under Slurm the GPUs are Slurm's to give. Left out on purpose: several
machines without Slurm, and several processes on one machine without GPUs (threads do as well).
"""

import argparse
import fcntl
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

# What torchrun passes on to its processes, and how long it lets them write a snapshot then.
SIGNALS = "SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1"
SNAPSHOT_SECONDS = 90


def visible_gpus() -> list[str]:
    """Returns the names of this machine's NVIDIA GPUs, as CUDA_VISIBLE_DEVICES takes them; none where there are none."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [name.strip() for name in chosen.split(",") if name.strip() not in ("", "-1", "NoDevFiles")]
    try:
        found = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return []
    lines = found.stdout.splitlines() if found.returncode == 0 else []
    return [str(i) for i in range(sum(line.startswith("GPU ") for line in lines))]


def command(
    threads: int, resources: Mapping | None = None, gpus: int = 0, checkout: str | None = None
) -> str:
    """Returns the shell words that start `ditgta` for one job.

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
    python = "python" if checkout else shlex.quote(sys.executable)
    cores = int(threads) * (max(1, int(resources.get("tasks") or 1) // nodes) if resources.get("mpi") else 1)
    share = max(1, cores // per_node)
    words = [f"OMP_NUM_THREADS={share}", f"MKL_NUM_THREADS={share}"]
    if checkout:
        words.append(f"PYTHONPATH={shlex.quote(checkout)}")
    if resources.get("mpi"):
        words += [
            f"{resources['mpi']} --nodes={nodes} --ntasks={nodes} --ntasks-per-node=1 --cpus-per-task={cores}",
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
    """Returns one process for each GPU of a node, and one where there are no GPUs."""
    kind, _, count = str(resources.get("gres") or "").rpartition(":")
    if kind.startswith("gpu") and count.isdigit():
        return max(1, int(count))
    return max(1, int(resources.get("gpu") or 0) // nodes)


def take_gpus(count: int, names: list[str], folder: Path) -> list[str]:
    """Waits until `count` of the named GPUs are free and returns them, locked until this process, and what it becomes, ends.

    Whoever lacks a GPU gives back those it holds before it tries again, so that two jobs never wait for each other.
    """
    folder.mkdir(parents=True, exist_ok=True)
    while True:
        held: dict[str, int] = {}
        for name in names:
            descriptor = os.open(folder / name.replace("/", "-"), os.O_CREAT | os.O_RDWR, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                continue
            os.set_inheritable(descriptor, True)
            held[name] = descriptor
            if len(held) == count:
                return list(held)
        for descriptor in held.values():
            os.close(descriptor)
        time.sleep(1)


def main(words: list[str] | None = None) -> None:
    """Becomes COMMAND once enough GPUs are free, with these alone visible."""
    parser = argparse.ArgumentParser(prog="ditgta.launch", description="Run a command on free GPUs.")
    parser.add_argument("--gpus", type=int, required=True, help="number of GPUs")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="command to run")
    arguments = parser.parse_args(words)
    names = visible_gpus()
    if not arguments.command or not 0 < arguments.gpus <= len(names):
        parser.error(
            f"{arguments.gpus} GPUs are wanted and {len(names)} are here; give a command and ask for fewer"
        )
    taken = take_gpus(arguments.gpus, names, Path(tempfile.gettempdir()) / f"ditgta-gpus-{os.getuid()}")
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(taken)
    os.execvp(arguments.command[0], arguments.command)


if __name__ == "__main__":
    main()
