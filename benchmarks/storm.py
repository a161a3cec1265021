"""Does a suite that is killed again and again end exactly as one that is left alone?

    python -m benchmarks.storm --kills 50 [--seed 0] [--folder DIR]

Runs a small suite once undisturbed, then again and again while killing, at seeded random moments, one of: a trainer (SIGKILL), a
trainer told to stop (SIGTERM), any running job, the head process alone, or everything at once (as a power cut). After each kill the
suite is started again with the documented commands only (`snakemake --unlock` where the head was killed, then the same command). When
a suite is complete its table, weights and images are compared bit for bit with the undisturbed one's, and the next begins.
"""

import argparse
import json
import os
import random
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
KINDS = ("trainer", "trainer told to stop", "job", "head", "everything")


def command(folder: Path, *more: str) -> list[str]:
    """Returns the documented command for the suite in a folder."""
    words = [
        sys.executable,
        "-m",
        "snakemake",
        "--snakefile",
        str(ROOT / "Snakefile"),
        "--directory",
        str(folder),
    ]
    return [*words, "--cores", "2", "--nocolor", "--configfile", str(folder / "small.yaml"), *more]


def start(folder: Path) -> subprocess.Popen:
    """Starts the suite in a process group of its own."""
    with open(folder / "snakemake.log", "a") as log:
        return subprocess.Popen(command(folder), stdout=log, stderr=log, start_new_session=True, cwd=folder)


def jobs_of(head: int) -> list[tuple[int, str]]:
    """Returns (pid, command line) of the stages that descend from a head process, or did before it died."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            words = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            session = int((path / "stat").read_text().rpartition(")")[2].split()[3])
        except (OSError, IndexError, ValueError):
            continue
        if session == head and " -m ditgta " in words and "/bin/bash" not in words.split(" ")[0]:
            found.append((int(path.name), words))
    return found


def kill(head: subprocess.Popen, kind: str) -> bool:
    """Kills what the kind says; False if nothing of that kind runs."""
    jobs = jobs_of(head.pid)
    trainers = [job for job in jobs if " train " in job[1]]
    chosen = {"trainer": trainers, "trainer told to stop": trainers, "job": jobs}.get(kind)
    if chosen is not None:
        if not chosen:
            return False
        os.kill(chosen[0][0], signal.SIGTERM if kind == "trainer told to stop" else signal.SIGKILL)
    elif kind == "head":
        head.kill()
    else:
        os.killpg(head.pid, signal.SIGKILL)
        for pid, _ in jobs:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
    return True


def steps_at_risk(folder: Path) -> int:
    """Returns the most steps that any run has made since its newest state on the disk."""
    worst = 0
    for run in folder.glob("results/train/*/seed*/run-*"):
        metrics = run / "metrics.jsonl"
        if metrics.is_file() and (
            lines := [line for line in metrics.read_text().splitlines() if line.endswith("}")]
        ):
            states = [int(path.stem) for place in (run, run.parent) for path in place.glob("[0-9]*.json")]
            worst = max(worst, json.loads(lines[-1])["step"] - max(states, default=0))
    return worst


def results_of(folder: Path) -> dict[str, object]:
    """Returns what must be equal: hashes of weights and images, logged losses, every score, the table."""
    found: dict[str, object] = {}
    results = folder / "results"
    for path in sorted(results.glob("train/*/seed*/[0-9]*.json")):
        twin = json.loads(path.read_text())
        found[str(path.relative_to(results))] = (twin["sha256"], json.dumps(twin["losses"]))
    for path in sorted(results.glob("sample/*/*/seed*/*/index.json")):
        index = json.loads(path.read_text())
        found[str(path.relative_to(results))] = (
            index["samples_npz_sha256"],
            [shard["sha256"] for shard in index["shards"]],
        )
    for path in sorted(results.glob("latents/*/index.json")):
        found[str(path.relative_to(results))] = [
            shard["sha256"] for shard in json.loads(path.read_text())["shards"]
        ]
    for path in sorted(results.glob("score/*/*/seed*/*.json")):
        found[str(path.relative_to(results))] = json.loads(path.read_text())["metrics"]
    found["table"] = (results / "table" / "digits" / "table.csv").read_text()
    return found


def prepare(folder: Path) -> Path:
    """Makes an empty folder with the small suite's configuration."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "small.yaml").write_text(json.dumps(SMALL))
    return folder


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50, help="number of kills")
    parser.add_argument("--seed", type=int, default=0, help="seed of moments and kinds")
    parser.add_argument("--mean", type=float, default=9.0, help="mean seconds between start and kill")
    parser.add_argument("--folder", type=Path, default=None, help="where to work")
    arguments = parser.parse_args()
    work = arguments.folder or Path(tempfile.mkdtemp(prefix="storm-"))
    chance = random.Random(arguments.seed)

    calm = prepare(work / "calm")
    begin = time.monotonic()
    if start(calm).wait():
        print((calm / "snakemake.log").read_text()[-3000:])
        return 1
    expected = results_of(calm)
    print(f"undisturbed: {len(expected)} results in {time.monotonic() - begin:.0f}s", flush=True)

    kills, starts, rounds, lost = Counter(), 0, 0, []
    while sum(kills.values()) < arguments.kills:
        folder, rounds = prepare(work / "storm"), rounds + 1
        while True:
            head = start(folder)
            starts += 1
            moment, kind = chance.uniform(1.0, 2 * arguments.mean), chance.choice(KINDS)
            try:
                code = head.wait(timeout=moment)
            except subprocess.TimeoutExpired:
                code = None
                if sum(kills.values()) < arguments.kills:
                    waited = time.monotonic()
                    while (
                        not (done := kill(head, kind))
                        and head.poll() is None
                        and time.monotonic() - waited < 30
                    ):
                        time.sleep(0.05)
                    if done:
                        kills[kind] += 1
                        lost.append(steps_at_risk(folder))
                code = head.wait()
            if code == 0:
                break
            if "head" in kind or kind == "everything":  # as the documentation says
                subprocess.run(command(folder, "--unlock"), capture_output=True, cwd=folder)
        found = results_of(folder)
        wrong = [name for name in expected if found.get(name) != expected[name]]
        print(
            f"suite {rounds}: {sum(kills.values())} kills so far, {starts} starts, {wrong or 'equal'}",
            flush=True,
        )
        if wrong or found.keys() != expected.keys():
            print(
                f"DIFFERENT from the undisturbed run: {wrong or found.keys() ^ expected.keys()}; see {work}"
            )
            return 1
    print("kills: " + ", ".join(f"{kind} {kills[kind]}" for kind in KINDS))
    print(
        f"{sum(kills.values())} kills, {starts} starts, {rounds} suites: every table, weight and image equal bit for bit"
    )
    print(
        f"steps lost by a kill: at most {max(lost)}, mean {sum(lost) / len(lost):.1f} (a snapshot every {SNAPSHOT_EVERY})"
    )
    if arguments.folder is None:
        shutil.rmtree(work)
    return 0 if max(lost) <= SNAPSHOT_EVERY + 1 else 1


if __name__ == "__main__":
    sys.exit(main())
