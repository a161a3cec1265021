"""Every command in README, CONTRIBUTING and docs is run, and every file, option and key that they name exists."""

import argparse
import glob
import itertools
import re
import runpy
import shlex
import shutil
import subprocess
import textwrap
import tomllib
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from benchmarks.__main__ import NAMES as BENCHMARKS
from ditgta import config
from ditgta.__main__ import build_parser, main
from ditgta.runtime.modules import is_own
from tests.conftest import ROOT, TINY, run_snakemake
from tests.workflow.test_conda import conda  # noqa: F401

PAGES = {
    path.name: path.read_text()
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/*.md"))
}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROGRAMS = {
    "snakemake",
    "python",
    "python3",
    "ditgta",
    "pytest",
    "pip",
    "conda",
    "torchrun",
    "accelerate",
    "ruff",
    "mypy",
    "snakefmt",
}
CHECKPOINT = "gta/0000002.safetensors"

# What a page calls the reader's own things, and what stands for it in the worked example.
PLACEHOLDERS = {
    "IMAGES": "index/pictures", "FOLDER": "index/pictures", "INDEX": "index", "VAE": "vae", "LATENTS": "latents", "CKPT": CHECKPOINT,
    "REFERENCE": "index", "SAMPLES": "samples", "CLASS": "1", "N": "2", "NAME": "digits", "FILE": "scorer.safetensors",
    "FILE.pt": "published.pt", "OUT.npz": "new.npz", "OUT.safetensors": "new.safetensors", "OUT": "new", "OWNER/NAME": "owner/name",
    "stabilityai/sd-vae-ft-ema": "published-vae", "pt_inception-2015-12-05-6726825d.pth": "scorer.safetensors", "samples.npz": "samples/samples.npz",
}  # fmt: skip
# What makes a command cheap; of an option that is given twice the last counts.
SMALL = "--model DiT-Ti/2 --depth 1 --width 32 --heads 2"
CHEAP = {
    "autoencoder": "--steps 1 --batch-size 4",
    "train": f"{SMALL} --batch-size 4 --milestones 1 --out trained",
    "sample": "--num-samples 6 --steps 1",
    "loss": "--images others --timesteps 10 --max-images 4",
    "scorer": "--epochs 1 --batch-size 4",
    "import-checkpoint": f"{SMALL} --image-size 16",
    "export-images": "--count 4",
    "export-statistics": "--weights scorer.safetensors --keep 4",
}


def parsed(page: str) -> tuple[list[tuple[str, str]], str]:
    """Returns a page's blocks as (language, content), indented ones as "shell", and its text without them."""
    found: list[tuple[str, str]] = []

    def take(match: re.Match) -> str:
        indented = match[0].startswith("    ")
        found.append(("shell", textwrap.dedent(match[0])) if indented else (match[1], match[2]))
        return ""

    text = PAGES[page]
    if page == "reference.md":  # its tables begin with what others' programs are called
        text = re.sub(r"^\| `[^|]*\|", "|", text, flags=re.M)
    for block in (r"^```(\w*)\n(.*?)^```$", r"(?<=\n\n)(?:    .*\n)+"):
        text = re.sub(block, take, text, flags=re.S | re.M if "`" in block else 0)
    return found, text


def blocks(page: str, language: str) -> list[str]:
    return [content for name, content in parsed(page)[0] if name == language]


def inline(page: str) -> list[str]:
    return [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", parsed(page)[1])]


def commands(page: str) -> list[str]:
    """Returns the commands of shell blocks, and those in the text: two words at least, the first of which is a program."""
    lines = [line for block in blocks(page, "shell") for line in block.splitlines() if line.strip()]
    for code in inline(page):
        first = code.split()[0].removeprefix(".venv/bin/")
        if " " in code and (first in PROGRAMS or shutil.which(first)):
            lines.append(code)
    return [part.strip() for line in lines for part in re.sub(r"\s+# .*", "", line).split(" && ")]


COMMANDS = {command: page for page in PAGES for command in commands(page)}


@pytest.fixture
def place(example) -> Path:
    """A copy of the worked example that has what pages speak of where they say it is."""
    shutil.copy(ROOT / "config.yaml", "config.yaml")
    for profile in ("slurm", "slurm-paper"):
        shutil.copytree(ROOT / profile, profile)
    for target in ("results/train/gta-1f2e3d4c/seed0/0001500", "gta/0003500"):
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        for suffix in (".safetensors", ".json"):
            shutil.copy(Path(CHECKPOINT).with_suffix(suffix), f"{target}{suffix}")
    for copy in ("results/autoencoder/pixels-0", "published-vae"):
        shutil.copytree("vae", copy)
    shutil.copytree("pretrained", "digits-gta")
    shutil.copy("scores.json", "gta.json")
    np.savez("VIRTUAL_imagenet256_labeled.npz", arr_0=np.zeros((4, 16, 16, 3), np.uint8))
    return example


def ditgta(words: list[str]) -> None:
    """Runs a command of the package in this process, made cheap, with what stands for the reader's own things."""
    words = [
        re.sub(r"^[A-Z]+(?=/)|^[\w./-]+$", lambda word: PLACEHOLDERS.get(word[0], word[0]), word)
        for word in words
    ]
    words = [found for word in words for found in (glob.glob(word) if "*" in word else [word])]
    # The reader starts in a folder without results; the worked example holds some, with other options.
    words = [f"made/{word}" if before == "--out" else word for before, word in zip(["", *words], words)]
    try:
        code = main([*words, *shlex.split("" if "--help" in words else CHEAP.get(words[0], ""))])
    except SystemExit as exit:
        code = exit.code
    assert code == 0 or (words[0] == "check" and code == 2)  # this is no cluster, and has no ImageNet


def python(words: list[str], **_) -> None:
    assert words[1] == "-m"
    if words[2] == "ditgta":
        ditgta(words[3:])
    elif words[2] == "venv":
        assert words[3:] == [".venv"]
    else:
        package, _, name = words[2].partition(".")
        assert package == "benchmarks" and set(BENCHMARKS) | {""} >= {
            word
            for before, word in itertools.pairwise(words[2:])
            if word[0] not in "-0123456789" and before != "--out"
        }
        source = (ROOT / "benchmarks" / f"{name or '__main__'}.py").read_text()
        assert all(f'"{word}"' in source for word in words if word.startswith("--"))


def snakemake(words: list[str], request, place, page) -> None:
    """Plans what a command would do; what plans nothing is done."""
    tmp = place.parent / "snakemake"
    tmp.mkdir()
    for block in blocks(page, "yaml"):
        (tmp / re.match(r"# (\S+)", block)[1]).write_text(block)
    for block in blocks(page, "python"):  # one that is a file says its name
        if file := re.match(r"# (\S+\.py)\n", block):
            (tmp / file[1]).write_text(block)
    (tmp / "digits.yaml").write_text("suite: digits")
    words = [word.replace("NAME", "digits") for word in words[1:]]
    words = [str(tmp / word) if word.endswith(".yaml") and "/" not in word else word for word in words]
    words = [
        str(ROOT / word) if word.endswith(".yaml") and (ROOT / word).is_file() else word for word in words
    ]
    if "--report" in words:
        outcome = run_snakemake(
            request.getfixturevalue("tiny_suite"), "--report", str(tmp / "report.html"), configs=(TINY,)
        )
        assert (tmp / "report.html").is_file()
    else:
        if "conda" in words:
            request.getfixturevalue("conda")
        done = {"--unlock", "--lint", "-n"} & set(words)
        outcome = run_snakemake(
            tmp,
            *words,
            *([] if done else ["--dry-run"]),
            place=() if "--cores" in words else ("--cores", "2"),
        )
    assert outcome.code == 0, outcome.text[-3000:]


def launcher(words: list[str], **_) -> None:
    """Reads a launcher's own options with its own parser, and runs the rest on one process."""
    from accelerate.commands.launch import launch_command_parser
    from torch.distributed.run import get_args_parser

    words = [PLACEHOLDERS.get(word, word) for word in words]
    parser, rest = (
        (get_args_parser(), words[1:]) if words[0] == "torchrun" else (launch_command_parser(), words[2:])
    )
    assert words[0] == "torchrun" or words[1] == "launch"
    assert parser.parse_args(rest).training_script == "ditgta"
    if "..." not in words:
        ditgta(words[words.index("ditgta") + 1 :])


def pip(words: list[str], **_) -> None:
    assert (
        words[1:4] == ["install", "-c", "envs/constraints.txt"]
        and (ROOT / words[3]).is_file()
        and words[4] == "-e"
    )
    extras = re.fullmatch(r"\.(?:\[(.+)\])?", words[5])[1]
    assert not extras or set(extras.split(",")) <= set(PROJECT["project"]["optional-dependencies"])


def pytest_(words: list[str], **_) -> None:
    markers = [line.split(":")[0] for line in PROJECT["tool"]["pytest"]["ini_options"]["markers"]]
    for before, word in itertools.pairwise(words):
        assert (
            word in ("-m", "-n", "--posenc")
            or (before == "-n" and word.isdecimal())
            or (before == "-m" and word in markers)
            or (before == "--posenc" and is_own(word))
            or (ROOT / word).exists()
        )


def conda_(words: list[str], **_) -> None:
    environment = yaml.safe_load((ROOT / "envs/environment.yaml").read_text())
    assert words[1:] in (["env", "create", "-f", "envs/environment.yaml"], ["activate", environment["name"]])


def tool(words: list[str], **_) -> None:
    assert any(line.startswith(words[0]) for line in PROJECT["project"]["optional-dependencies"]["test"])
    assert version(words[0]) and all(
        word in ("check", "format") or (ROOT / word).exists() for word in words[1:]
    )


def shell(words: list[str], **_) -> None:
    """Takes what belongs to the reader's machine as it is."""


HANDLERS = {
    **{
        "python": python,
        "python3": python,
        "ditgta": lambda words, **_: ditgta(words[1:]),
        "snakemake": snakemake,
        "torchrun": launcher,
        "accelerate": launcher,
        "pip": pip,
    },
    **{
        "pytest": pytest_,
        "conda": conda_,
        "mypy": tool,
        "ruff": tool,
        "snakefmt": tool,
        "git": shell,
        "cd": shell,
        **dict.fromkeys(
            ["tmux", "squeue", "sacctmgr", "sbatch", "module", "source", "export", "curl", "hf", "apptainer"],
            shell,
        ),
    },
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_works(command, request, place, monkeypatch):
    from ditgta.stages import pretrained

    monkeypatch.setattr(pretrained, "push_pretrained", lambda *_: "https://hub")
    assert subprocess.run(["bash", "-n", "-c", command]).returncode == 0
    words = shlex.split(command)
    program = words[0].removeprefix(".venv/bin/")
    assert program in HANDLERS, f"{COMMANDS[command]} shows `{command}`, which no handler here runs"
    HANDLERS[program](words, request=request, place=place, page=COMMANDS[command])


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")])
def test_python_works(page, place):
    for block in blocks(page, "python"):
        exec(compile(block, page, "exec"), {"__name__": page})


@pytest.mark.parametrize("page", PAGES)
def test_blocks_say_what_they_are_and_configurations_hold(page):
    assert {language for language, _ in parsed(page)[0]} <= {"shell", "python", "yaml", "text"}
    for block in blocks(page, "yaml"):
        file = re.match(r"# (\S+\.yaml)\n", block)[1]
        assert any(f"--configfile {file}" in command for command in commands(page)), (
            f"no command reads {file}"
        )


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    folder = ROOT if (ROOT / page).is_file() else ROOT / "docs"
    for target in re.findall(r"\]\(([^)]+)\)", parsed(page)[1]):
        assert target.startswith("https://") or (folder / target.split("#")[0]).exists(), target


def known_options() -> set[str]:
    """Returns every option of the package's commands, of benchmarks and of Snakemake."""
    from snakemake.cli import get_argument_parser

    parsers = [build_parser(), get_argument_parser([])]
    for action in parsers[0]._actions:
        if isinstance(action, argparse._SubParsersAction):
            parsers += action.choices.values()
    options = {option for parser in parsers for action in parser._actions for option in action.option_strings}
    return options.union(
        *(re.findall(r'"(--[\w-]+)"', path.read_text()) for path in ROOT.glob("benchmarks/*.py"))
    )


def test_options_files_and_keys_exist():
    options = known_options()
    sections = {
        kind.__name__.lower(): kind for kind in config.Section.__subclasses__() if kind is not config.Config
    }
    for page in PAGES:
        for code in inline(page):
            if option := re.match(r"--[a-z][\w-]*", code):
                assert option[0] in options, f"{page}: {code}"
            if key := re.fullmatch(r"([a-z]+)\.(\w+)", code):
                assert key[1] not in sections or key[2] in sections[key[1]].model_fields, f"{page}: {code}"
            if re.fullmatch(
                r"(ditgta|tests|workflow|docs|envs|slurm|slurm-paper|benchmarks|profiles)/[\w./-]*", code
            ):
                assert (ROOT / code).exists(), f"{page}: {code}"


def test_the_picture_of_the_zoo_is_that_of_its_table(tmp_path):
    script = runpy.run_path(str(ROOT / "docs/images/zoo_differences.py"))
    found = script["differences"]()
    declared = yaml.safe_load((ROOT / "docs/zoo.yaml").read_text())["suites"]["zoo"]["differences"]
    assert [[d.first, d.second] for d in found] == declared
    assert all(d.low < d.value < d.high for d in found) and 0 < sum(d.decided for d in found) < len(found)
    script["draw"]().savefig(tmp_path / "drawn.png")
    paths = tmp_path / "drawn.png", ROOT / "docs/images/zoo-differences.png"
    drawn, shown = (np.asarray(Image.open(path).convert("L"), float) for path in paths)
    assert drawn.shape == shown.shape and np.abs(drawn - shown).mean() < 0.5


def test_every_encoding_and_every_suite_of_the_zoo_has_its_line():
    page = PAGES["encodings.md"]
    first = [
        re.findall(r"`([\w-]+)`", line.split("|")[1]) for line in page.splitlines() if line.startswith("| `")
    ]
    named = [name for cell in first for name in cell if name != "posenc"]  # the heading
    suites = config.load(yaml.safe_load((ROOT / "config.yaml").read_text())).suites
    zoo = [name for name in suites if name.startswith("zoo-")]
    measured = [name for name in config.POSENCS if name != "none"]
    assert sorted(named) == sorted([*config.POSENCS, *zoo, *measured])
