"""What machines and users do to running commands: full and locked disks, interruptions, too many processes, no cluster."""

import functools
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time

import pytest
import yaml

from tests.conftest import ROOT, run_snakemake
from tests.mistakes.calls import CHECKPOINT, LATENTS, SAMPLE, SCORE, SCORER, TABLE, TRAIN
from tests.mistakes.test_one_line import call, files
from tests.stages.test_survival import errors, needs_mount, on_small_disk

DITGTA = f"{shlex.quote(sys.executable)} -m ditgta"
FULL, LOCKED, OWNED = "mount -o remount,size=16k {}", "mount -o remount,ro {}", "chmod 500 {}"
# Root may write anywhere unless it gives this capability away.
AS_OWNER = "setpriv --bounding-set=-dac_override,-dac_read_search --inh-caps=-dac_override,-dac_read_search"
DIGITS, CONFIG = "images --source digits --size 16", shlex.quote(str(ROOT / "config.yaml"))


@needs_mount
@pytest.mark.parametrize(
    ("fault", "words", "said"),
    [
        (FULL, f"{DIGITS} --out {{}}/new", "No space left"),
        (FULL, LATENTS.replace("new", "{}/new"), "No space left"),
        (FULL, SCORE.replace("new", "{}/new") + " --cache {}/features", "No space left"),
        (FULL, TABLE.replace("new", "{}/new"), "No space left"),
        (FULL, f"export-checkpoint {CHECKPOINT} {{}}/new.pt", "No space left"),
        (LOCKED, f"{DIGITS} --out {{}}/new", "Read-only file system"),
        (LOCKED, f"{SAMPLE} --grid {{}}/new.png", "Read-only file system"),
        (LOCKED, f"export-checkpoint {CHECKPOINT} {{}}/new.pt", "Read-only file system"),
        (LOCKED, f"plan --configfile {CONFIG} --out {{}}/new.json", "Read-only file system"),
        (OWNED, f"{DIGITS} --out {{}}/new", "Permission denied"),
        (OWNED, f"plan --configfile {CONFIG} --out {{}}/new.json", "Permission denied"),
    ],
)
def test_a_disk_that_takes_nothing(example, tmp_path, fault, words, said):
    """Whole parts may stay on a full disk, but nothing that vouches for a result, and nothing hidden or half-written."""
    disk, before = tmp_path / "disk", files()
    command = f"{AS_OWNER if fault == OWNED else ''} {DITGTA} {words.format(disk, disk)}"
    vouching = r"\( -name '.*' -o -name '*.json' -o -name '*.tsv' -o -name '*.html' \)"
    script = f"{fault.format(disk)}; {command}; echo code $?; find {disk} -type f {vouching}"
    printed, complaints = on_small_disk(disk, script)
    assert printed.split("code ")[1].split("\n") == ["2", ""], printed
    (line,) = errors(complaints)
    assert (
        said in line and ("cannot write" in line or "cannot open" in line) and "Traceback" not in complaints
    )
    assert files() == before


@needs_mount
def test_a_file_that_must_not_be_read(example):
    os.chmod("index/index.json", 0)
    done = subprocess.run(shlex.split(f"{AS_OWNER} {DITGTA} {LATENTS}"), capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "cannot open index/index.json: Permission denied" in done.stderr
    assert not os.path.exists("new")


@pytest.mark.parametrize(
    ("number", "code", "words", "sign"),
    [
        (signal.SIGINT, 130, f"{SAMPLE} --num-samples 1500 --steps 10 --out new", "new/00000.json"),
        (signal.SIGINT, 130, f"{TRAIN} --milestones 600 --log-every 1", "new/run/train.log"),
        (signal.SIGTERM, 143, f"{DIGITS} --out new", "new/files/9/*.png"),
    ],
)
def test_an_interrupted_command_says_one_line_and_goes_on(example, number, code, words, sign):
    call = shlex.split(f"{DITGTA} {words}")
    # What was started in the background may be deaf to the signal.
    heard = functools.partial(signal.signal, number, signal.SIG_DFL)
    running = subprocess.Popen(call, stderr=subprocess.PIPE, text=True, preexec_fn=heard)
    while running.poll() is None and not list(example.glob(sign)):
        time.sleep(0.01)
    running.send_signal(number)
    lines = [line for line in running.communicate()[1].splitlines() if line.startswith("ditgta ")]
    assert running.returncode == code
    assert len(lines) == 1 and "run the same command to resume" in lines[0]
    assert not [path for path in example.rglob("*") if path.name.startswith(".") or path.name == "lease.json"]
    kept = {path: content for path, content in files().items() if path.endswith((".npz", ".safetensors"))}
    assert subprocess.run(call, capture_output=True).returncode == 0
    assert {path: content for path, content in files().items() if path in kept} == kept


def test_modules_of_the_current_folder_are_not_imported(example):
    for name in ("yaml", "json", "torch", "argparse"):
        (example / f"{name}.py").write_text("raise SystemExit(7)")
    done = subprocess.run(shlex.split(f"{DITGTA} {SCORE}"), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"WORLD_SIZE": "2"}, "the environment has WORLD_SIZE=2 but not RANK"),
        ({"WORLD_SIZE": "2", "RANK": "0"}, "the environment has WORLD_SIZE=2 but not MASTER_ADDR"),
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE='two' in the environment is not a number"),
        ({"RANK": "3"}, "RANK=3 in the environment is not a rank of WORLD_SIZE=1 processes"),
        ({"LOCAL_RANK": "x"}, "LOCAL_RANK='x' in the environment is not a number"),
    ],
)
def test_half_a_launcher(example, monkeypatch, capfd, variables, said):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    before = files()
    code, (line,) = call(TRAIN, capfd)
    assert code == 2 and said in line
    assert files() == before


