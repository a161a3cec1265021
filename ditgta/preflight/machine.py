"""What this machine has: disk, memory, GPUs with their driver, a compiler, and GPUs that can average among themselves."""

import contextlib
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import torch

from ditgta import launch
from ditgta.config import Config, Experiment
from ditgta.data.ahead import usable_cores
from ditgta.layout import Layout
from ditgta.planning.estimate import Stage, as_size, hours_of
from ditgta.planning.machine import Machine
from ditgta.planning.scale import World, memory_of
from ditgta.preflight.line import MISSING, OK, WARNING, Line, setting
from ditgta.runtime.errors import InputError

CONTEXT = 1e9  # bytes of GPU memory that CUDA and its libraries take
TIGHT = 0.8  # share of free space above which a plan is tight
LONG_HOURS = 24 * 14
ALL_REDUCE_SECONDS = 14
# The files that say that a stage of the plan is done, by its name there.
NOUNS = {"train": "checkpoints", "sample": "samples", "loss": "losses", "score": "scores"}


def disk(stages: list[Stage], layout: Layout, suite: str) -> Line:
    """Return whether what is still to be written finds space."""
    root, needed = Path(layout.root).absolute(), 0.0
    place = next(folder for folder in (root, *root.parents) if folder.is_dir())
    for stage in stages:
        files = layout.files(NOUNS.get(stage.stage, stage.stage), suite)
        missing = sum(not Path(file).is_file() for file in files)
        needed += stage.bytes * missing / max(1, len(files))
    if not os.access(place, os.W_OK):
        fix = "fix its permissions, or start with --directory ELSEWHERE"
        return Line(MISSING, "disk", f"{place} cannot be written", fix)
    free = shutil.disk_usage(place).free
    said = f"{as_size(needed)} still to be written, {as_size(free)} free at {place}"
    fix = "free space, or start Snakemake with --directory ON_A_LARGER_DISK"
    if needed > TIGHT * free:
        return Line(MISSING if needed > free else WARNING, "disk", said, fix)
    return Line(OK, "disk", f"{said} (quotas are not checked)")


def versions() -> Line:
    """Return what computes."""
    build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "no CUDA"
    return Line(OK, "torch", f"torch {torch.__version__} ({build}), Python {platform.python_version()}")


def driver() -> Line | None:
    """Return whether torch can use the GPUs that the driver knows; None where there are none."""
    try:
        gpus = launch.visible_gpus()
    except InputError as error:
        return Line(MISSING, "GPUs", *str(error).split("; ", 1))
    if not gpus:
        return None
    query, version = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"], "unknown"
    with contextlib.suppress(OSError, IndexError, subprocess.TimeoutExpired):
        version = subprocess.run(query, capture_output=True, text=True, timeout=10).stdout.split()[0]
    said = f"{len(gpus)} GPU{'s' * (len(gpus) > 1)}, driver {version}"
    if torch.cuda.is_available() and torch.cuda.device_count() >= len(gpus):
        names = set(map(torch.cuda.get_device_name, range(torch.cuda.device_count())))
        return Line(OK, "GPUs", f"{said}: {', '.join(sorted(names))}")
    if torch.version.cuda is None:
        fix = "install a build of torch for CUDA (pytorch.org/get-started/locally)"
        return Line(MISSING, "GPUs", f"{said}, but torch {torch.__version__} is built without CUDA", fix)
    fix = "update the driver, or install a build of torch for an older CUDA (pytorch.org/get-started/locally)"
    return Line(MISSING, "GPUs", f"{said}, but torch for CUDA {torch.version.cuda} cannot use it", fix)


