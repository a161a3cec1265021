"""What all rows of `benchmarks.gpu` are made with: sizes, clocks, and the GPU's memory and peak rates."""

import contextlib
import functools
import gc
import importlib.metadata
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch

from benchmarks.gpu_lines import Note, failed
from benchmarks.rows import by_turns
from benchmarks.steps import DEVICE, this_process
from ditgta import DiT, DiTConfig, kernels
from ditgta.planning.machine import DEVICES

CUDA = DEVICE.type == "cuda"
Step = Callable[[], object]

ROUNDS, CALLS, SECONDS = (
    5,
    (3, 20),
    1.0,
)  # of what is timed: groups, least and most calls in one, seconds in all
# What makes a GPU slower than the one of the same name that DEVICES means.
SLOWER = ("h100pcie", "nvl", "laptop", "4090d", "mig")


@dataclass(frozen=True)
class Sizes:
    """How large everything is: as it is used, or tiny, which shows that every row runs and says nothing of speed."""

    tiny: bool = False

    def of(self, full: int, tiny: int = 2) -> int:
        """Return a number of images, rows or bytes."""
        return tiny if self.tiny else full

    def config(self, name: str, posenc: str) -> DiTConfig:
        """Return the configuration of a network."""
        if self.tiny:
            return DiTConfig.from_name(name, 64, posenc, 10, depth=2, width=48, heads=2)
        return DiTConfig.from_name(name, posenc=posenc)

    def network(self, name: str, posenc: str) -> DiT:
        """Return a network on the device with random weights, all different from zero: products of zeros are faster."""
        with DEVICE:
            return DiT(self.config(name, posenc))

    def demand(self, text: str) -> str:
        """Return a demand on speed, which is made on GPUs at full size alone."""
        return "" if self.tiny or not CUDA else text


def synchronize() -> None:
    """Wait until the GPU has done everything."""
    if CUDA:
        torch.cuda.synchronize()


@dataclass(frozen=True)
class Timing:
    """What a call takes: seconds of one, in each round; and those until it returns, from a GPU that had nothing to do."""

    rounds: list[float]
    host: float

    @property
    def seconds(self) -> float:
        """The middle of all rounds."""
        return statistics.median(self.rounds)

    @property
    def ms(self) -> float:
        """The same in milliseconds."""
        return 1e3 * self.seconds

    def over(self, other: "Timing") -> float:
        """Return how many times as long as another call that took turns with it."""
        return statistics.median(one / two for one, two in zip(self.rounds, other.rounds))


def timed(calls: Mapping[str, Step], sizes: Sizes) -> dict[str, Timing]:
    """Return what calls take, by turns: in groups, so that the GPU's queue is never empty within one."""
    by_turns(calls, sizes.of(3, 1))  # allocates; compiled code chooses its tiles at its first calls
    alone = {name: statistics.median(times) for name, times in by_turns(calls, sizes.of(3, 1)).items()}
    counts = {name: _count(seconds, sizes) for name, seconds in alone.items()}
    groups = {name: functools.partial(_repeat, call, counts[name]) for name, call in calls.items()}
    taken = by_turns(groups, sizes.of(ROUNDS, 2))
    return {
        name: Timing([seconds / counts[name] for seconds in taken[name]], _host_seconds(call, sizes))
        for name, call in calls.items()
    }


def _count(seconds: float, sizes: Sizes) -> int:
    if sizes.tiny:
        return 1
    least, most = CALLS
    return max(least, min(most, round(SECONDS / ROUNDS / seconds)))


def _repeat(call: Step, count: int) -> None:
    for _ in range(count):
        call()


def _host_seconds(call: Step, sizes: Sizes) -> float:
    times = []
    for _ in range(sizes.of(5, 1)):
        synchronize()
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    synchronize()
    return statistics.median(times)


@dataclass(frozen=True)
class Contestant:
    """A call that has been made ready: its first one, which compiles, took so long; the next ones held so many bytes at most."""

    step: Step
    first_seconds: float
    bytes: int


def contestants(
    what: str, builders: Mapping[str, Callable[[], Step]]
) -> tuple[dict[str, Contestant], list[Note]]:
    """Return those calls that can be made, and a note for each that cannot.

    Their bytes include what `builders` make: weights and their states.
    """
    ready, notes = {}, []
    for name, build in builders.items():
        try:
            ready[name] = _ready(build)
        except Exception as error:
            notes.append(failed(f"{what}: {name}", error))
    return ready, notes


