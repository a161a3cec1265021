"""What devices can do: peak rates of their matmuls, and the share of those that a whole stage reaches."""

import math
import time
from dataclasses import dataclass

import torch

from ditgta.data.ahead import usable_cores

PRODUCTS = ("float32", "tf32", "bf16")
# Peak rates in operations per second as their makers give them, dense; that of float32 where the device has no TF32.
DEVICES = {
    "v100": {"float32": 15.7e12, "tf32": 15.7e12, "bf16": 125e12},
    "a100": {"float32": 19.5e12, "tf32": 156e12, "bf16": 312e12},
    "h100": {"float32": 67e12, "tf32": 494e12, "bf16": 989e12},
    "h200": {"float32": 67e12, "tf32": 494e12, "bf16": 989e12},
    "rtx4090": {"float32": 82.6e12, "tf32": 82.6e12, "bf16": 165e12},
    "laptop": {"float32": 0.15e12, "tf32": 0.15e12, "bf16": 0.33e12},
}
HERE = "here"  # this machine, whose rates are measured
MEASURED_SECONDS = 0.4

# Share of the peak rate that training and sampling reach. GPUs: from what others published of training DiTs and GPTs of this size.
# CPUs, of the measured rate of a matmul: the default suite's small network, and DiT-S/2 (docs/performance.md).
GPU_EFFICIENCY = (0.12, 0.25)
CPU_EFFICIENCY = (0.25, 0.8)
CORES_PER_GPU = 8


@dataclass(frozen=True)
class Machine:
    """What hours are estimated with.

    devices: number of GPUs; without any, of CPU cores. cores: CPU cores. rates: peak operations per second of one device, for
    each of PRODUCTS. efficiency: share of them that a stage reaches, the lowest and the highest.
    """

    name: str
    devices: int
    cores: int
    rates: dict[str, float]
    efficiency: tuple[float, float]

    def seconds(self, flops: float, products: str) -> tuple[float, float]:
        """Return the least and the most seconds that operations take on all devices."""
        lowest, highest = self.efficiency
        rate = self.rates[products] * self.devices
        return flops / (rate * highest), flops / (rate * lowest)


def machine_of(device: str, devices: int | None = None, efficiency: float | None = None) -> Machine:
    """Return a number of devices of a kind in DEVICES, or this machine, whose rates are measured in about a second.

    `devices`: None takes one, and of this machine all. `efficiency`: share of the peak rate, instead of what is known of the device.
    """
    gpus = torch.cuda.device_count()
    cpu = device == "laptop" or (device == HERE and not gpus)
    shares = CPU_EFFICIENCY if cpu else GPU_EFFICIENCY
    if efficiency:
        shares = efficiency, efficiency
    if device != HERE:
        count = devices or 1
        return Machine(device, count, count if cpu else count * CORES_PER_GPU, DEVICES[device], shares)
    count = devices or gpus or usable_cores()
    rates = {products: _measured_rate(products) for products in PRODUCTS if gpus or products != "tf32"}
    rates.setdefault("tf32", rates["float32"])
    kind = torch.cuda.get_device_name(0) if gpus else "core of this machine"
    name = f"{kind} ({rates['tf32'] / 1e12:.3g} TFLOP/s measured)"
    return Machine(name, count, usable_cores(), rates, shares)


def _measured_rate(products: str) -> float:
    """Return operations per second of a matmul on one GPU or on one core.

    The best of many short ones: what other jobs on the machine take away is not its rate.
    """
    cuda, threads = torch.cuda.is_available(), torch.get_num_threads()
    tf32 = torch.backends.cuda.matmul.allow_tf32
    size, device = 256, "cpu"
    if cuda:
        size, device = 8192, "cuda"
    dtype = torch.bfloat16 if products == "bf16" else torch.float32
    matrix = torch.randn(size, size, dtype=dtype, device=device)
    torch.set_num_threads(1)
    torch.backends.cuda.matmul.allow_tf32 = products == "tf32"
    begin, best = time.perf_counter(), math.inf
    while time.perf_counter() - begin < MEASURED_SECONDS:
        start = time.perf_counter()
        matrix @ matrix
        if cuda:
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    torch.set_num_threads(threads)
    torch.backends.cuda.matmul.allow_tf32 = tf32
    return 2 * size**3 / best
