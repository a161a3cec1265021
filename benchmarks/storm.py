"""Does a suite that is killed again and again end exactly as one that is left alone?

    python -m benchmarks.storm --kills 100 [--seed 0] [--folder DIR]
    python -m benchmarks.storm --kills 20 --slurm slurm-sandbox

Runs a small suite once undisturbed, then again and again while killing, at seeded random moments, something of a random kind. After
each kill the suite is started again with the documented commands only. When a suite is complete its table, weights and images are
compared bit for bit with the undisturbed one's, and the next begins. `--slurm` names the program that starts, stops and breaks a
throw-away cluster (run COMMAND | slurmd-kill NODE | node-kill NODE | node-start NODE | ctl-kill | ctl-start); the suite then runs as jobs.
"""

import argparse
import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[1]
SNAPSHOT_EVERY = 10
SMALL = {
    "experiments": {
        "digits": {
            "autoencoder": {"widths": [8, 8, 8], "steps": 30},
            "model": {"depth": 1, "width": 32, "heads": 2},
            "training": {"batch_size": 16, "log_every": 1, "snapshot_every": SNAPSHOT_EVERY},
        }
    },
    "suites": {
        "digits": {
            "experiments": ["rope", "gta"],
            "differences": [["gta", "rope"]],
            "milestones": [150, 300],
            "sampling": {"num_samples": 300, "steps": 5},
            "scorer": {"epochs": 1},
        }
    },
}


class Machine:
    """A suite in a folder of this machine: how it is started, killed and started again."""

    kinds = ("trainer", "trainer told to stop", "job", "head", "everything")
    launch = ("--cores", "2")
    mean_seconds = 9.0

    def command(self, folder: Path, *more: str) -> list[str]:
        """Return the documented command for the suite in a folder."""
        words = ["-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--directory", str(folder)]
        words += [*self.launch, "--nocolor", "--configfile", str(folder / "small.yaml"), *more]
        return [sys.executable, *words]

    def start(self, folder: Path) -> subprocess.Popen:
        """Starts the suite in a process group of its own."""
        with open(folder / "snakemake.log", "a") as log:
            return subprocess.Popen(
                self.command(folder), stdout=log, stderr=log, start_new_session=True, cwd=ROOT
            )

    def stages(self, folder: Path, word: str = "") -> list[int]:
        """Return the processes that run a stage in a folder: those that compute, not those that launched them."""
        pids = []
        for path in Path("/proc").glob("[0-9]*"):
            try:
                words = (path / "cmdline").read_bytes().split(b"\0")
                there = (path / "cwd").resolve() == folder.resolve()
            except OSError:
                continue
            text = b" ".join(words).decode(errors="replace")
            computes = (
                "python" in Path(words[0].decode(errors="replace")).name and "distributed.run" not in text
            )
            if there and computes and f" -m ditgta {word}" in text:
                pids.append(int(path.name))
        return sorted(pids)

    def kill(self, folder: Path, head: subprocess.Popen, kind: str, chance: random.Random) -> bool:
        """Kills what the kind says; False if nothing of that kind runs."""
        if kind in ("trainer", "trainer told to stop", "job"):
            victims = self.stages(folder, "" if kind == "job" else "train")
            if victims:
                send(
                    chance.choice(victims),
                    signal.SIGTERM if kind == "trainer told to stop" else signal.SIGKILL,
                )
            return bool(victims)
        head.kill()
        if kind == "everything":
            os.killpg(head.pid, signal.SIGKILL)
            for process in self.stages(folder):
                send(process, signal.SIGKILL)
        return True

    def forgotten(self, folder: Path, head: subprocess.Popen) -> bool:
        """Tells whether the head waits for jobs that nobody knows any more: for a minute nothing computes."""
        for _ in range(60):
            if head.poll() is not None or self.stages(folder):
                return False
            time.sleep(1)
        return True

    def fix(self, folder: Path, kind: str) -> None:
        """Does what the documentation says before the suite is started again."""
        if kind in ("head", "everything"):
            subprocess.run(self.command(folder, "--unlock"), capture_output=True, cwd=ROOT)


