"""The words that put a stage on processes, GPUs and nodes, and the locks that keep jobs off each other's GPUs."""

import os
import subprocess
import sys

import pytest

from ditgta import launch
from ditgta.runtime.errors import InputError

PYTHON = sys.executable


def test_one_process_with_its_threads():
    assert launch.command(3) == f"OMP_NUM_THREADS=3 MKL_NUM_THREADS=3 {PYTHON} -m ditgta"
    assert launch.command(3, {"gpu": 1}, gpus=1) == launch.command(3)


def test_in_an_environment_without_the_package_it_comes_from_the_checkout():
    words = launch.command(2, {"gpu": 2}, gpus=2, checkout="/a clone")
    assert words == (
        "OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 PYTHONPATH='/a clone' python -m ditgta.launch --gpus 2 python"
        " -m torch.distributed.run --standalone --nproc-per-node=2 -m ditgta"
    )


def test_several_gpus_of_one_machine_are_taken_by_locks():
    words = launch.command(8, {"gpu": 2}, gpus=4)
    assert words == (
        f"OMP_NUM_THREADS=4 MKL_NUM_THREADS=4 {PYTHON} -m ditgta.launch --gpus 2 {PYTHON}"
        " -m torch.distributed.run --standalone --nproc-per-node=2 -m ditgta"
    )
    assert "ditgta.launch --gpus 4" in launch.command(8, {"gpu": 4}, gpus=4)
    assert launch.command(8, {"gpu": 0}, gpus=4) == launch.command(8), "a job without GPUs waits for none"


def test_under_slurm_one_node_needs_no_locks():
    words = launch.command(4, {"gres": "gpu:a100:4", "nodes": 1})
    assert words == (
        f"OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 {PYTHON} -m torch.distributed.run --standalone --nproc-per-node=4 -m ditgta"
    )


def test_several_nodes_start_one_torchrun_each():
    words = launch.command(8, {"mpi": "srun", "nodes": 2, "tasks": 2, "gres": "gpu:4", "gpu": 0})
    assert words == (
        "OMP_NUM_THREADS=2 MKL_NUM_THREADS=2 srun --nodes=2 --ntasks=2 --ntasks-per-node=1 --cpus-per-task=8"
        f" --kill-on-bad-exit=1 {PYTHON} -m torch.distributed.run --nnodes=2 --nproc-per-node=4 --rdzv-backend=c10d"
        " --rdzv-id=$SLURM_JOB_ID --rdzv-endpoint=$(hostname):$((20000 + SLURM_JOB_ID % 20000))"
        " --signals-to-handle=SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1 --shutdown-timeout=90 -m ditgta"
    )


def test_two_tasks_of_one_node_share_one_torchrun():
    words = launch.command(8, {"mpi": "srun", "nodes": 1, "tasks": 2, "gres": "gpu:4"})
    assert "--nodes=1 --ntasks=1 --ntasks-per-node=1 --cpus-per-task=16 " in words
    assert words.startswith("OMP_NUM_THREADS=4 ") and "--nnodes=1 --nproc-per-node=4" in words


@pytest.mark.parametrize(
    ("resources", "nodes", "processes"),
    [
        ({}, 1, 1),
        ({"gpu": 0}, 1, 1),
        ({"gpu": 8}, 2, 4),
        ({"gres": "gpu:2"}, 2, 2),
        ({"gres": "gpu:h100:8"}, 1, 8),
        ({"gres": "gpu"}, 1, 1),
        ({"gres": "license:3"}, 1, 1),
    ],
)
def test_one_process_for_each_card_of_a_node(resources, nodes, processes):
    assert launch.processes_per_node(resources, nodes) == processes


@pytest.mark.parametrize(
    ("value", "gpus"), [("", []), ("0,2", ["0", "2"]), ("-1", []), ("GPU-ab, GPU-cd", ["GPU-ab", "GPU-cd"])]
)
def test_gpus_named_by_the_environment(monkeypatch, value, gpus):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    assert launch.visible_gpus() == gpus


def test_gpus_counted_by_the_driver(monkeypatch, tmp_path):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    driver = tmp_path / "nvidia-smi"
    driver.write_text(
        "#!/bin/sh\necho 'GPU 0: X (UUID: a)'\necho '  MIG 1g (UUID: m)'\necho 'GPU 1: X (UUID: b)'\n"
    )
    driver.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert launch.visible_gpus() == ["0", "1"]
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    assert launch.visible_gpus() == []


