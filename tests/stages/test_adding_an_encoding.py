"""The classes that docs/adding-an-encoding.md shows go through every encoding's tests, and are trained, from a folder of their own."""

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ditgta import DiT, config, load
from ditgta.model.positional import encoding_class
from ditgta.runtime.errors import InputError
from ditgta.stages import published, train
from tests.conftest import ROOT
from tests.model import test_every_encoding

PAGE = (ROOT / "docs/adding-an-encoding.md").read_text()
CODE = re.findall(r"```python\n# (\w+)\.py\n(.*?)```", PAGE, flags=re.S)
CLASSES = re.findall(r"^class (\w+)", PAGE, flags=re.M)
NAMES = [f"{module}:{kind}" for (module, _), kind in zip(CODE, CLASSES)]
CHECKS = {
    name: check
    for name, check in vars(test_every_encoding).items()
    if name.startswith("test_") and not any(mark.name == "slow" for mark in getattr(check, "pytestmark", []))
}
CHECKS.pop("test_is_named_where_options_are")  # which is about those that are known


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """A folder that holds the page's files."""
    folder = tmp_path_factory.mktemp("beside")
    for module, code in CODE:
        (folder / f"{module}.py").write_text(code)
    return folder


@pytest.fixture(params=NAMES)
def posenc(request, folder, monkeypatch):
    monkeypatch.chdir(folder)
    return request.param


def test_the_page_shows_a_rotation_and_one_that_learns():
    assert NAMES == ["harmonic:HarmonicEncoding", "axes:AxesEncoding"] and len(CHECKS) >= 11


@pytest.mark.parametrize("check", CHECKS)
def test_it_passes_what_every_encoding_must(posenc, check, tmp_path, monkeypatch):
    possible = {"posenc": posenc, "image_size": (64, 96), "tmp_path": tmp_path, "monkeypatch": monkeypatch}
    wanted = inspect.signature(CHECKS[check]).parameters
    CHECKS[check](**{name: possible[name] for name in wanted})


def test_it_trains(posenc, tiny_latents, tmp_path):
    model = config.Model(name="DiT-Ti/1", depth=1, width=32, heads=2, posenc=posenc)
    training = config.Training(batch_size=12, learning_rate=1e-3, ema_decay=0.9, log_every=5)
    train.run(tiny_latents, tmp_path / "out", [5, 20], model, training, seed=3)
    early, late = (load(tmp_path / "out" / f"{step:07d}.safetensors", "model") for step in (5, 20))
    assert re.fullmatch(f"{posenc}@[0-9a-f]{{64}}", late.config.posenc)
    assert all(not torch.equal(a, b) for a, b in zip(early.parameters(), late.parameters()))
    # Out in the references' layout and in again.
    published.run_export(tmp_path / "out/0000020.safetensors", tmp_path / "out.pt")
    given = {"name": "DiT-Ti/1", "depth": 1, "width": 32, "heads": 2}
    published.run_import(tmp_path / "out.pt", tmp_path / "in.safetensors", given, None)
    assert load(tmp_path / "in.safetensors").config.posenc == late.config.posenc


def test_the_frequencies_of_the_page(folder, monkeypatch):
    monkeypatch.chdir(folder)
    frequencies = encoding_class(NAMES[0])(4, 6, 32, 2).frequencies()[0, 0] / torch.pi
    assert torch.allclose(
        frequencies * torch.tensor([4.0, 6.0]),
        torch.tensor([[1.0, 0], [0, 1], [2, 0], [0, 2], [3, 0], [0, 3], [4, 0], [0, 4]]).double(),
    )


@pytest.mark.slow
def test_the_command_of_the_page_tests_it(folder):
    call = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--posenc", NAMES[0]]
    chosen = [str(ROOT / "tests/model/test_every_encoding.py"), "-k", "place_matters or named or checkpoint"]
    done = subprocess.run([*call, *chosen], cwd=folder, capture_output=True, text=True)
    assert "2 passed, 1 skipped" in done.stdout, done.stdout + done.stderr


def test_naming_it_imports_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("loud.py").write_text("raise SystemExit('imported')")
    model = config.Model(posenc="loud:Any")
    assert "loud" not in sys.modules
    with pytest.raises(InputError, match=r"loud\.py cannot be imported .SystemExit: imported."):
        DiT.from_name("DiT-Ti/2", 64, model.posenc)


def test_another_file_is_refused(folder, tmp_path, monkeypatch):
    """A checkpoint knows its encoding by content: not by a name that another file may bear."""
    monkeypatch.chdir(folder)
    network = DiT.from_name("DiT-Ti/2", 64, NAMES[0], depth=1)
    assert DiT(network.config).config == network.config
    monkeypatch.chdir(tmp_path)
    Path("harmonic.py").write_text(dict(CODE)["harmonic"] + "# edited")
    with pytest.raises(InputError, match=r"harmonic:HarmonicEncoding has changed: .*harmonic\.py has"):
        DiT(network.config)
    with pytest.raises(InputError, match="has changed since it was imported; start Python again"):
        DiT.from_name("DiT-Ti/2", 64, NAMES[0])
    Path("harmonic.py").unlink()
    sys.path[:] = [place for place in sys.path if place != str(folder)]
    with pytest.raises(InputError, match=r"there is no harmonic\.py in "):
        DiT(network.config)
    with pytest.raises(ValueError, match="does not rotate, so it takes neither"):
        monkeypatch.chdir(folder)
        DiT.from_name("DiT-Ti/2", 64, NAMES[1], rotary_base=100.0)