class Cluster(Machine):
    """A suite as jobs of a throw-away cluster."""

    kinds = (
        "trainer",
        "trainer told to stop",
        "scancel",
        "slurmd",
        "node",
        "controller",
        "controller's memory",
        "head",
        "everything",
    )
    launch = ("--profile", "slurm", "--slurm-init-seconds-before-status-checks", "3")
    mean_seconds = 40.0

    def __init__(self, tool: str):
        self.tool = tool
        settings = self.call("run", "scontrol", "show", "config")
        self.saved = Path(re.search(r"^StateSaveLocation\s*= (.*)$", settings, flags=re.M)[1])

    def call(self, *words: str) -> str:
        """Calls the cluster's tool and returns what it prints."""
        return subprocess.run([self.tool, *words], capture_output=True, text=True).stdout

    def command(self, folder: Path, *more: str) -> list[str]:
        return [self.tool, "run", *super().command(folder, *more)]

    def repair(self) -> None:
        """Takes nodes back that Slurm set aside after a kill, as an administrator would."""
        for node in ("node1", "node2"):
            self.call("run", "scontrol", "update", f"nodename={node}", "state=resume")

    def lose_jobs(self) -> None:
        """Loses all that the controller, which must be dead, knows of jobs, as if it had died before it saved them."""
        for path in self.saved.glob("job_state*"):
            path.unlink()

    def jobs(self) -> list[str]:
        """Return the running jobs' ids."""
        return self.call("run", "squeue", "--noheader", "--states=running", "--format=%i").split()

    def forgotten(self, folder: Path, head: subprocess.Popen) -> bool:
        # A controller that dies at once after taking a job has not saved it; Snakemake then asks for that job forever.
        for _ in range(6):
            if self.call("run", "squeue", "--me", "--noheader"):
                return False
            time.sleep(10)
        return True

    def kill(self, folder: Path, head: subprocess.Popen, kind: str, chance: random.Random) -> bool:
        self.repair()
        if kind in ("trainer", "trainer told to stop"):
            return super().kill(folder, head, kind, chance)
        nodes = ["node1", "node2"] if kind == "everything" else [chance.choice(["node1", "node2"])]
        if kind in ("scancel", "slurmd", "node", "controller's memory") and not (jobs := self.jobs()):
            return False
        if kind == "scancel":
            self.call("run", "scancel", chance.choice(jobs))
        if kind in ("head", "everything"):
            os.killpg(head.pid, signal.SIGKILL)
        if kind in ("slurmd", "node", "everything"):
            for node in nodes:
                self.call("slurmd-kill" if kind == "slurmd" else "node-kill", node)
            time.sleep(chance.uniform(0, 40))  # dead for the cluster after some 20 seconds
            for node in nodes:
                self.call("node-start", node)
        # After a node's death Slurm 22.05 may hold GPUs for jobs that are gone, until its controller starts again.
        if kind in ("controller", "controller's memory", "node", "everything"):
            self.call("ctl-kill")
            if kind == "controller's memory":
                self.lose_jobs()
            self.call("ctl-start")
        return True

    def fix(self, folder: Path, kind: str) -> None:
        if kind in ("head", "everything"):
            ids = self.call("run", "squeue", "--me", "--noheader", "--format=%i").split()
            self.call("run", "scancel", *ids)
            super().fix(folder, kind)


def send(process: int, number: int) -> None:
    """Sends a signal to a process that may have ended."""
    try:
        os.kill(process, number)
    except ProcessLookupError:
        return


def steps_at_risk(folder: Path) -> int:
    """Return the most steps that any run has made since its newest state on the disk."""
    worst = 0
    for run in folder.glob("results/train/*/seed*/run"):
        metrics = run / "metrics.jsonl"
        if metrics.is_file() and (
            lines := [line for line in metrics.read_text().splitlines() if line.endswith("}")]
        ):
            states = [int(path.stem) for place in (run, run.parent) for path in place.glob("[0-9]*.json")]
            worst = max(worst, json.loads(lines[-1])["step"] - max(states, default=0))
    return worst


def results_of(folder: Path) -> dict[str, object]:
    """Return what must be equal: hashes of weights and images, logged losses, every score, the table."""
    contents: dict[str, object] = {}
    results = folder / "results"

    def note(pattern: str, content) -> None:
        for path in sorted(results.glob(pattern)):
            contents[str(path.relative_to(results))] = content(json.loads(path.read_text()))

    note("train/*/seed*/[0-9]*.json", lambda record: (record["sha256"], json.dumps(record["losses"])))
    note("sample/*/seed*/*/index.json", lambda index: (index["samples_npz_sha256"], hashes(index)))
    note("latents/*/index.json", lambda index: hashes(index))
    note("score/*/seed*/*.json", lambda scores: scores["metrics"])
    note("score/baseline-*.json", lambda scores: scores["metrics"])
    (table,) = results.glob("table/digits-*/table.csv")
    contents["table"] = table.read_text()
    return contents


