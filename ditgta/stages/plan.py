"""Plan: what a suite will cost - jobs, operations, storage and hours - before anything runs."""

from pathlib import Path

from ditgta.config import Config
from ditgta.estimate import DEVICES, Machine, plan, table, this_machine
from ditgta.runtime.errors import InputError
from ditgta.runtime.files import write_json

HERE = "here"


def run(
    config: Config,
    suite: str,
    device: str,
    devices: int,
    efficiency: float,
    images: tuple[int, int] | None,
    out: Path | None,
) -> None:
    """Prints the plan of a suite as a table, and writes it as JSON where `out` is given.

    Args:
        device: name in DEVICES, or "here" for this machine, whose rate is measured and whose devices are counted.
        devices: how many of them.
        efficiency: share of the peak rate that is reached.
        images: (images, classes) of the data set where it is neither the digits nor ImageNet.
    """
    if suite not in config.suites:
        raise InputError(f"suite {suite} is not in the configuration; known: {', '.join(config.suites)}")
    if device not in (*DEVICES, HERE):
        raise InputError(f"device {device} is unknown; known: {', '.join(DEVICES)}, {HERE}")
    if not 0 < efficiency <= 1:
        raise InputError(f"--efficiency must lie in 0..1, got {efficiency}")
    stages, notes = plan(config, suite, images)
    machine = (
        this_machine(efficiency) if device == HERE else Machine(device, devices, DEVICES[device], efficiency)
    )
    print(table(suite, machine, stages, notes))
    if out is not None:
        rows = [{**vars(stage), "hours": time} for stage, time in zip(stages, machine.hours(stages))]
        write_json(
            out,
            {
                "suite": suite,
                "device": machine.name,
                "devices": machine.devices,
                "efficiency": efficiency,
                "stages": rows,
                "notes": notes,
            },
        )
