"""Plan: what a suite will cost - jobs, operations, storage and hours - before anything runs."""

import math
from pathlib import Path

import torch

from ditgta.config import Config, check_suite
from ditgta.planning.estimate import hours_of, plan, table
from ditgta.planning.machine import DEVICES, HERE, PRODUCTS, machine_of
from ditgta.planning.scale import LINKS, NETWORK, PCIE, World, scale
from ditgta.runtime.errors import InputError
from ditgta.runtime.files import write_json


def run(
    config: Config,
    suite: str,
    device: str,
    devices: int | None,
    nodes: int,
    bandwidth: float | None,
    efficiency: float | None,
    images: tuple[int, int] | None,
    out: Path | None,
) -> None:
    """Prints the plan of a suite as a table, and writes it as JSON where `out` is given.

    Args:
        device: name in DEVICES, or "here" for this machine, whose rate is measured and whose devices are counted.
        devices: how many of them, None for one, or all of this machine; each GPU has a process, a machine without has one.
        bandwidth: GB/s of the slowest link between them, None for that of the device or, between nodes, of the network.
        efficiency: share of the peak rate that is reached, instead of what is known of the device.
        images: (images, classes) of the data set where it is neither the digits nor ImageNet.
    """
    check_suite(config, suite)
    if device not in (*DEVICES, HERE):
        raise InputError(f"device {device} is unknown; known: {', '.join(DEVICES)}, {HERE}")
    if efficiency is not None and not 0 < efficiency <= 1:
        raise InputError(f"--efficiency must lie in 0..1, got {efficiency}")
    if bandwidth is not None and not 0 < bandwidth < math.inf:
        raise InputError(f"--bandwidth must be above 0 GB/s, got {bandwidth}")
    stages, notes = plan(config, suite, images)
    machine = machine_of(device, devices, efficiency)
    gpus = device in LINKS or (device == HERE and torch.cuda.is_available())
    count = machine.devices if gpus else 1
    if count % nodes:
        raise InputError(
            f"{count} process{'es' * (count > 1)} cannot be divided equally among {nodes} nodes; change --devices or --nodes"
        )
    link = NETWORK if nodes > 1 else LINKS.get(device, PCIE)
    group = World(count, nodes, 1e9 * bandwidth if bandwidth else link, gpus)
    figures, lines = scale(config.suites[suite], config.trained(suite), images, machine, group)
    notes += lines
    print(table(suite, machine, stages, notes))
    if out is not None:
        rows = [{**vars(stage), "hours": hours} for stage, hours in zip(stages, hours_of(stages, machine))]
        content = {"suite": suite, "device": machine.name, "devices": machine.devices}
        content["efficiency"] = dict.fromkeys(PRODUCTS, machine.efficiency)
        content |= {"stages": rows, "scale": figures, "notes": notes}
        write_json(out, content)