def hashes(index: dict) -> list[str]:
    """Return the hashes of an index's shards."""
    return [shard["sha256"] for shard in index["shards"]]


def prepare(folder: Path) -> Path:
    """Makes an empty folder with the small suite's configuration."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "small.yaml").write_text(json.dumps(SMALL))
    return folder


class Storm:
    """Kills of random kinds at random moments, and what they cost."""

    def __init__(self, place: Machine, wanted: int, seed: int, mean: float):
        self.place, self.wanted, self.mean = place, wanted, mean
        self.chance = random.Random(seed)
        self.kills: Counter = Counter()
        self.starts, self.forgotten, self.lost = 0, 0, [0]

    def run(self, folder: Path) -> None:
        """Runs the suite of a folder to its end through kills."""
        while True:
            head = self.place.start(folder)
            self.starts += 1
            killed = ""
            while head.poll() is None:
                try:
                    head.wait(timeout=self.chance.uniform(1.0, 2 * self.mean))
                except subprocess.TimeoutExpired:
                    killed = self.strike(folder, head)
                    if not killed and self.place.forgotten(folder, head) and head.poll() is None:
                        self.forgotten += 1
                        os.killpg(head.pid, signal.SIGKILL)
                        killed = "head"
                        head.wait()
            if head.returncode == 0:
                return
            self.place.fix(folder, killed)

    def strike(self, folder: Path, head: subprocess.Popen) -> str:
        """Kills once, as soon as something of a random kind runs, and returns the kind; "" when there were kills enough."""
        kind, begin = self.chance.choice(self.place.kinds), time.monotonic()
        while (
            sum(self.kills.values()) < self.wanted and head.poll() is None and time.monotonic() - begin < 30
        ):
            risk = steps_at_risk(folder)
            if self.place.kill(folder, head, kind, self.chance):
                self.kills[kind] += 1
                self.lost.append(risk)
                with contextlib.suppress(subprocess.TimeoutExpired):  # a head may need a moment to end
                    head.wait(timeout=2)
                return kind
            time.sleep(0.05)
        return ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50, help="number of kills")
    parser.add_argument("--seed", type=int, default=0, help="seed of moments and kinds")
    parser.add_argument("--mean", type=float, default=None, help="mean seconds between start and kill")
    parser.add_argument("--slurm", default=None, metavar="TOOL", help="program that handles a cluster")
    parser.add_argument("--folder", type=Path, default=None, help="where to work")
    arguments = parser.parse_args()
    work = arguments.folder or Path(tempfile.mkdtemp(prefix="storm-"))
    place = Cluster(arguments.slurm) if arguments.slurm else Machine()
    storm = Storm(place, arguments.kills, arguments.seed, arguments.mean or place.mean_seconds)

    calm, begin = prepare(work / "calm"), time.monotonic()
    if place.start(calm).wait():
        print((calm / "snakemake.log").read_text()[-3000:])
        return 1
    expected, rounds = results_of(calm), 0
    print(f"undisturbed: {len(expected)} results in {time.monotonic() - begin:.0f}s", flush=True)
    while sum(storm.kills.values()) < storm.wanted:
        folder, rounds = prepare(work / "storm"), rounds + 1
        storm.run(folder)
        contents = results_of(folder)
        wrong = [
            name for name in expected.keys() | contents.keys() if contents.get(name) != expected.get(name)
        ]
        print(
            f"suite {rounds}: {sum(storm.kills.values())} kills, {storm.starts} starts, {wrong or 'equal'}",
            flush=True,
        )
        if wrong:
            print(f"DIFFERENT from the undisturbed run; see {work}")
            return 1
    print("kills: " + ", ".join(f"{kind} {storm.kills[kind]}" for kind in place.kinds))
    print(
        f"{sum(storm.kills.values())} kills, {storm.starts} starts, {rounds} suites: every table, weight and image equal bit for bit"
    )
    if storm.forgotten:
        print(f"heads that waited for jobs which the cluster had lost, killed: {storm.forgotten}")
    mean = sum(storm.lost) / len(storm.lost)
    print(
        f"steps lost by a kill: at most {max(storm.lost)}, mean {mean:.1f} (a snapshot every {SNAPSHOT_EVERY})"
    )
    if arguments.folder is None:
        shutil.rmtree(work)
    return 0 if max(storm.lost) <= SNAPSHOT_EVERY + 1 else 1


if __name__ == "__main__":
    sys.exit(main())
