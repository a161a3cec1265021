"""Whether a Slurm cluster takes the jobs of a profile: account, partition, time limits, nodes, and known troubles of the plugin."""

import getpass
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import yaml

from ditgta.config import Config, names
from ditgta.planning.estimate import as_size
from ditgta.planning.work import SuiteWork
from ditgta.preflight.line import MISSING, OK, WARNING, Line
from ditgta.preflight.needs import memory_needs
from ditgta.runtime.errors import InputError

ASK_SECONDS = 8
HOMES = ("~/.config/snakemake", "/etc/xdg/snakemake")  # where Snakemake looks after the working directory
# Rules whose jobs go to the cluster; those that share a stage's shards stand for the stage.
RULES = [rule for rule in names.RULES if rule not in ("import_checkpoint", "tabulate")]
FLAGS = {"slurm_account": "-A", "slurm_partition": "-p", "qos": "--qos", "constraint": "-C", "runtime": "-t"}
PLACEHOLDERS = re.compile(r"(my|your|the)?[-_]?(account|partition)|<.*>|todo|xxx", re.IGNORECASE)


def ask(*words: str) -> str | None:
    """Return what a command of Slurm answers, None where it is missing, refuses or is silent."""
    try:
        return subprocess.run(words, capture_output=True, text=True, timeout=ASK_SECONDS, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None


def fields(text: str) -> dict[str, str]:
    """Return KEY=VALUE words, or `KEY = VALUE` lines, as scontrol writes them."""
    return dict(re.findall(r"([\w:]+) *= *(\S*)", text))


def minutes_of(text: str) -> float:
    """Return Slurm's [DAYS-]HOURS:MINUTES:SECONDS, MINUTES or UNLIMITED, in minutes."""
    if not re.fullmatch(r"(\d+-)?\d+(:\d+){0,2}", text):
        return float("inf")
    days, _, rest = text.rpartition("-")
    parts = list(map(int, rest.split(":")))
    if not days and len(parts) < 3:
        parts = [0, *parts]  # minutes stand first
    hours, minutes, seconds = (*parts, 0, 0)[:3]
    return 1440 * int(days or 0) + 60 * hours + minutes + seconds / 60


class Profile:
    """A profile of Snakemake by the folder behind --profile; raises InputError if there is none of this name, or it cannot be read."""

    def __init__(self, name: str):
        places = dict.fromkeys([Path(name), *(Path(home).expanduser() / name for home in HOMES)])
        files = [file for place in places for file in (place / "config.yaml", place / "profile.yaml")]
        files = [file for file in files if file.is_file()]
        if not files:
            raise InputError(
                f"there is no profile {name} in {Path.cwd()} or ~/.config/snakemake; those of this project are slurm and slurm-paper"
            )
        self.name, self.file, self.shadowed = name, files[0], files[1:]
        try:
            self.content = yaml.safe_load(self.file.read_text()) or {}
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise InputError(
                f"{self.file} is not a readable profile ({' '.join(str(error).split())})"
            ) from None
        if not isinstance(self.content, dict):
            raise InputError(f"{self.file} holds no `name: value` lines; correct it")

    def section(self, name: str) -> dict:
        """Return a section of the profile, {} where it has none."""
        return self.content.get(name) or {}

    def resources(self, rule: str) -> dict:
        """Return the resources of a rule's jobs, with their `threads`."""
        own, threads = self.section("set-resources").get(rule) or {}, self.section("set-threads").get(rule, 1)
        return {**self.section("default-resources"), "threads": threads, **own}

    def rules(self, config: Config, suite: str) -> list[str]:
        """Return the rules whose jobs a suite sends."""
        shared = self.section("set-scatter")
        parts = {"encode_part": shared.get("encode", 1), "sample_part": shared.get("sample", 1)}
        left_out = {rule for rule, count in parts.items() if count == 1}
        if not config.first(suite).images.holds_out:
            left_out.add("measure_loss")
        return [rule for rule in RULES if rule not in left_out]


def tasks_per_gpu(resources: dict) -> int:
    """Return how many tasks the plugin asks for with each GPU, 0 where it leaves that to Slurm."""
    asked = resources.get("tasks_per_gpu")
    return int((resources.get("tasks") if asked is None else asked) or 0)


def sbatch_words(resources: dict) -> list[str]:
    """Return how a job with these resources is sent, as Snakemake's plugin does it."""
    words = []
    for key, flag in FLAGS.items():
        if resources.get(key):
            words += [flag, str(resources[key])]
    for key, option in (("mem_mb", "mem"), ("nodes", "nodes"), ("gpu", "gpus"), ("gres", "gres")):
        if resources.get(key) and not (key == "gpu" and resources.get("gres")):
            words.append(f"--{option}={resources[key]}")
    tasks, gpus = resources.get("tasks"), resources.get("gpu") or "gpu" in str(resources.get("gres", ""))
    if gpus and tasks_per_gpu(resources):
        words.append(f"--ntasks-per-gpu={tasks_per_gpu(resources)}")
    if resources.get("mpi") or not gpus:
        words.append(f"--ntasks={tasks or 1}")
    words.append(f"--cpus-per-task={resources.get('cpus_per_task') or resources['threads']}")
    return words


def lines(profile: Profile, config: Config, suite: str) -> Iterator[Line]:
    """Yield whether the cluster takes the jobs that a suite sends by a profile."""
    yield from on_profile(profile)
    yield from enough(profile, config, suite)
    if shutil.which("sbatch") is None:
        fix = "run this on a node of the cluster, and first make Slurm available as its manual says (`module load slurm`)"
        yield Line(MISSING, "Slurm", "sbatch is not on PATH", fix)
        return
    settings = fields(ask("scontrol", "show", "config") or "")
    if not settings:
        said = "the controller does not answer `scontrol show config`"
        yield Line(MISSING, "Slurm", said, "ask the administrators of the cluster")
        return
    yield Line(OK, "Slurm", f"cluster {settings.get('ClusterName', '')} answers")
    yield from accounting(profile, settings)
    yield from partition(profile, config, suite)
    yield from takes(profile, config, suite)


def on_profile(profile: Profile) -> Iterator[Line]:
    """Yield what a profile itself says wrong."""
    yield Line(OK, "profile", f"{profile.file}")
    for file in profile.shadowed:
        fix = f"rename one of them; {profile.file} is taken"
        yield Line(WARNING, "profile", f"{file} has the same name", fix)
    if "SLURM_TRES_PER_TASK" in os.environ:
        said = "SLURM_TRES_PER_TASK of the job around this shell contradicts the requested tasks per GPU"
        fix = "start Snakemake on a login node, or `unset SLURM_TRES_PER_TASK`"
        yield Line(WARNING, "profile", said, fix)
    if profile.content.get("executor") != "slurm":
        fix = f"add `executor: slurm` to {profile.file}"
        yield Line(MISSING, "profile", "it does not send jobs to Slurm", fix)
    for rule in RULES:
        resources = profile.resources(rule)
        if (resources.get("gpu") or 0) > 1 and not resources.get("mpi") and tasks_per_gpu(resources):
            said = f"{rule}: gpu {resources['gpu']} starts the program once for each GPU"
            fix = f"add `tasks_per_gpu: 0` to its resources in {profile.file}"
            yield Line(MISSING, "profile", said, fix)
        if resources.get("gpus"):
            said = f"{rule}: `gpus` is not a resource of the plugin"
            yield Line(MISSING, "profile", said, "write `gpu: N`, or `gres: gpu:N`")


def enough(profile: Profile, config: Config, suite: str) -> Iterator[Line]:
    """Yield whether a profile's jobs have the memory that the suite's need."""
    for need in memory_needs(SuiteWork(config, suite), profile.resources):
        if need.is_met:
            said = f"{need.rule}: {as_size(need.bytes)} of a node's memory; the profile gives {as_size(need.given)}"
            yield Line(OK, "profile", said)
            continue
        fix = f"raise mem_mb of {need.rule} in {profile.file}"
        if profile.name.rstrip("/") == "slurm":
            fix = f"use --profile slurm-paper, or {fix}"
        yield Line(MISSING, "profile", need.said(profile.name), fix)


def accounting(profile: Profile, settings: dict[str, str]) -> Iterator[Line]:
    """Yield whether the account is one's own, and whether the state of jobs can be asked for."""
    has_database = settings.get("AccountingStorageType", "").endswith("slurmdbd")
    command = profile.content.get("slurm-status-command")
    if command != "squeue" and not has_database:
        said = "without accounting Snakemake's status by sacct waits forever"
        yield Line(MISSING, "status", said, f"set `slurm-status-command: squeue` in {profile.file}")
    first = float(profile.content.get("slurm-init-seconds-before-status-checks") or 40)
    kept = float(re.match(r"\d*", settings.get("MinJobAge", "")).group() or 0)
    if command == "squeue" and kept < 3 * first:
        said = f"Slurm forgets ended jobs after {kept:.0f} s (MinJobAge), status is asked every {first:.0f} s and more"
        fix = f"lower slurm-init-seconds-before-status-checks in {profile.file}"
        yield Line(WARNING, "status", said, fix)
    account = profile.resources("train").get("slurm_account")
    if account and PLACEHOLDERS.fullmatch(str(account)):
        fix = f"name yours, or none, in {profile.file}"
        yield Line(MISSING, "account", f"{account} is a placeholder", fix)
        return
    if not has_database:
        yield Line(OK, "account", "the cluster has no accounts")
        return
    query = ("sacctmgr", "-n", "-P", "show", "assoc", f"user={getpass.getuser()}", "format=Account,QOS")
    answer = ask(*query)
    if answer is None:
        said = "the accounting database (slurmdbd) does not answer; jobs are sent without it and followed by squeue"
        yield Line(WARNING, "account", said, "if jobs are refused, wait until it is back")
        return
    known = sorted({line.partition("|")[0] for line in answer.splitlines() if line})
    shown = ", ".join(known) or "none"
    if account and str(account) not in known:
        fix = f"correct slurm_account in {profile.file}"
        yield Line(MISSING, "account", f"{account} is not one of yours: {shown}", fix)
        return
    yield Line(OK, "account", f"{account or 'the default one'}, of {shown}")


def partitions() -> dict[str, dict[str, str]]:
    """Return the partitions as scontrol describes them, by name."""
    described = [fields(line) for line in (ask("scontrol", "show", "partition", "-o") or "").splitlines()]
    return {one["PartitionName"]: one for one in described if "PartitionName" in one}


def partition(profile: Profile, config: Config, suite: str) -> Iterator[Line]:
    """Yield whether the partitions of a profile's jobs exist, are up and give the time."""
    known = partitions()
    default = next((name for name, one in known.items() if one.get("Default") == "YES"), None)
    asked: dict[str, list[str]] = {}
    for rule in profile.rules(config, suite):
        asked.setdefault(str(profile.resources(rule).get("slurm_partition") or default), []).append(rule)
    for name, rules in asked.items():
        if name not in known:
            said = "there is no default partition" if name == "None" else f"there is no partition {name}"
            fix = f"set slurm_partition in {profile.file}: {', '.join(known)}"
            yield Line(MISSING, "partition", said, fix)
            continue
        one, limit = known[name], minutes_of(known[name].get("MaxTime", ""))
        if one.get("State") != "UP":
            said = f"{name} is {one.get('State')}"
            yield Line(WARNING, "partition", said, "wait, or name another partition")
        runtimes = {rule: minutes_of(str(profile.resources(rule).get("runtime", ""))) for rule in rules}
        over = [rule for rule in rules if limit < runtimes[rule] < float("inf")]
        if over:
            said = f"{name} gives at most {limit:.0f} minutes, and jobs that ask for more wait forever: {', '.join(over)}"
            yield Line(MISSING, "partition", said, f"set runtime to at most {limit:.0f} in {profile.file}")
            continue
        yield Line(OK, "partition", f"{name}: {one.get('TotalNodes')} nodes, time limit {one.get('MaxTime')}")


def takes(profile: Profile, config: Config, suite: str) -> Iterator[Line]:
    """Yield whether Slurm would run each kind of job, by its own word (`sbatch --test-only`, which sends nothing)."""
    kinds: dict[tuple[str, ...], list[str]] = {}
    for rule in profile.rules(config, suite):
        kinds.setdefault(tuple(sbatch_words(profile.resources(rule))), []).append(rule)
    for words, rules in kinds.items():
        said = f"{', '.join(rules)}: {shlex.join(words)}"
        call = ["sbatch", "--test-only", *words, "--wrap=true"]
        try:
            done = subprocess.run(call, capture_output=True, text=True, timeout=ASK_SECONDS)
        except (OSError, subprocess.TimeoutExpired):
            yield Line(WARNING, "jobs", f"{said}: sbatch does not answer", "try again")
            continue
        if done.returncode == 0:
            yield Line(OK, "jobs", said)
            continue
        reasons = [line.rpartition("error: ")[2] for line in done.stderr.splitlines() if line.strip()]
        fix = f"change {profile.file}; the nodes have: {nodes()}"
        yield Line(MISSING, "jobs", f"{said}: {(reasons or ['refused'])[0]}", fix)


def nodes() -> str:
    """Return what kinds of nodes there are: partition, cores, memory in MB, GPUs."""
    kinds = sorted(set((ask("sinfo", "-h", "-o", "%P %c cores %m MB %G") or "").splitlines()))
    return "; ".join(kinds[:4]) + (" ..." if len(kinds) > 4 else "")