def test_jobs_get_gpus_that_no_other_holds(tmp_path):
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "4,5,6", "TMPDIR": str(tmp_path)}
    report = "import os, sys; print(os.environ['CUDA_VISIBLE_DEVICES'], flush=True); sys.stdin.read()"

    def start(gpus: int) -> subprocess.Popen:
        call = [PYTHON, "-m", "ditgta.launch", "--gpus", str(gpus), PYTHON, "-c", report]
        return subprocess.Popen(
            call, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    first = start(1)
    taken = first.stdout.readline().split()
    second = start(2)
    others = second.stdout.readline().strip().split(",")
    assert sorted([*taken, *others]) == ["4", "5", "6"]
    # A third waits until the first one ends, however it ends, and then gets its GPU.
    third = start(1)
    with pytest.raises(subprocess.TimeoutExpired):
        third.wait(timeout=1.5)
    first.kill()
    assert third.stdout.readline().split() == taken
    for process in (first, second, third):
        process.communicate()


@pytest.mark.parametrize(
    ("visible", "words", "fault"),
    [
        ("0", "--gpus 2 true", "2 GPUs are requested, but there are 1"),
        ("0", "--gpus 0 true", "0 GPUs are requested"),
        ("0", "--gpus 1 no-such-command", "no-such-command is not a command"),
        ("0", "--gpus 1", "nothing is not a command"),
        ("0,0", "--gpus 2 true", "'0,0' does not name a set of GPUs"),
        ("0;1", "--gpus 1 true", "'0;1' does not name a set of GPUs"),
        ("../../x", "--gpus 1 true", "does not name a set of GPUs"),
    ],
)
def test_mistakes_are_one_line(visible, words, fault):
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": visible}
    call = [PYTHON, "-m", "ditgta.launch", *words.split()]
    done = subprocess.run(call, env=environment, capture_output=True, text=True)
    assert done.returncode == 2 and fault in done.stderr and done.stderr.count("\n") == 1


def test_locks_of_another_user_are_refused(tmp_path, monkeypatch):
    """In a shared temporary folder others can make what bears the name, and links in it."""
    folder = launch.lock_folder(tmp_path)
    assert folder == launch.lock_folder(tmp_path) and folder.stat().st_mode & 0o777 == 0o700
    stranger = tmp_path / "stranger"
    (folder / "0").symlink_to(stranger)
    with pytest.raises(OSError):
        launch.take_gpus(1, ["0"], folder)
    assert not stranger.exists()
    folder.chmod(0o777)
    with pytest.raises(InputError, match="not a folder that only this user can write"):
        launch.lock_folder(tmp_path)
    folder.rename(tmp_path / "real")
    folder.symlink_to(tmp_path / "real")
    with pytest.raises(InputError, match="not a folder that only this user can write"):
        launch.lock_folder(tmp_path)
    folder.unlink()
    folder.write_text("")
    with pytest.raises(InputError, match="not a folder that only this user can write"):
        launch.lock_folder(tmp_path)
    folder.unlink()
    launch.lock_folder(tmp_path)
    other = os.getuid() + 1
    monkeypatch.setattr(os, "getuid", lambda: other)
    folder.rename(tmp_path / f"ditgta-gpus-{other}")
    with pytest.raises(InputError, match="not a folder that only this user can write"):
        launch.lock_folder(tmp_path)


def test_a_job_says_what_it_waits_for(tmp_path, monkeypatch, capfd):
    folder = launch.lock_folder(tmp_path)
    descriptor = launch.locked(folder, "0")
    ticks = iter(range(0, 10_000, 30))
    monkeypatch.setattr(launch.time, "monotonic", lambda: next(ticks))
    naps = iter([None] * 5)

    def nap(_):
        if next(naps, "over") == "over":
            os.close(descriptor)

    monkeypatch.setattr(launch.time, "sleep", nap)
    assert launch.take_gpus(1, ["0"], folder) == ["0"]
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 3 and all("waiting for 1 free GPUs: 0 of 0 are" in line for line in lines)
