"""Check: what is there and right is ok, what is not is missing, with a fix that works; and it takes seconds."""

import os
import resource
import shutil
import stat
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from ditgta import config
from ditgta.__main__ import main
from ditgta.config.names import RULES
from ditgta.planning.scale import World
from ditgta.preflight import cluster, inputs, machine
from ditgta.preflight.line import MISSING, OK, WARNING, Line
from ditgta.runtime.errors import InputError
from ditgta.stages import check
from tests.conftest import ROOT

RAW = yaml.safe_load((ROOT / "config.yaml").read_text())
PAPER = {"experiments": {"imagenet256": {"training": {"batch_size": 4}}}}
SCORER = "pt_inception-2015-12-05-6726825d.pth"
# What the commands of a cluster with accounts, time limits and two kinds of nodes answer.
CLUSTER = {
    "scontrol": """case "$2" in
config) echo "AccountingStorageType   = accounting_storage/slurmdbd"; echo "ClusterName             = big"; echo "MinJobAge               = 300 sec" ;;
partition) echo "PartitionName=short Default=YES MaxTime=02:00:00 State=UP TotalNodes=9"
echo "PartitionName=long Default=NO MaxTime=2-00:00:00 State=UP TotalNodes=4" ;;
esac""",
    "sacctmgr": 'printf "vision|normal\\nspeech|normal,long\\n"',
    "sinfo": 'echo "long 64 cores 512000 MB gpu:a100:4"',
    "sbatch": """case "$*" in *gpu:h100*) echo "sbatch: error: Invalid generic resource (gres) specification" >&2; exit 1 ;; esac
echo "sbatch: Job 1 to start now" >&2""",
}


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setattr(inputs, "is_reachable", lambda host: False)
    monkeypatch.setattr(check, "SECONDS", 300.0)  # tests run where others compute, too


def loaded(*changes: dict) -> config.Config:
    raw = yaml.safe_load(yaml.safe_dump(RAW))
    for change in changes:
        config.inheritance.merge(raw, change)
    return config.load(raw)


def findings(suite: str, *changes: dict, profile: str | None = None) -> dict[str, list[Line]]:
    found: dict[str, list[Line]] = {}
    for line in check.findings(loaded(*changes), suite, Path("results"), profile):
        found.setdefault(line.what, []).append(line)
    return found


def states(found: dict[str, list[Line]], state: str) -> set[str]:
    return {what for what, lines in found.items() if any(line.state == state for line in lines)}


def test_a_second_judge_must_be_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    named = {"suites": {"digits": {"scorer": {"judge": "dinov2.pth"}}}}
    (gone,) = findings("digits", named)["judge"]
    assert (
        gone.state == MISSING
        and "dinov2.pth does not exist" in gone.said
        and "scorer: {judge: PATH}" in gone.fix
    )
    Path("dinov2.pth").write_bytes(b"weights")
    (there,) = findings("digits", named)["judge"]
    assert there.state == OK and "sha256" in there.said
    assert "judge" not in findings("digits")


