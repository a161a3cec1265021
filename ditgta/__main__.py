"""The command line: `ditgta STAGE ...`, or `python -m ditgta STAGE ...`; mistakes in one line and exit codes."""

import os
import sys

# `python -m` lets modules of the current folder, say a yaml.py, go before all others; those of the user's own are found without.
if __name__ == "__main__" and os.path.isdir(sys.path[0] or ".") and os.path.samefile(sys.path[0] or ".", "."):
    del sys.path[0]

import argparse
import contextlib
import errno
import resource
import signal
import warnings

# Threads that wait for each other spin for microseconds, then sleep: long spinning takes the cores of jobs beside them, and waking
# costs as much as a small operation. Read when torch is first imported.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

from ditgta import launch
from ditgta.commands import build_parser
from ditgta.commands.outputs import check_outputs
from ditgta.commands.stages import run_train
from ditgta.runtime.errors import InputError, Stopped, one_line, shown
from ditgta.runtime.lease import lease

OPEN_FILES = 4096
_LONGEST = 200  # characters of a name that a lease repeats


def hold_output(arguments: argparse.Namespace) -> contextlib.AbstractContextManager:
    """Return the lease on what a command writes: a second writer of the same is refused. A trainer's is finer, on its run folder."""
    out = getattr(arguments, "out", None) or getattr(arguments, "grid", None)
    if out is None or arguments.run is run_train or os.environ.get("RANK", "0") != "0":
        return contextlib.nullcontext()
    share, shares = getattr(arguments, "part", (0, 1))
    part = f".{share + 1}-of-{shares}" if shares > 1 and not arguments.gather else ""
    out = out.absolute()
    name = f".{out.name[:_LONGEST]}{part}.lease"
    return lease(out.parent, f"another `ditgta {arguments.stage}` for {out.name}", name)


# torch's words on GPUs and on processors, and for sizes beyond all memory
OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "Storage size calculation overflowed", "INT64_MAX")
# Inductor's words on CPUs, and Triton's on GPUs
NO_COMPILER = ("No working C++ compiler", "Failed to find C compiler")
# What can be done about what the machine refuses.
FIXES = {
    errno.EMFILE: "raise the limit of open files (ulimit -n), then run again",
    errno.ENFILE: "close other programs, then run again",
    errno.ENAMETOOLONG: "give a shorter name",
    errno.ELOOP: "fix the links, which form a cycle",
    errno.ENOTDIR: "name a folder, not a file",
    errno.EISDIR: "name a file, not a folder",
    errno.ENOENT: "check the path",
    errno.EIO: "the disk fails; copy its content",
    errno.ESTALE: "mount the disk again",
}


def refusal(error: OSError) -> str:
    """Return what the operating system refuses as one line: what, why, and what to do."""
    verb = "write" if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, None) else "open"
    why = os.strerror(error.errno) if error.errno else one_line(error)
    fix = FIXES.get(error.errno, "free space or fix the permissions, then run again")
    return f"cannot {verb} {one_line(ValueError(error.filename or 'results'))}: {why}; {fix}"


def lack(error: Exception) -> str | None:
    """Return as one line what this machine lacks, memory or a compiler, and what to do; None for any other error."""
    reason = " ".join(str(error).split()) or "MemoryError"
    if isinstance(error, MemoryError) or any(words in reason for words in OUT_OF_MEMORY):
        return f"not enough memory ({reason[:120]}); lower the batch size (in training: micro_batch) or the model's size"
    if any(words in reason for words in NO_COMPILER):
        fix = "load one (`module load gcc`), or set `compile: false`"
        return f"torch.compile finds no C compiler on PATH; {fix}"
    return None


def main(words: list[str] | None = None) -> int:
    """Runs one stage; returns the exit code: 0, or 2 for a mistake that the user can fix."""
    arguments = build_parser().parse_args(words)
    first = os.environ.get("RANK", "0") == "0"
    try:
        check_outputs(arguments)
        with hold_output(arguments):
            arguments.run(arguments)
        if sys.stdout is not None:  # as it is where the shell has closed it
            sys.stdout.flush()
    except BrokenPipeError:  # the reader of the output, such as `head`, has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except InputError as error:
        if first or "rank" in str(error):
            print(f"ditgta {arguments.stage}: error: {shown(str(error))}", file=sys.stderr, flush=True)
        return 2
    except OSError as error:
        print(f"ditgta {arguments.stage}: error: {refusal(error)}", file=sys.stderr, flush=True)
        return 2
    except Stopped as stopped:
        if first:
            print(f"ditgta {arguments.stage}: {stopped}", file=sys.stderr, flush=True)
            if stopped.signal == signal.SIGUSR1:
                launch.requeue()
        return 130 if stopped.signal == signal.SIGINT else 143
    except (MemoryError, RuntimeError) as error:
        line = lack(error)
        if line is None:
            raise
        print(f"ditgta {arguments.stage}: error: {line}", file=sys.stderr, flush=True)
        return 2
    except KeyboardInterrupt as stop:
        if first:
            print(f"ditgta {arguments.stage}: interrupted; run the same command to resume", file=sys.stderr)
        return 128 + (stop.args[0] if stop.args else signal.SIGINT)
    return 0


def interrupt(number, frame):
    """Treats SIGTERM, and a terminal that is closed, as Ctrl-C: temporary files and leases are taken away on the way out."""
    raise KeyboardInterrupt(number)


def allow_open_files() -> None:
    """Raise this process's own limit of open files as far as the system lets it: shells of some allow 256, and sets have more shards."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def console() -> None:
    """Runs the command line of this process and ends it."""
    allow_open_files()
    if not sys.warnoptions:  # what libraries tell programmers is no line for users
        warnings.simplefilter("ignore")
    signal.signal(signal.SIGTERM, interrupt)
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # nohup lets it be ignored
        signal.signal(signal.SIGHUP, interrupt)
    code = main()
    if os.environ.get("WORLD_SIZE", "1") != "1":
        # A thread of gloo that still holds a tensor while the interpreter is taken down aborts the process, whose work is done.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    console()
