"""What devices can do: peak rates of their matmuls, and the share of those that a whole stage reaches."""

import math
import time
from dataclasses import dataclass

import torch

from ditgta.data.ahead import usable_cores

PRODUCTS = ("float32", "tf32", "bf16")
# Peak rates in operations per second as their makers give them, dense: float32, TF32 where the device has it, bf16.
DEVICES = {
    name: dict(zip(PRODUCTS, rates))
    for name, rates in {
        "v100": (15.7e12, 15.7e12, 125e12),
        "a100": (19.5e12, 156e12, 312e12),
        "h100": (67e12, 494e12, 989e12),
        "h200": (67e12, 494e12, 989e12),
        "rtx4090": (82.6e12, 82.6e12, 165e12),
        "laptop": (0.15e12, 0.15e12, 0.33e12),
    }.items()
}
HERE = "here"  # this machine, whose rates are measured

# Share of the peak rate that training and sampling reached, by device and products: rows of `python -m benchmarks.gpu`. None yet.
MEASURED: dict[tuple[str, str], float] = {}
# Elsewhere a range. GPUs: from what others published of training DiTs and GPTs of this size. CPUs, of the measured rate of a
# matmul: the default suite's small network, and DiT-S/2 (docs/performance.md).
GPU_EFFICIENCY = (0.12, 0.25)
CPU_EFFICIENCY = (0.25, 0.8)
CORES_PER_GPU = 8


@dataclass(frozen=True)
class Machine:
    """What hours are estimated with.

    devices: number of GPUs; without any, of CPU cores. cores: CPU cores. rates: peak operations per second of one device, for
    each of PRODUCTS. efficiency: share of them that a stage reaches, the lowest and the highest, or those of each of PRODUCTS.
    """

    name: str
    devices: int
    cores: int
    rates: dict[str, float]
    efficiency: dict[str, tuple[float, float]]

    def seconds(self, flops: float, products: str) -> tuple[float, float]:
        """Return the least and the most seconds that operations take on all devices."""
        lowest, highest = self.efficiency[products]
        rate = self.rates[products] * self.devices
        return flops / (rate * highest), flops / (rate * lowest)


def machine_of(device: str, devices: int | None = None, efficiency: float | None = None) -> Machine:
    """Return a number of devices of a kind in DEVICES, or this machine, whose rates are measured in about a second.

    `devices`: None takes one, and of this machine all. `efficiency`: share of the peak rate, instead of what is known of the device.
    """
    if device != HERE:
        cpu = device == "laptop"
        name, rates, count = device, DEVICES[device], devices or 1
        cores = count if cpu else count * CORES_PER_GPU
    else:
        gpus = torch.cuda.device_count()
        cpu, cores, count = not gpus, usable_cores(), devices or gpus or usable_cores()
        rates = {products: _measured_rate(products) for products in PRODUCTS if gpus or products != "tf32"}
        rates.setdefault("tf32", rates["float32"])
        kind = torch.cuda.get_device_name(0) if gpus else "core of this machine"
        name = f"{kind} ({rates['tf32'] / 1e12:.3g} TFLOP/s measured)"
    known = CPU_EFFICIENCY if cpu else GPU_EFFICIENCY
    shares = {}
    for products in PRODUCTS:
        share = efficiency or MEASURED.get((device, products))
        shares[products] = (share, share) if share else known
    return Machine(name, count, cores, rates, shares)


def _measured_rate(products: str, seconds: float = 0.4) -> float:
    """Return operations per second of a matmul on one GPU or on one core.

    The best of many short ones: what other jobs on the machine take away is not its rate.
    """
    cuda, threads = torch.cuda.is_available(), torch.get_num_threads()
    tf32 = torch.backends.cuda.matmul.allow_tf32
    size = 8192 if cuda else 256
    dtype = torch.bfloat16 if products == "bf16" else torch.float32
    matrix = torch.randn(size, size, dtype=dtype, device="cuda" if cuda else "cpu")
    torch.set_num_threads(1)
    torch.backends.cuda.matmul.allow_tf32 = products == "tf32"
    begin, best = time.perf_counter(), math.inf
    while time.perf_counter() - begin < seconds:
        start = time.perf_counter()
        matrix @ matrix
        if cuda:
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    torch.set_num_threads(threads)
    torch.backends.cuda.matmul.allow_tf32 = tf32
    return 2 * size**3 / best
