"""Average a tensor among processes, one for each GPU, as a training averages gradients; started by a launcher for a check."""

import time

import torch
import torch.distributed as dist

from ditgta.runtime.processes import processes

NUMBERS = 2**24  # float32, 67 MB
REPEATS = 5


def main() -> None:
    """Print, on the first process, how fast sums of a tensor over all processes are, after making sure that they are right."""
    with processes() as group:
        on_gpus = group.device.type == "cuda"
        numbers = NUMBERS if on_gpus else NUMBERS // 16
        tensor = torch.full((numbers,), float(group.rank + 1), device=group.device)
        if not dist.is_initialized():
            dist.init_process_group("nccl" if on_gpus else "gloo")
        dist.all_reduce(tensor)
        expected = group.count * (group.count + 1) / 2
        if not bool((tensor == expected).all()):
            raise RuntimeError(f"Error: the sum over {group.count} processes is wrong")
        begin = time.perf_counter()
        for _ in range(REPEATS):
            dist.all_reduce(tensor)
        if on_gpus:
            torch.cuda.synchronize()
        seconds = (time.perf_counter() - begin) / REPEATS
        if group.is_first:
            print(f"{4 * numbers / 1e6:.0f} MB in {1e3 * seconds:.3g} ms")


if __name__ == "__main__":
    main()
