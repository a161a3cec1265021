"""Disks that are full or read-only, and second writers: one line, nothing torn, and the same command goes on."""

import subprocess
import sys
import threading
import time

import pytest

from ditgta.runtime.files import read_json, sha256_of
from tests.stages.test_train import assert_same, command, losses

CAN_MOUNT = (
    subprocess.run(
        ["unshare", "--mount", "sh", "-c", "mount -t tmpfs none /mnt"], capture_output=True
    ).returncode
    == 0
)
needs_mount = pytest.mark.skipif(not CAN_MOUNT, reason="mounting a small disk needs root")


def on_small_disk(folder, script):
    """Runs a shell script with a disk of its own mounted on `folder`; returns what it printed on standard output and error."""
    folder.mkdir()
    whole = f"set -u; mount -t tmpfs -o size=50m none {folder}; {script}"
    done = subprocess.run(["unshare", "--mount", "sh", "-c", whole], capture_output=True, text=True)
    return done.stdout, done.stderr


def errors(text):
    return [line for line in text.splitlines() if line.startswith("ditgta ") and ": error: " in line]


@pytest.fixture(scope="module")
def undisturbed(tiny_latents, tmp_path_factory):
    out = tmp_path_factory.mktemp("undisturbed") / "gta"
    assert subprocess.run(command(tiny_latents, out, [20])).returncode == 0
    return out


@needs_mount
@pytest.mark.parametrize(
    "fault, fix, said",
    [
        ("size=1m", "size=50m", "No space left"),
        ("ro", "rw", "Read-only file system"),
    ],
)
def test_training_stops_at_a_full_or_read_only_disk_and_goes_on(
    tiny_latents, undisturbed, tmp_path, fault, fix, said
):
    folder = tmp_path / "disk"
    train = " ".join(f"'{word}'" for word in command(tiny_latents, folder / "gta", [20]))
    script = (
        f"mount -o remount,{fault} {folder}; {train}; echo code $?; ls -A {folder}/gta 2>/dev/null | grep -vx run;"
        f"mount -o remount,{fix} {folder}; {train}; echo code $?; cp -r {folder}/gta {tmp_path}/gta"
    )
    printed, complaints = on_small_disk(folder, script)
    assert printed.split("\n")[:2] == [
        "code 2",
        "code 0",
    ]  # and no file of the first run beside its run folder
    (line,) = errors(complaints)
    assert said in line and "cannot write" in line and "Traceback" not in complaints
    assert_same(tmp_path / "gta/0000020.safetensors", undisturbed / "0000020.safetensors")
    assert losses(tmp_path / "gta") == losses(undisturbed)


@pytest.mark.slow
@needs_mount
def test_sampling_stops_at_a_full_disk_and_goes_on(undisturbed, tiny_autoencoder, tmp_path):
    folder = tmp_path / "disk"
    words = [sys.executable, "-m", "ditgta", "sample", "--checkpoint", undisturbed / "0000020.safetensors"]
    words += ["--autoencoder", tiny_autoencoder, "--num-samples", "1500", "--steps", "1", "--out"]
    sample = " ".join(map(str, words))
    script = (
        f"mount -o remount,size=1m {folder}; {sample} {folder}/out; echo code $?; ls {folder}/out | grep -c '^0....\\.npz'; mount -o remount,size=50m {folder};"
        f"{sample} {folder}/out; echo code $?; cp -r {folder}/out {tmp_path}/out"
    )
    printed, complaints = on_small_disk(folder, script)
    first, finished, second = printed.split("\n")[:3]
    assert (first, second) == ("code 2", "code 0") and 0 < int(finished) < 6
    assert len(errors(complaints)) == 1 and "No space left" in complaints
    subprocess.run([*map(str, words), tmp_path / "calm"], check=True, capture_output=True)
    assert sha256_of(tmp_path / "out/samples.npz") == sha256_of(tmp_path / "calm/samples.npz")
    assert (
        f"sample: {sum_of(tmp_path / 'out', int(finished))}/1500 images" in complaints
    )  # the finished ones were kept