def test_the_default_suite_can_finish_and_that_is_known_in_seconds(tmp_path, monkeypatch):
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    call = [sys.executable, "-m", "ditgta", "check", "digits"]
    done = subprocess.run(call, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    used = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before
    assert used < 20  # of a processor: on a busy machine the clock says nothing of the command
    assert done.stdout.splitlines()[-1].startswith("suite digits can finish")
    assert not list(tmp_path.iterdir())
    monkeypatch.chdir(tmp_path)
    assert set().union(*(states(findings("digits"), state) for state in (WARNING, MISSING))) == set()


@pytest.fixture(scope="module")
def paper(tmp_path_factory):
    """What the check of the paper's suite says where nothing of it is there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("nothing"))
        patch.setattr(inputs, "is_reachable", lambda host: False)
        patch.setattr(check, "SECONDS", 300.0)
        return findings("paper")


def test_each_thing_that_the_paper_lacks_is_named_with_what_to_do(paper):
    assert {"images", "held-out", "autoencoder", "scorer", "reference"} <= states(paper, MISSING)
    for what, said in (
        ("images", "`experiments: {imagenet256: {images: {source: PATH}}}`"),
        ("held-out", "`experiments: {imagenet256: {images: {held_out: PATH}}}`"),
        (
            "autoencoder",
            "`hf download stabilityai/sd-vae-ft-ema config.json diffusion_pytorch_model.safetensors",
        ),
        ("autoencoder", "`experiments: {imagenet256: {autoencoder: {pretrained: vae}}}`"),
        ("scorer", f"`curl -L --create-dirs -o weights/{SCORER} https://github.com/mseitzer/pytorch-fid/"),
        ("reference", "`suites: {paper: {scorer: {reference: PATH}}}`"),
        ("time", "--profile slurm-paper"),
    ):
        assert said in paper[what][0].fix, (what, paper[what])


def followed(folder: Path) -> tuple[dict, ...]:
    """Returns the configuration after the fixes of images, autoencoder and reference."""
    Path("weights").mkdir()
    shutil.copy("scorer.safetensors", "weights/own.safetensors")
    np.savez("reference.npz", arr_0=np.zeros((4, 16, 16, 3), np.uint8))
    shutil.copytree("index/pictures", "more")
    for path in Path("more").glob("*/*.png"):
        Image.open(path).transpose(Image.Transpose.ROTATE_180).save(path)
    pictures = {"source": "index/pictures", "held_out": "more"}
    images = {"images": pictures, "autoencoder": {"pretrained": "vae"}}
    scorer = {"weights": "weights/own.safetensors", "reference": "reference.npz"}
    return PAPER, {"experiments": {"imagenet256": images}, "suites": {"paper": {"scorer": scorer}}}


def test_once_the_fixes_are_followed_the_inputs_are_ok(example):
    found = findings("paper", *followed(example))
    names = ("images", "held-out", "autoencoder", "scorer", "reference")
    assert [found[what][0].state for what in names] == [OK] * 5, found
    assert "12 images of 2 classes" in found["images"][0].said and "4 images" in found["reference"][0].said
    assert states(found, WARNING) >= {"published"}  # their values are of other images


def test_training_images_that_are_held_out_are_missing(example):
    themselves = {"experiments": {"imagenet256": {"images": {"held_out": "index/pictures"}}}}
    line = findings("paper", *followed(example), themselves)["held-out"][0]
    assert line.state == MISSING and line.said == "index/pictures holds the training images themselves"
    assert "`experiments: {imagenet256: {images: {held_out: PATH}}}`" in line.fix


def broken(example) -> dict[str, list[Line]]:
    changes = followed(example)
    name = f"weights/{SCORER}"
    shutil.copy("scorer.safetensors", name)
    for path in ("reference.npz", "index/pictures/cats/0.png"):
        Path(path).write_bytes(Path(path).read_bytes()[:60])
    Path("vae/config.json").unlink()
    other = {"suites": {"paper": {"scorer": {"weights": name}}}}
    large = {"experiments": {"imagenet256": {"training": {"batch_size": 400}}}}
    return findings("paper", *changes, other, large)


def test_damage_is_found(example):
    found = broken(example)
    assert {"images", "autoencoder", "scorer", "reference"} <= states(found, MISSING)
    assert "cats/0.png" in found["images"][0].said and "config.json" in found["autoencoder"][0].said
    assert "the published file 6726825d0af5" in found["scorer"][0].said


def test_a_batch_above_the_images_is_missing(example):
    changes = followed(example)
    found = findings("paper", *changes, {"experiments": {"imagenet256": {"training": {"batch_size": 400}}}})
    assert found["batch"][0].state == MISSING and "more than the 12 images" in found["batch"][0].said


def test_a_full_disk_is_missing_and_an_answer_that_does_not_come_is_a_warning(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda place: SimpleNamespace(free=10**6))
    monkeypatch.setattr(check, "SECONDS", 1.0)
    monkeypatch.setattr(check.Inputs, "checkpoints", lambda self: iter([time.sleep(3)]))
    found = findings("digits")
    assert found["inputs"][0].state == WARNING and "not known after 1 s" in found["inputs"][0].said
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(inputs, "is_reachable", lambda host: False)
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda place: SimpleNamespace(free=10**6))
    shutil.copy(ROOT / "config.yaml", ".")
    assert main(["check"]) == 2
    said = capsys.readouterr()
    assert "missing  disk         230 MB still to be written, 1 MB free" in said.out
    assert said.err.startswith("ditgta check: error: suite digits cannot finish: 1 missing")


def test_a_micro_batch_makes_a_training_fit_a_gpu(monkeypatch):
    found, world = loaded(), World(4, 1, 1.0, True)
    name = "imagenet256-gta"
    needed = machine.needed_bytes(found.experiments[name], 1000, world)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda i: (40e9, 40e9))
    assert machine.gpu_memory(found, name, 1000, world, needed).state == OK
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda i: (2e9, 40e9))
    assert machine.gpu_memory(found, name, 1000, world, needed).state == WARNING
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda i: (8e9, 8e9))
    line = machine.gpu_memory(found, name, 1000, world, needed)
    assert line.state == MISSING
    said = line.fix.partition("`")[2].partition("`")[0]
    changed = loaded(yaml.safe_load(said)).experiments[name]
    assert machine.needed_bytes(changed, 1000, world) < 8e9 < needed


def test_gpus_that_torch_cannot_use_are_missing(monkeypatch):
    monkeypatch.setattr(machine.launch, "visible_gpus", lambda: ["0", "1"])
    line = machine.driver()
    assert line.state == MISSING and "2 GPUs" in line.said
    assert "pytorch.org" in line.fix


def test_names_of_gpus_that_are_none_are_missing(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,0")
    line = machine.driver()
    assert (
        line.state == MISSING and "does not name a set of GPUs" in line.said and "write numbers" in line.fix
    )


def test_a_compiler_is_asked_for_where_networks_are_compiled(monkeypatch):
    assert machine.compiler(loaded(), "digits") is None
    compiled = loaded({"experiments": {"digits": {"training": {"compile": True}}}})
    assert machine.compiler(compiled, "digits").state == OK
    monkeypatch.setenv("PATH", "")
    assert "module load gcc" in machine.compiler(compiled, "digits").fix


def test_processes_average_among_themselves(monkeypatch):
    monkeypatch.setattr(machine, "ALL_REDUCE_SECONDS", 300)  # on a machine that is busy with other tests
    line = machine.all_reduce(2)
    assert line.state == OK and "gloo, 2 processes: 4 MB in" in line.said, line
    monkeypatch.setattr(machine, "ALL_REDUCE_SECONDS", 0.2)
    assert machine.all_reduce(2).state == MISSING


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """A cluster whose commands answer as `CLUSTER` says; the current folder, with the profile `site`."""
    (tmp_path / "bin").mkdir()
    for name, script in CLUSTER.items():
        file = tmp_path / "bin" / name
        file.write_text(f"#!/bin/sh\n{script}\n")
        file.chmod(file.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)

    def profile(change: dict) -> str:
        content = yaml.safe_load((ROOT / "slurm/config.yaml").read_text())
        config.inheritance.merge(content, change)
        Path("site").mkdir(exist_ok=True)
        Path("site/config.yaml").write_text(yaml.safe_dump(content))
        return "site"

    return profile


def on_cluster(profile: str, suite: str = "digits") -> dict[str, list[Line]]:
    found: dict[str, list[Line]] = {}
    for line in cluster.lines(cluster.Profile(profile), loaded(), suite):
        found.setdefault(line.what, []).append(line)
    return found


def test_a_profile_that_suits_the_cluster_is_ok(slurm):
    found = on_cluster(slurm({"default-resources": {"slurm_account": "vision"}}))
    assert states(found, MISSING) == states(found, WARNING) == set(), found
    assert found["account"][0].said.startswith("vision") and "big answers" in found["Slurm"][0].said


@pytest.mark.parametrize(
    ("change", "what", "said", "fix"),
    [
        ({"default-resources": {"slurm_account": "visoin"}}, "account", "visoin is not one of yours: speech, vision", "slurm_account"),
        ({"default-resources": {"slurm_account": "my-account"}}, "account", "is a placeholder", "name yours"),
        ({"default-resources": {"slurm_partition": "gpu"}}, "partition", "there is no partition gpu", "short, long"),
        ({"default-resources": {"runtime": 600}}, "partition", "short gives at most 120 minutes", "at most 120"),
        ({"set-resources": {"train": {"gres": "gpu:h100:4"}}}, "jobs", "Invalid generic resource", "gpu:a100:4"),
        ({"set-resources": {"score": {"gpu": 2, "tasks": 1}}}, "profile", "starts the program once for each GPU", "tasks_per_gpu: 0"),
        ({"set-resources": {"score": {"gpus": 2}}}, "profile", "`gpus` is not a resource", "gpu: N"),
        ({"executor": "local"}, "profile", "does not send jobs to Slurm", "executor: slurm"),
        ({"set-resources": {"train": {"mem_mb": 2000}}}, "profile", "train needs 6.01 GB of a node's memory", "raise mem_mb"),
        ({"slurm-init-seconds-before-status-checks": 200}, "status", "forgets ended jobs after 300 s", "lower"),
    ],
)  # fmt: skip
def test_what_a_cluster_would_refuse_is_said_before_it_is_sent(slurm, change, what, said, fix):
    wrong = [line for line in on_cluster(slurm(change)).get(what, []) if line.state != OK]
    assert any(said in line.said and fix in line.fix for line in wrong), wrong


def test_variables_of_a_job_around_it_are_a_warning(slurm, monkeypatch):
    monkeypatch.setenv("SLURM_TRES_PER_TASK", "gres/gpu:1")
    (line,) = (line for line in on_cluster(slurm({}))["profile"] if line.state == WARNING)
    assert "unset SLURM_TRES_PER_TASK" in line.fix


def test_a_training_on_a_cluster_says_what_it_takes_of_each_gpu():
    few, many = ({"gres": f"gpu:{count}", "nodes": 1} for count in (1, 8))
    lines = [machine.gpu_memory_elsewhere(loaded(), "paper", (100, 1000), one) for one in (few, many)]
    sizes = [float(line.said.split()[0]) for line in lines]
    assert sizes[0] > 2 * sizes[1] > 10 and "of each of 8 GPUs" in lines[1].said
    assert machine.gpu_memory_elsewhere(loaded(), "paper", (100, 1000), {"nodes": 1}) is None


def test_a_longer_partition_gives_the_time(slurm):
    change = {"default-resources": {"runtime": 600, "slurm_partition": "long"}}
    assert not states(on_cluster(slurm(change)), MISSING)


def test_without_a_cluster_the_fix_is_where_to_run_it(slurm, monkeypatch):
    name = slurm({})
    monkeypatch.setenv("PATH", "/usr/bin")
    monkeypatch.setattr(cluster.shutil, "which", lambda name: None)
    assert "on a node of the cluster" in on_cluster(name)["Slurm"][0].fix


def test_the_small_profile_sends_the_paper_to_its_own():
    lines = cluster.enough(cluster.Profile(str(ROOT / "slurm")), loaded(), "paper")
    assert [line.state for line in lines] == [MISSING, MISSING]
    lines = cluster.enough(cluster.Profile(str(ROOT / "slurm")), loaded(), "digits")
    assert [line.state for line in lines] == [OK, OK]


@pytest.mark.parametrize("name", ["slurm", "slurm-paper"])
def test_profiles_know_every_rule_whose_jobs_are_sent(name):
    content = cluster.Profile(str(ROOT / name)).content
    local = {"import_checkpoint", "tabulate"}  # seconds: one thread, or on the head node
    assert set(content["set-threads"]) == set(cluster.RULES) == set(RULES) - local
    assert set(content["set-resources"]) <= set(RULES)
    assert not {"nodes", "tasks"} & set(content["default-resources"])  # groups of jobs would add them up


@pytest.mark.parametrize(
    ("text", "minutes"),
    [("30", 30), ("02:00:00", 120), ("2-00:00:00", 2880), ("1-12", 2160), ("10:30", 10.5), ("UNLIMITED", float("inf"))],
)  # fmt: skip
def test_times_are_read_as_slurm_writes_them(text, minutes):
    assert cluster.minutes_of(text) == minutes


def test_an_unknown_suite_or_profile_is_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for suite, profile, said in (("papr", None, "papr is not in"), ("digits", "nosuch", "no profile nosuch")):
        with pytest.raises(InputError, match=said):
            list(check.findings(loaded(), suite, Path("results"), profile))
