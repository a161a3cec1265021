"""One stage on 1..N processes: who am I, what is my share, where do tensors live."""

import contextlib
import functools
import importlib
import os
import signal
import socket
from collections.abc import Iterator, Sequence
from datetime import timedelta

import torch
import torch.distributed as dist

from ditgta.runtime.errors import InputError
from ditgta.runtime.memory import keep_freed_memory

STOP_CHECK_EVERY = 10  # steps between the moments at which several processes agree to stop


class Processes:
    """The process group of a stage, or this process alone: NCCL on GPUs, one each (`device`), gloo on CPUs."""

    def __init__(self, rank: int, count: int, device: torch.device):
        self.rank, self.count, self.device = rank, count, device

    @property
    def is_first(self) -> bool:
        """True on the one process that writes what is common to all."""
        return self.rank == 0

    def share(self, items: Sequence) -> list:
        """Return this process's items: every count-th one, so that early items are done first everywhere."""
        return list(items[self.rank :: self.count])

    def batch_slice(self, size: int) -> slice:
        """Return this process's contiguous slice of a global batch; sizes differ by at most one."""
        return slice(size * self.rank // self.count, size * (self.rank + 1) // self.count)

    def barrier(self) -> None:
        """Waits until every process has arrived."""
        if self.count > 1:
            dist.barrier()

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the sum of a small tensor over all processes.

        Each value is added in the order of ranks. All-reduce takes an order that depends on the value's place in the tensor: a sum
        made in two parts would be rounded otherwise than one made at once.
        """
        if self.count == 1:
            return tensor
        parts = [torch.empty_like(tensor) for _ in range(self.count)]
        dist.all_gather(parts, tensor)
        return functools.reduce(torch.add, parts)

    @contextlib.contextmanager
    def own_errors(self) -> Iterator[None]:
        """Says of an InputError inside the block which process found it, as others may not: it is then printed by that process."""
        try:
            yield
        except InputError as error:
            raise InputError(f"{error} (found by rank {self.rank})" if self.rank else str(error)) from error

    def gather(self, item: object) -> list:
        """Return every process's small picklable item, in order of rank."""
        if self.count == 1:
            return [item]
        items: list = [None] * self.count
        dist.all_gather_object(items, item)
        return items


@contextlib.contextmanager
def processes(tf32: bool = False) -> Iterator[Processes]:
    """Joins the process group that the launcher's environment describes, and leaves it at the end.

    On a GPU the same work gives the same bits, and float32 products are float32, unless `tf32` allows TF32 for them.
    Raises InputError if there are more processes than GPUs on this machine.
    """
    keep_freed_memory()
    count, rank, local_rank = _launched()
    cuda, device = torch.cuda.is_available(), torch.device("cpu")
    if cuda:
        device = torch.device("cuda", local_rank)
        if local_rank >= torch.cuda.device_count():
            raise InputError(
                f"{os.environ.get('LOCAL_WORLD_SIZE', count)} processes on {torch.cuda.device_count()} GPUs of {socket.gethostname()}: "
                "each process needs its own GPU; start at most as many processes as GPUs (torchrun --nproc-per-node)"
            )
        torch.cuda.set_device(device)
        _compute_exactly(tf32)
    starts = count > 1 and not dist.is_initialized()
    if starts and cuda:
        dist.init_process_group("cpu:gloo,cuda:nccl", timeout=timedelta(minutes=60), device_id=device)
    elif starts:
        _choose_gloo_interface()
        dist.init_process_group("gloo", timeout=timedelta(minutes=60))
    try:
        yield Processes(rank, count, device)
    finally:
        if starts:
            dist.destroy_process_group()


def _launched() -> tuple[int, int, int]:
    """Return number of processes, rank, and rank on this machine from the environment; raises InputError if they do not fit."""
    fix = "start with torchrun or accelerate, or unset WORLD_SIZE, RANK and LOCAL_RANK"
    numbers = []
    for name, default in (("WORLD_SIZE", "1"), ("RANK", "0"), ("LOCAL_RANK", "0")):
        value = os.environ.get(name, default)
        if not value.strip().isdecimal():
            fault = f"{name}={value!r} in the environment is not a number of processes or a rank"
            raise InputError(f"{fault}; {fix}")
        numbers.append(int(value))
    count, rank, local_rank = numbers
    if rank >= count:
        raise InputError(
            f"RANK={rank} in the environment is not a rank of WORLD_SIZE={count} processes; {fix}"
        )
    missing = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if not os.environ.get(name)]
    if count > 1 and missing and not dist.is_initialized():
        raise InputError(
            f"the environment has WORLD_SIZE={count} but not {missing[0]}, so ranks are unknown; {fix}"
        )
    return count, rank, local_rank


