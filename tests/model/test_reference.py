"""Model, loss, schedule and sampling step equal the reference's stored numbers."""

import json

import numpy as np
import pytest
import torch

from ditgta import DiT, guided
from ditgta.diffusion.ddpm import training_losses
from ditgta.diffusion.samplers import ancestral_step
from ditgta.diffusion.schedule import add_noise, make_schedule
from tests.golden.dit.recipe import FOLDER, fill, inputs

POSENCS = ("abs", "rope", "gta")


def relative_error(found, expected) -> float:
    found, expected = torch.as_tensor(found).double(), torch.as_tensor(expected).double()
    return float((found - expected).norm() / expected.norm())


@pytest.fixture(scope="module", params=POSENCS)
def case(request):
    name = f"DiT-S-4_{request.param}_256"
    model = DiT.from_name("DiT-S/4", image_size=256, posenc=request.param)
    model.load_state_dict(fill(model.state_dict()))
    with np.load(FOLDER / f"{name}.npz") as file:
        expected = dict(file)
    return name, model, inputs(name, 32), expected


def test_state_dict_has_the_published_keys_and_shapes(case):
    name, model, _, _ = case
    keys = json.loads((FOLDER / f"{name}.keys.json").read_text())
    assert {key: list(tensor.shape) for key, tensor in model.state_dict().items()} == keys


@torch.no_grad()
def test_forward(case):
    _, model, (x, t, y, _), expected = case
    assert relative_error(model(x, t, y), expected["forward"]) < 1e-5


@torch.no_grad()
def test_guided_forward(case):
    _, model, (x, t, y, _), expected = case
    assert relative_error(guided(model, x, t, y, 1.5, "3"), expected["forward_with_cfg_1.5"][:2]) < 1e-5


@torch.no_grad()
def test_loss_terms(case):
    _, model, (x, t, y, noise), expected = case
    schedule = make_schedule()
    losses = training_losses(schedule, model(add_noise(schedule, x, t, noise), t, y), x, t, noise)
    for term in ("loss", "mse", "vb"):
        assert relative_error(losses[term], expected[f"train_{term}"]) < 1e-5, term


@torch.no_grad()
def test_ancestral_steps(case):
    _, model, (x, _, y, _), expected = case
    schedule = make_schedule(250)
    rng = np.random.Generator(np.random.PCG64(12345))
    for i, index in enumerate((249, 248, 1, 0)):
        t = torch.full((2,), int(schedule.timestep_map[index]))
        noise = torch.from_numpy(rng.standard_normal((2, 4, 32, 32), dtype=np.float32))
        x = ancestral_step(schedule, model(x, t, y), x, index, noise)
        assert relative_error(x, expected["ancestral_249_248_1_0"][i]) < 1e-5, index


def test_tables_of_250_steps():
    schedule = make_schedule(250)
    with np.load(FOLDER / "respaced_250.npz") as file:
        for name in file.files:
            found, expected = getattr(schedule, name).numpy(), file[name]
            assert np.abs(found - expected).max() <= 1e-12 * max(1, np.abs(expected).max()), name


def test_last_signal_rate_is_the_published_one():
    assert make_schedule().alphas_cumprod[-1] == pytest.approx(4.0358e-5, rel=1e-4)