def sum_of(folder, count):
    return sum(read_json(folder / f"{number:05d}.json")["count"] for number in range(count))


def test_a_second_writer_of_the_same_output_is_refused(undisturbed, tiny_autoencoder, tmp_path):
    words = [sys.executable, "-m", "ditgta", "sample", "--checkpoint", undisturbed / "0000020.safetensors"]
    words += ["--autoencoder", tiny_autoencoder, "--num-samples", "300", "--steps", "100"]
    first = subprocess.Popen([*map(str, words), "--out", tmp_path / "out"], stderr=subprocess.PIPE, text=True)
    while first.poll() is None and not (tmp_path / "out").exists():
        time.sleep(0.05)
    second = subprocess.run([*map(str, words), "--out", tmp_path / "out"], capture_output=True, text=True)
    assert second.returncode == 2 and second.stderr.count("\n") == 1
    assert f"process {first.pid}" in second.stderr and "already running" in second.stderr
    assert first.wait() == 0
    assert read_json(tmp_path / "out/index.json")["count"] == 300
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]  # no lease is left


def test_parts_of_the_same_output_work_side_by_side(undisturbed, tiny_autoencoder, tmp_path):
    words = [sys.executable, "-m", "ditgta", "sample", "--checkpoint", undisturbed / "0000020.safetensors"]
    words += [
        "--autoencoder",
        tiny_autoencoder,
        "--num-samples",
        "600",
        "--steps",
        "2",
        "--out",
        tmp_path / "out",
    ]
    parts = [
        subprocess.Popen([*map(str, words), "--part", f"{part}/2"], stderr=subprocess.DEVNULL)
        for part in (1, 2)
    ]
    assert [part.wait() for part in parts] == [0, 0]
    assert subprocess.run([*map(str, words), "--gather"]).returncode == 0


def test_a_job_of_slurm_waits_for_the_trainer_that_is_at_work(
    tiny_latents, undisturbed, tmp_path, monkeypatch
):
    """A head was killed, its job lives on, and the next head has sent the same job again."""
    out = tmp_path / "gta"
    first = subprocess.Popen(command(tiny_latents, out, [20]), stderr=subprocess.DEVNULL)
    while first.poll() is None and not list(out.glob("run/lease.json")):
        time.sleep(0.01)
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    second = subprocess.Popen(
        command(tiny_latents, out, [20]), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    threading.Thread(target=first.wait, daemon=True).start()
    printed, _ = second.communicate(timeout=120)
    assert first.wait() == 0 and second.returncode == 0
    assert_same(out / "0000020.safetensors", undisturbed / "0000020.safetensors")
    assert "waiting for it to end" in printed or "nothing to do" in printed or first.returncode == 0


@pytest.mark.parametrize("processes", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_a_killed_rank_goes_on_exactly(tiny_latents, undisturbed, tmp_path, processes):
    """On the same number of processes bit for bit; on another one with equal losses."""
    calm, out = tmp_path / "calm" / "gta", tmp_path / "killed" / "gta"
    assert subprocess.run(command(tiny_latents, calm, [20], processes=processes)).returncode == 0
    group = subprocess.Popen(command(tiny_latents, out, [20], processes=processes), stderr=subprocess.DEVNULL)
    while group.poll() is None and not list(out.glob("run/000000[5-9].json")):
        time.sleep(0.005)
    ranks = subprocess.run(["pgrep", "-P", str(group.pid)], capture_output=True, text=True).stdout.split()
    subprocess.run(["kill", "-KILL", *ranks[-1:]])
    assert group.wait() != 0 or not ranks
    assert subprocess.run(command(tiny_latents, out, [20], processes=processes)).returncode == 0
    assert_same(out / "0000020.safetensors", calm / "0000020.safetensors")
    assert losses(out) == losses(calm)
    for one, several in zip(losses(undisturbed), losses(out), strict=True):
        assert several["loss"] == pytest.approx(one["loss"], rel=1e-5)