def _ready(build: Callable[[], Step]) -> Contestant:
    free()
    before = torch.cuda.memory_allocated() if CUDA else 0
    step = build()
    synchronize()
    begin = time.perf_counter()
    step()
    synchronize()
    first = time.perf_counter() - begin
    if not CUDA:
        return Contestant(step, first, 0)
    torch.cuda.reset_peak_memory_stats()
    _repeat(step, 2)
    synchronize()
    return Contestant(step, first, torch.cuda.max_memory_allocated() - before)


def free() -> None:
    """Give back the GPU's memory that no one holds any more."""
    if CUDA:
        gc.collect()
        torch.cuda.empty_cache()


def tidy() -> None:
    """Set everything back that a row may have changed; fails where a row has broken the GPU's context."""
    torch._dynamo.reset()
    this_process()
    if CUDA:
        torch.cuda.set_sync_debug_mode("default")
    free()
    synchronize()


def known_gpu() -> str | None:
    """Return which of DEVICES this GPU is, or None."""
    if not CUDA:
        return None
    name = torch.cuda.get_device_name().lower().replace(" ", "")
    if any(word in name for word in SLOWER):
        return None
    return next((known for known in DEVICES if known in name and known != "laptop"), None)


def peak(products: str, sizes: Sizes) -> tuple[float, str]:
    """Return the operations per second that a share is of, and whose they are: the maker's, or measured on an unknown GPU."""
    known = known_gpu()
    if known:
        rate = DEVICES[known][products]
        return rate, f"{rate / 1e12:.4g} TFLOP/s ({known.upper()}, dense {products})"
    rate = matmul_rate(products, sizes)
    side = sizes.of(8192, 64)
    return (
        rate,
        f"{rate / 1e12:.3g} TFLOP/s ({side}^3 {products} matmul, measured: its peak is not known here)",
    )


@functools.cache
def matmul_rate(products: str, sizes: Sizes) -> float:
    """Return the operations per second of a large product of random matrices."""
    side = sizes.of(8192, 64)
    kind = torch.bfloat16 if products == "bf16" else torch.float32
    with tf32(products == "tf32"):
        one, two = (torch.randn(side, side, device=DEVICE, dtype=kind) for _ in range(2))
        seconds = timed({"matmul": lambda: one @ two}, sizes)["matmul"].seconds
    return 2 * side**3 / seconds


@contextlib.contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Allow TF32 within the block, or do not."""
    before = torch.backends.cuda.matmul.allow_tf32
    this_process(allowed)
    try:
        yield
    finally:
        this_process(before)


@contextlib.contextmanager
def deterministic(wanted: bool) -> Iterator[None]:
    """Ask for algorithms that give the same bits each time, or do not, within the block."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(wanted)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def compile_blocks(peer: torch.nn.Module) -> None:
    """Compile a peer's blocks, and its last layer where it is a module, as ditgta compiles its own."""
    blocks = peer.transformer_blocks if hasattr(peer, "transformer_blocks") else peer.blocks
    last = [peer.final_layer] if hasattr(peer, "final_layer") else []
    for layer in (*blocks, *last):
        layer.compile(**kernels.fixed_shapes())


def with_prediction(figure: str, predicted: float | None, sizes: Sizes) -> str:
    """Return a figure with what was predicted for an H100, on a GPU of that kind."""
    if predicted is None or sizes.tiny or known_gpu() not in ("h100", "h200"):
        return figure
    return f"{figure} ({predicted:g} predicted for an H100)"


def machine(sizes: Sizes) -> dict[str, str]:
    """Return what figures depend on: the device and the versions of libraries."""
    versions = {}
    for name in ("torch", "triton", "diffusers", "accelerate", "numpy"):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "absent"
    device = f"CPU, {torch.get_num_threads()} threads"
    if CUDA:
        device = torch.cuda.get_device_name()
        versions |= {"cuda": torch.version.cuda, "cudnn": str(torch.backends.cudnn.version())}
    return {"device": device, "sizes": "tiny" if sizes.tiny else "full", **versions}