def _compute_exactly(tf32: bool) -> None:
    """Have GPUs compute the same bits each time; to be called before the first product and before NCCL starts."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # PyTorch asks for it
    # Sums over processes in the order of a ring; trees and sums in the switch have orders of their own.
    os.environ.setdefault("NCCL_ALGO", "Ring")
    os.environ.setdefault("NCCL_NVLS_ENABLE", "0")
    os.environ.setdefault("NCCL_COLLNET_ENABLE", "0")
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # finds errors, and takes time
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32


def numerics(device: torch.device, compile: bool) -> dict[str, str]:
    """Return what rounding depends on besides the program: the device, and the libraries that compute on it."""
    if device.type != "cuda":
        return {"device": f"CPU {torch.backends.cpu.get_cpu_capability()}", "torch": torch.__version__}
    versions = {"device": torch.cuda.get_device_name(device), "torch": torch.__version__}
    versions["cudnn"] = str(torch.backends.cudnn.version())
    if torch.distributed.is_initialized():
        version = ".".join(map(str, torch.cuda.nccl.version()))
        versions["nccl"] = f"{version} {os.environ.get('NCCL_ALGO', '')}".strip()
    if compile:
        versions["triton"] = importlib.import_module("triton").__version__
    return versions


def _choose_gloo_interface() -> None:
    """Keeps gloo on the loopback only when all processes are on this machine and its own name resolves to nothing usable."""
    if os.environ.get("GLOO_SOCKET_IFNAME"):
        return
    here = os.environ.get("LOCAL_WORLD_SIZE") == os.environ.get("WORLD_SIZE")
    if here and "lo" in dict(socket.if_nameindex()).values():
        os.environ["GLOO_SOCKET_IFNAME"] = "lo"


class SideStream:
    """Work on a GPU beside the main stream; on a CPU it is done at once."""

    def __init__(self, device: torch.device):
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    @contextlib.contextmanager
    def run(self) -> Iterator[None]:
        """Queue the work of the block; it begins when the main stream has done what is queued there now."""
        if self.stream is None:
            yield
            return
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            yield

    def join(self) -> None:
        """Let what is queued on the main stream from now on wait for the side work."""
        if self.stream is not None:
            torch.cuda.current_stream().wait_stream(self.stream)

    def finish(self) -> None:
        """Wait, on the CPU, until the side work is done."""
        if self.stream is not None:
            self.stream.synchronize()


class StopSignal:
    """Turns SIGTERM, SIGINT, SIGUSR1 and a closed terminal's SIGHUP into a wish to stop at the next step, after a snapshot."""

    def __init__(self, group: Processes):
        self.group, self.wanted, self.previous = group, 0, {}

    def __enter__(self) -> "StopSignal":
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP):
            if number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN:  # by nohup
                continue
            self.previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)

    def _note(self, number, frame) -> None:
        self.wanted = number

    def agreed(self, step: int) -> int:
        """Return the signal that asks to stop now, or 0; several processes ask each other every ten steps and stop at the same one."""
        if self.group.count == 1:
            return self.wanted
        if step % STOP_CHECK_EVERY:
            return 0
        # On the CPU: asking must not wait for the GPU.
        wanted = torch.zeros(self.group.count, dtype=torch.int64)
        wanted[self.group.rank] = self.wanted
        return int(self.group.sum(wanted).max())
