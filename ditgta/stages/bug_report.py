"""Bug report: versions, configuration, logs, the failing command and the machine in one file that names no person and no place."""

import contextlib
import json
import os
import platform
import re
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import psutil
import torch

from ditgta.config import Config
from ditgta.data.ahead import usable_cores
from ditgta.preflight.anonymous import anonymous
from ditgta.preflight.line import Line
from ditgta.runtime.errors import InputError, one_line
from ditgta.runtime.files import provenance, write_text

LOGS, LINES = 5, 40  # newest logs, and the last lines of each
TAIL_BYTES = 2**16
CHECKOUT = Path(__file__).parents[2]


def run(
    config: Config | InputError,
    suite: str | None,
    results: Path,
    findings: Iterable[Line],
    command: str | None,
    out: Path,
    account: str | None = None,
) -> None:
    """Write a report and say where it is.

    `config` is the configuration, or why it cannot be read; `findings` are the lines of `ditgta check`; `command` is what failed, None:
    what Snakemake's newest log says of it; `account` is that of the cluster, to be left out.
    """
    sections = {
        "What happened": "Please write here what you did, what you expected, and what happened instead.",
        "Versions": versions(),
        "Machine": machine(),
        "Failing command": _fenced(command or failing_command() or "not known; name it with --failed"),
        "Check": _fenced("\n".join(_survived(findings))),
        "Logs": logs(results),
        "Configuration": configuration(config, suite),
    }
    text = "\n\n".join(f"## {title}\n\n{content}" for title, content in sections.items())
    names = {account: "ACCOUNT"} if account else {}
    write_text(out, anonymous(f"# Report on ditgta\n\n{text}\n", names))
    print(
        f"bug-report: {out}; read it before you send it: it holds your configuration and the ends of your logs"
    )


def _survived(findings: Iterable[Line]) -> Iterator[str]:
    """Yield the lines of a check as text, and what ended it, if anything did."""
    try:
        yield from map(str, findings)
    except Exception as error:  # a report on an error must not end in one
        yield f"the check itself failed: {type(error).__name__}: {one_line(error)}"


def _fenced(text: str) -> str:
    return f"```text\n{text}\n```"


def versions() -> str:
    """Return the versions of everything that is declared, and of the checkout."""
    made = provenance()
    lines = [
        f"ditgta {made['versions']['ditgta']} {made['revision'] or ''}".strip(),
        f"Python {platform.python_version()}",
    ]
    try:
        declared = requires("ditgta") or []
    except PackageNotFoundError:  # run from a checkout that is not installed
        declared = (CHECKOUT / "envs/constraints.txt").read_text().splitlines()
    for name in sorted(set(re.findall(r"^\w[\w.-]*", "\n".join(declared), re.MULTILINE))):
        with contextlib.suppress(PackageNotFoundError):
            lines.append(f"{name} {version(name)}")
    return _fenced("\n".join(lines))


def machine() -> str:
    """Return what the machine is: system, processor, memory, GPUs, the job around this process."""
    gpus = list(map(torch.cuda.get_device_name, range(torch.cuda.device_count())))
    job = any(name.startswith("SLURM_JOB") for name in os.environ)
    memory = psutil.virtual_memory()
    lines = [
        f"system: {platform.system()} {platform.release()}, {' '.join(platform.libc_ver())}",
        f"processor: {provenance()['cpu']}, {usable_cores()} cores, {torch.backends.cpu.get_cpu_capability()}",
        f"memory: {memory.total / 2**30:.0f} GiB, {memory.available / 2**30:.0f} GiB free",
        f"GPUs: {', '.join(gpus) or 'none'}; torch for CUDA: {torch.version.cuda or 'none'}",
        f"in a Slurm job: {'yes' if job else 'no'}",
    ]
    return _fenced("\n".join(lines))


def failing_command() -> str | None:
    """Return what Snakemake's newest log says of the jobs that failed, None where it names none."""
    newest = _newest(Path(".snakemake/log").glob("*.log"), 1)
    if not newest:
        return None
    blocks = re.split(r"\n(?=\S)", _tail(newest[0], 10_000))
    failed = [block.strip() for block in blocks if block.startswith("Error in ")]
    return "\n\n".join(dict.fromkeys(failed)) or None


def logs(results: Path) -> str:
    """Return the last lines of the newest logs: of jobs, of trainings, and Snakemake's own."""
    own = [*results.glob("logs/**/*.log"), *results.glob("train/*/seed*/run/train.log")]
    paths = _newest(own, LOGS) + _newest(Path(".snakemake/log").glob("*.log"), 1)
    parts = [f"{path}\n\n{_fenced(_tail(path, LINES))}" for path in paths]
    return "\n\n".join(parts) or "none"


def _newest(paths: Iterable[Path], count: int) -> list[Path]:
    known = []
    for path in paths:
        with contextlib.suppress(OSError):  # it has just been removed
            known.append((path.stat().st_mtime, path))
    return [path for _, path in sorted(known, reverse=True)[:count]]


def _tail(path: Path, lines: int) -> str:
    try:
        with open(path, "rb") as file:
            file.seek(max(0, path.stat().st_size - TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return "\n".join(text.replace("\r", "\n").replace("```", "'''").splitlines()[-lines:])


def configuration(config: Config | InputError, suite: str | None) -> str:
    """Return the resolved configuration of a suite, or why there is none."""
    if isinstance(config, InputError):
        return _fenced(str(config))
    name = suite or config.suite
    if name not in config.suites:
        return _fenced(f"suite {name} is not in the configuration; known: {', '.join(config.suites)}")
    content = {
        "suite": name,
        "experiments": {row: config.experiments[row].model_dump() for row in config.suites[name].experiments},
        "suites": {name: config.suites[name].model_dump()},
    }
    return f"```json\n{json.dumps(content, indent=1, default=str)}\n```"
