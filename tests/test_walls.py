"""The layers: stages stand on model, diffusion, scoring, data; those on runtime; nothing imports upwards. And the shape of files."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "ditgta"
PURE = ("model", "kernels", "diffusion", "scoring")
# What each layer may import of the package beside itself. `config` holds types and defaults and is no layer of its own.
BASE = {"config", "runtime"}
ALLOWED = {
    "runtime": {""},
    "config": {"runtime"},
    "specs": {"data", *BASE},
    "layout": {"specs", "data", *BASE},
    "launch": {"runtime"},
    "watch": {"planning", "layout", "data", *BASE},
    "terminal": {"watch", "layout", "runtime"},
    "flags": BASE,
    "model": BASE,
    "kernels": {"model", "runtime"},
    "diffusion": {"runtime"},
    "scoring": {"runtime"},
    "data": {"config", "runtime"},
    "frames": {"runtime"},
    "loading": {"model", "runtime"},
    "planning": {"model", "kernels", "scoring", "data", *BASE},
    "preflight": {"planning", "layout", "launch", "data", *BASE},
    "sampling": {"loading", "model", "kernels", "diffusion", "data", *BASE},
    "pipeline": {"sampling", "loading", "model", "data", *BASE},
    "metrics": {"data", "scoring", "runtime"},
    "report": {"data", "scoring", "runtime"},
    "stages": {
        "metrics",
        "sampling",
        "loading",
        "model",
        "kernels",
        "diffusion",
        "scoring",
        "data",
        "report",
        "planning",
        "preflight",
        "layout",
        "watch",
        *BASE,
    },
    "commands": {"stages", "flags", "data", "", *BASE},
    "__main__": {"commands", "launch", "runtime"},
    "__init__": set(),
}
FILES = sorted(PACKAGE.rglob("*.py"))
ROOT = PACKAGE.parent
OURS = ("ditgta", "benchmarks", "tests")
EVERY = sorted(path for name in OURS for path in (ROOT / name).rglob("*.py"))


def layer_of(path: Path) -> str:
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
    layer = layer_of(path)
    assert layer in ALLOWED, f"{layer} is a new layer: say here what it may import"
    beyond = {parts for parts in imported(path) if parts[0] not in ALLOWED[layer] | {layer}}
    assert not beyond, f"{path.relative_to(PACKAGE)} imports {sorted('.'.join(parts) for parts in beyond)}"


@pytest.mark.parametrize("path", [p for p in FILES if layer_of(p) == "stages"], ids=lambda path: path.stem)
def test_no_stage_imports_another(path):
    assert not [parts for parts in imported(path) if parts[0] == "stages"]


def test_no_module_imports_itself_by_way_of_others():
    modules = {path: set(map(Path, _modules(path))) & set(FILES) for path in FILES}
    done: set[Path] = set()

    def visit(path: Path, way: tuple[Path, ...]) -> None:
        assert path not in way, " -> ".join(str(p.relative_to(PACKAGE)) for p in (*way, path))
        if path not in done:
            for other in modules[path]:
                visit(other, (*way, path))
            done.add(path)

    for path in FILES:
        visit(path, ())


def _modules(path: Path) -> set[str]:
    """Returns the files of the package that a file imports where it is imported itself, packages' own files left out."""
    found = set()
    for parts in imported(path):
        place = PACKAGE
        for part in parts:
            place /= part
            if place.with_suffix(".py").is_file():
                found.add(str(place.with_suffix(".py")))
                break
    return found


def file_access(path: Path) -> list[str]:
    """Returns where a file opens, reads, writes or starts something: calls and imports."""
    tree = ast.parse(path.read_text())
    found = []
    for node in ast.walk(tree):
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
    "path", [p for p in FILES if layer_of(p) in PURE], ids=lambda path: str(path.relative_to(PACKAGE))
)
def test_model_diffusion_and_scoring_touch_no_files(path):
    assert file_access(path) == []


def test_the_wall_tests_would_notice(tmp_path):
    guilty = tmp_path / "guilty.py"
    guilty.write_text("import os\nfrom pathlib import Path\nPath('x').write_text('y')\nopen('x')\n")
    assert len(file_access(guilty)) == 3


@pytest.mark.parametrize(
    "module",
    ["ditgta", "ditgta.config", "ditgta.layout", "ditgta.launch", "ditgta.__main__", "ditgta.runtime.files"],
)
def test_configuration_and_launching_need_no_torch(module):
    check = f"import sys, {module}; sys.exit(any(name in sys.modules for name in ('torch', 'numpy', 'diffusers', 'scipy')))"
    assert subprocess.run([sys.executable, "-c", check]).returncode == 0


def test_the_network_is_read_in_one_go():
    assert len((PACKAGE / "model/dit.py").read_text().splitlines()) < 220


@pytest.mark.parametrize("path", [p for p in FILES if layer_of(p) == "model"], ids=lambda path: path.stem)
def test_the_network_knows_no_machine(path):
    """Its formulas hold on every device, in every precision, with and without gradients or a compiler."""
    for word in (
        "is_cuda",
        "device.type ==",
        "device.type !=",
        "is_grad_enabled",
        "is_compiling",
        "autograd.Function",
    ):
        assert word not in path.read_text(), word


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_say_what_they_are_and_functions_stay_short(path):
    tree = ast.parse(path.read_text())
    if not tree.body:
        return
    summary = (ast.get_docstring(tree) or "").splitlines()
    assert summary and summary[0].endswith("."), "the module's docstring begins with one sentence on one line"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno < 60, f"{node.name} has more than 60 lines: split it"


@pytest.mark.parametrize("path", EVERY, ids=lambda path: str(path.relative_to(ROOT)))
def test_private_names_stay_in_their_module(path):
    """Also in tests and benchmarks, which would hold code fast that is free to change."""
    modules, used = set(), []
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in OURS:
            modules |= {alias.asname or alias.name for alias in node.names}
            used += [alias.name for alias in node.names if re.match("_[a-zA-Z]", alias.name)]
        if isinstance(node, ast.Import):
            modules |= {alias.asname for alias in node.names if alias.name.split(".")[0] in OURS}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules:
            used += [f"{node.value.id}.{node.attr}"] if re.match("_[a-zA-Z]", node.attr) else []
    assert not used
