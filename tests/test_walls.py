"""The walls between the floors: stages stand on model, diffusion, scoring, data; those on runtime; nothing imports upwards."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "ditgta"
PURE = ("model", "diffusion", "scoring")
# What each room may import of the package beside itself. `config` holds types and defaults and is no floor of its own.
ALLOWED = {
    "runtime": {"runtime", ""},
    "config": {"runtime"},
    "layout": {"config", "runtime"},
    "launch": {"runtime"},
    "model": {"model", "runtime"},
    "diffusion": {"runtime"},
    "scoring": {"scoring", "runtime"},
    "data": {"data", "runtime"},
    "report": {"report", "data", "scoring", "runtime"},
    "estimate": {"model", "scoring", "data", "runtime", "config"},
    "scale": {"estimate", "model", "data", "runtime", "config"},
    "sampling": {"model", "diffusion", "data", "runtime", "config"},
    "pipeline": {"sampling", "model", "data", "runtime", "config"},
    "stages": {
        "sampling",
        "model",
        "diffusion",
        "scoring",
        "data",
        "report",
        "runtime",
        "config",
        "layout",
        "estimate",
        "scale",
    },
    "flags": {"config", "runtime"},
    "__main__": {"stages", "config", "flags", "launch", "runtime", ""},
    "__init__": {"model", "pipeline", ""},
}
FILES = sorted(PACKAGE.rglob("*.py"))


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> set[tuple[str, ...]]:
    """Returns the parts, below the package, of every module of the package that a file imports, inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide where they go"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            parts = tuple(name.split("."))
            if parts[0] == "ditgta":
                is_module = len(parts) > 1 and (
                    (PACKAGE / parts[1]).is_dir() or (PACKAGE / f"{parts[1]}.py").is_file()
                )
                found.add(parts[1:] if is_module else ("",))
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_stay_within_the_walls(path):
    room = room_of(path)
    assert room in ALLOWED, f"{room} is a new room: say here what it may import"
    beyond = {parts for parts in imported(path) if parts[0] not in ALLOWED[room]}
    assert not beyond, f"{path.relative_to(PACKAGE)} imports {sorted('.'.join(parts) for parts in beyond)}"


@pytest.mark.parametrize("path", [p for p in FILES if room_of(p) == "stages"], ids=lambda path: path.stem)
def test_no_stage_imports_another(path):
    assert not [parts for parts in imported(path) if parts[0] == "stages"]


def file_access(path: Path) -> list[str]:
    """Returns where a file opens, reads, writes or starts something: calls and imports, but for DiT's ways to load itself."""
    tree = ast.parse(path.read_text())
    exempt = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and node.name == "DiT"
        for method in node.body
        if isinstance(method, ast.FunctionDef) and method.name in ("from_checkpoint", "from_pretrained")
        for inner in ast.walk(method)
    }
    found = []
    for node in ast.walk(tree):
        if node in exempt:
            continue
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if (
                name == "open"
                or name.split(".")[-1] in _ACCESS
                or name in ("np.load", "np.save", "torch.load", "torch.save")
            ):
                found.append(f"line {node.lineno}: {name}()")
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = (
                [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else [alias.name for alias in node.names]
            )
            found += [f"line {node.lineno}: import {name}" for name in names if name.split(".")[0] in _WORLD]
    return found


_ACCESS = {
    "read_text",
    "read_bytes",
    "write_text",
    "write_bytes",
    "mkdir",
    "unlink",
    "savez",
    "init_process_group",
}
_WORLD = {"os", "shutil", "subprocess", "multiprocessing", "argparse", "tempfile", "socket"}


@pytest.mark.parametrize(
    "path", [p for p in FILES if room_of(p) in PURE], ids=lambda path: str(path.relative_to(PACKAGE))
)
def test_model_diffusion_and_scoring_touch_no_files(path):
    assert file_access(path) == []


def test_the_wall_tests_would_notice(tmp_path):
    guilty = tmp_path / "guilty.py"
    guilty.write_text("import os\nfrom pathlib import Path\nPath('x').write_text('y')\nopen('x')\n")
    assert len(file_access(guilty)) == 3


@pytest.mark.parametrize(
    "module", ["ditgta", "ditgta.config", "ditgta.launch", "ditgta.__main__", "ditgta.runtime.files"]
)
def test_configuration_and_launching_need_no_torch(module):
    check = f"import sys, {module}; sys.exit(any(name in sys.modules for name in ('torch', 'numpy', 'diffusers', 'scipy')))"
    assert subprocess.run([sys.executable, "-c", check]).returncode == 0


# Files of one topic that need more room: every option, every command, one network, one training loop.
LARGER = {"__main__.py", "config.py", "model/dit.py", "stages/train.py"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_stay_small_and_say_what_they_are(path):
    text = path.read_text()
    if not text.strip():
        return
    summary = (ast.get_docstring(ast.parse(text)) or "").splitlines()
    assert summary and summary[0].endswith("."), "the module's docstring begins with one sentence on one line"
    larger = str(path.relative_to(PACKAGE)) in LARGER
    assert text.count("\n") <= (600 if larger else 350), "two topics are two files"
