"""The classes that docs/adding-an-encoding.md shows are registered, go through every encoding's tests, and are trained."""

import inspect
import re
from pathlib import Path

import pytest
import torch

from ditgta import config, load
from ditgta.model.positional import POSENCS, PositionalEncoding
from ditgta.stages import train
from tests.model import test_every_encoding

PAGE = (Path(__file__).parents[2] / "docs/adding-an-encoding.md").read_text()
CODE = re.findall(r"```python\n(.*?)```", PAGE, flags=re.S)
CHECKS = {
    name: check
    for name, check in vars(test_every_encoding).items()
    if name.startswith("test_") and not any(mark.name == "slow" for mark in getattr(check, "pytestmark", []))
}


@pytest.fixture(params=CODE, ids=lambda code: re.search(r'"""`(.+?)`', code)[1])
def posenc(request, monkeypatch):
    """Runs a block of the page and registers its class under the name that its docstring gives."""
    namespace: dict = {"__name__": "page"}
    exec(request.param, namespace)
    (kind,) = (
        value
        for value in namespace.values()
        if isinstance(value, type) and issubclass(value, PositionalEncoding) and value.__module__ == "page"
    )
    name = re.match("`(.+?)`: ", kind.__doc__)[1]
    monkeypatch.setitem(POSENCS, name, kind)
    monkeypatch.setattr(config, "POSENCS", (*config.POSENCS, name))
    if kind.rotated:
        monkeypatch.setattr(config, "ROTATIONS", (*config.ROTATIONS, name))
    return name


def test_the_page_shows_a_rotation_and_one_that_learns():
    assert len(CODE) == 2 and len(CHECKS) >= 11


@pytest.mark.parametrize("check", CHECKS)
def test_it_passes_what_every_encoding_must(posenc, check, tmp_path):
    possible = {"posenc": posenc, "image_size": (64, 96), "tmp_path": tmp_path}
    wanted = inspect.signature(CHECKS[check]).parameters
    CHECKS[check](**{name: possible[name] for name in wanted})


def test_it_trains(posenc, tiny_latents, tmp_path):
    model = config.Model(name="DiT-Ti/1", depth=1, width=32, heads=2).model_copy(update={"posenc": posenc})
    training = config.Training(batch_size=12, learning_rate=1e-3, ema_decay=0.9, log_every=5)
    train.run(tiny_latents, tmp_path / posenc, [5, 20], model, training, seed=3)
    early, late = (load(tmp_path / posenc / f"{step:07d}.safetensors", "model") for step in (5, 20))
    assert late.config.posenc == posenc
    assert all(not torch.equal(a, b) for a, b in zip(early.parameters(), late.parameters()))