def test_secrets_of_an_address_are_kept(example, monkeypatch, capfd):
    """A scorer that was fetched is known by its address without user, password and query, and so is the command."""
    address = "https://me:SECRET@host/w.pth?sig=SECRET"

    def fetched(asked, out, *_):
        assert asked == address
        shutil.copy("scorer.safetensors", out)

    monkeypatch.setattr("ditgta.data.scorer_files.download", fetched)
    words = ["ditgta", *shlex.split(SCORER), "--weights", address]
    monkeypatch.setattr("sys.argv", words)
    assert call(shlex.join(words[1:]), capfd)[0] == 0
    record = (example / "new.json").read_text()
    assert "https://host/w.pth" in record and "SECRET" not in record
    assert call(shlex.join(words[1:]), capfd) == (0, [])  # it is the same one
    for wrong in (address.replace("https", "http"), f"{address} --wieghts {address}"):
        code, (line,) = call(f"{SCORER} --weights {wrong}", capfd)
        assert code != 0 and "SECRET" not in line


def test_more_processes_than_a_batch_has_images(example):
    torchrun = (
        f"{shlex.quote(sys.executable)} -m torch.distributed.run --standalone --nproc-per-node=2 -m ditgta"
    )
    before = files()
    done = subprocess.run(shlex.split(f"{torchrun} {TRAIN} --batch-size 1"), capture_output=True, text=True)
    (line,) = errors(done.stderr)
    assert done.returncode != 0 and "batch_size 1 does not fit 2 processes" in line
    assert files() == before


@pytest.mark.parametrize(
    ("configs", "words", "said"),
    [
        (({"experiments": {"digits": {"images": {"size": 31}}}},), [], "needs an images.size that is a multiple of 2"),
        ((), ["--config", "siute=paper"], "siute: no such option; did you mean suite?"),
    ],
)  # fmt: skip
def test_snakemake_refuses_a_faulty_configuration(tmp_path, configs, words, said):
    outcome = run_snakemake(tmp_path, *words, configs=configs)
    assert outcome.code == 1 and said in outcome.text and "Traceback" not in outcome.text
    assert not (tmp_path / "results").exists()


def test_snakemake_shows_the_line_of_a_job_that_failed(tmp_path):
    outcome = run_snakemake(
        tmp_path, configs=({"experiments": {"digits": {"images": {"source": "nowhere", "placement": None}}}},)
    )
    assert (
        outcome.code == 1
        and f"ditgta images: error: the image folder {tmp_path}/nowhere does not exist" in outcome.text
    )
    assert not (tmp_path / "results/images").exists() or not list(tmp_path.glob("results/images/*/*"))


def test_the_slurm_profile_without_slurm(tmp_path, monkeypatch):
    (tmp_path / "bin").mkdir()
    for name in ("bash", "sh", "which", "git", "env", "hostname"):
        if shutil.which(name):
            (tmp_path / "bin" / name).symlink_to(shutil.which(name))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    outcome = run_snakemake(tmp_path, place=("--profile", str(ROOT / "slurm")))
    assert (
        outcome.code == 1
        and "sbatch, which is not on PATH; start Snakemake on a node of the cluster" in outcome.text
    )
    assert "Traceback" not in outcome.text and not (tmp_path / "results").exists()


def test_the_slurm_profile_names_no_account_that_a_cluster_would_refuse():
    profile = yaml.safe_load((ROOT / "slurm/config.yaml").read_text())
    assert not {"slurm_account", "slurm_partition"} & profile["default-resources"].keys()