def memory(config: Config, suite: str, counted: tuple[int, int]) -> Iterator[Line]:
    """Yield whether a training process finds memory: on a GPU, or on this machine beside the other rows."""
    rows = config.trained(suite)
    if not rows:
        return
    jobs, gpus = len(rows) * len(config.suites[suite].seeds), torch.cuda.device_count()
    world = World(max(1, gpus // jobs), 1, 1.0, gpus > 0)  # all rows run at once, on a share of the GPUs each
    largest = max(rows, key=lambda name: needed_bytes(rows[name], counted[1], world))
    needed = needed_bytes(rows[largest], counted[1], world)
    if gpus:
        yield gpu_memory(config, largest, counted[1], world, needed)
        return
    at_once, free = min(jobs, usable_cores()), psutil.virtual_memory().available
    said = f"{at_once} training{'s' * (at_once > 1)} at once, {as_size(needed)} each ({largest}); {as_size(free)} free"
    fix = f"set {setting(config, largest, 'training', 'micro_batch', '8')}, or give Snakemake fewer --cores"
    if at_once * needed > free:
        yield Line(MISSING if needed > free else WARNING, "memory", said, fix)
    else:
        yield Line(OK, "memory", said)


def gpu_memory_elsewhere(
    config: Config, suite: str, counted: tuple[int, int], resources: dict
) -> Line | None:
    """Return what a training takes of each GPU of a cluster, whose size Slurm does not say; None without GPUs or trainings."""
    if not (resources.get("gpu") or resources.get("gres")):
        return None
    nodes = int(resources.get("nodes") or 1)
    world = World(nodes * launch.processes_per_node(resources, nodes), nodes, 1.0, True)
    rows = config.trained(suite)
    if not rows:
        return None
    needed = {name: needed_bytes(options, counted[1], world) for name, options in rows.items()}
    name = max(reversed(needed), key=lambda name: needed[name])
    size = as_size(needed[name])
    said = f"{size} of each of {world.count} GPUs ({name}); Slurm does not report their memory"
    return Line(OK, "GPU memory", said)


def needed_bytes(experiment: Experiment, classes: int, world: World) -> float:
    """Return the memory of one training process: of its GPU, or of the machine."""
    held = memory_of(experiment, classes, world)
    return held.state + held.work + CONTEXT if world.gpus else held.in_all


def gpu_memory(config: Config, name: str, classes: int, world: World, needed: float) -> Line:
    """Return whether a training fits the smallest GPU, and what makes it fit."""
    memory = [torch.cuda.mem_get_info(i) for i in range(torch.cuda.device_count())]
    free, total = min(free for free, _ in memory), min(total for _, total in memory)
    said = f"a training process ({name}) takes {as_size(needed)} of a GPU's {as_size(total)}"
    if needed <= free:
        return Line(OK, "GPU memory", said)
    if needed <= total:
        fix = "stop other programs on the GPUs (nvidia-smi lists them)"
        return Line(WARNING, "GPU memory", f"{said}, but {as_size(free)} are free", fix)
    return Line(MISSING, "GPU memory", said, smaller(config, name, classes, world, total))


def smaller(config: Config, name: str, classes: int, world: World, total: float) -> str:
    """Return the setting by which a training fits a GPU, without a change of results."""
    experiment = config.experiments[name]
    images = -(-experiment.training.batch_size // world.count)
    while images > 1:
        images //= 2
        training = experiment.training.model_copy(update={"micro_batch": images})
        changed = experiment.model_copy(update={"training": training})
        if needed_bytes(changed, classes, world) <= TIGHT * total:
            return f"set {setting(config, name, 'training', 'micro_batch', str(images))}"
    return f"set {setting(config, name, 'training', 'checkpoint_gradients', 'true')}, or use GPUs with more memory"


def compiler(config: Config, suite: str) -> Line | None:
    """Return whether networks that are to be compiled can be; None where none is."""
    options = [config.experiments[name].training.compile for name in config.suites[suite].experiments]
    options.append(config.suites[suite].sampling.compile)
    gpus = torch.cuda.is_available()
    if not any(option or (option is None and gpus) for option in options):
        return None
    known = filter(None, (os.environ.get("CC"), "gcc", "cc", "clang"))
    name = next(filter(shutil.which, known), None)
    if name is None:
        fix = "load a compiler (`module load gcc`), or set `compile: false` under training and sampling"
        return Line(MISSING, "compiler", "torch.compile finds no C compiler on PATH", fix)
    if gpus and importlib.util.find_spec("triton") is None:
        said = "Triton is not installed: networks are not compiled, and slower"
        return Line(WARNING, "compiler", said, "`pip install triton`; results are right without it")
    return Line(OK, "compiler", f"{name}{', Triton' if gpus else ''}")


def all_reduce(count: int) -> Line:
    """Return whether processes on `count` GPUs of this machine average a tensor among themselves, as a training does."""
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"]
    words += ["-m", "ditgta.preflight.all_reduce"]
    what = f"gloo, {count} processes"
    if torch.cuda.is_available():
        what = f"NCCL on {count} GPU{'s' * (count > 1)}"
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=ALL_REDUCE_SECONDS)
        if done.returncode == 0:
            return Line(OK, "all-reduce", f"{what}: {done.stdout.strip()}")
        errors = [line.strip() for line in done.stderr.splitlines() if "Error" in line]
        said = (errors or ["it ended without a message"])[0][:200]
    except subprocess.TimeoutExpired:
        said = f"not done within {ALL_REDUCE_SECONDS} s"
    fix = "run `NCCL_DEBUG=INFO python -m torch.distributed.run --nproc-per-node N -m ditgta.preflight.all_reduce` to see why"
    return Line(MISSING, "all-reduce", f"{what}: {said}", fix)


def hours(stages: list[Stage], machine: Machine) -> Line:
    """Return how long a suite takes on this machine."""
    least, most = (sum(times) for times in zip(*hours_of(stages, machine)))
    said = f"{_span(least)} to {_span(most)} from the beginning on {machine.devices} x {machine.name}"
    if least < LONG_HOURS:
        return Line(OK, "time", said)
    fix = (
        "run it on a machine with more GPUs: `snakemake --profile slurm-paper` on a cluster (docs/cluster.md)"
    )
    return Line(WARNING, "time", said, fix)


def _span(hours: float) -> str:
    for unit, size in (("years", 24 * 365), ("days", 24), ("hours", 1)):
        if hours >= 2 * size:
            return f"{hours / size:,.0f} {unit}"
    return f"{60 * hours:.0f} minutes"
