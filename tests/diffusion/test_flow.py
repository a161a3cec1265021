"""Flow matching: paths, losses and times as written, and the exact velocity of a known distribution carries noise to it."""

import numpy as np
import pytest
import torch

from ditgta.config.names import OBJECTIVES
from ditgta.diffusion.flow import Flow
from ditgta.diffusion.objectives import objective_of
from ditgta.diffusion.samplers import SAMPLERS, sample
from ditgta.runtime.streams import generator

SHAPE = (3, 4, 5, 6)
MEANS, SPREAD = np.array([[2.0, -1.0], [-1.0, 1.5], [0.5, 3.0]]), 0.3


def arrays(*names):
    return [generator(0, "test flow", name).standard_normal(SHAPE) for name in names]


def tensors(*values):
    return [torch.from_numpy(value.astype(np.float32)) for value in values]


def test_paths_and_losses_are_those_written_out():
    x0, noise, output = arrays("x0", "noise", "output")
    u = np.array([0.0, 0.3, 0.999])
    flow = Flow()
    t = flow.times(torch.from_numpy(u))
    assert t.dtype == torch.float32 and t.tolist() == pytest.approx([0, 300, 999], abs=1e-3)
    found = flow.add_noise(*tensors(x0), t, *tensors(noise))
    share = u[:, None, None, None]
    assert np.allclose(found, (1 - share) * x0 + share * noise, atol=1e-6)
    losses = flow.losses(*tensors(output, x0), t, *tensors(noise))
    assert list(losses) == list(Flow.terms)
    assert np.allclose(losses["loss"], ((noise - x0 - output) ** 2).mean((1, 2, 3)), rtol=1e-5)


def test_the_target_is_the_derivative_of_the_path():
    x0, noise = tensors(*arrays("x0", "noise"))
    flow = Flow()
    early, late = (flow.add_noise(x0, torch.full((3,), t), noise) for t in (400.0, 401.0))
    assert torch.allclose(1000 * (late - early), noise - x0, atol=2e-3)
    assert flow.losses(noise - x0, x0, torch.full((3,), 400.0), noise)["loss"].max() == 0


def test_losses_of_bf16_outputs_are_float32():
    x0, noise, output = tensors(*arrays("x0", "noise", "output"))
    loss = Flow().losses(output.bfloat16(), x0, torch.zeros(3), noise)["loss"]
    assert loss.dtype == torch.float32


@pytest.mark.parametrize("name", OBJECTIVES)
def test_times_cover_what_the_network_sees_and_no_more(name):
    objective = objective_of(name, torch.device("cpu"))
    ends = objective.times(torch.tensor([0.0, 1 - 2.0**-53], dtype=torch.float64)).double()
    assert ends[0] == 0 and ends[1] == (999 if name == "ddpm" else 1000)
    drawn = objective.times(torch.from_numpy(generator(0, "u").random(100_000)))
    counts = torch.histc(drawn.float(), bins=10, min=0, max=1000)
    assert counts.sum() == 100_000 and (counts - 10_000).abs().max() < 400
    fine = len(drawn.unique())
    assert fine == 1000 if name == "ddpm" else fine > 99_000


def test_the_configuration_names_what_there_is():
    assert {sampler for samplers in OBJECTIVES.values() for sampler in samplers} == set(SAMPLERS)
    with pytest.raises(ValueError, match="objective 'edm' is unknown"):
        objective_of("edm", torch.device("cpu"))


def exact_velocity(x: torch.Tensor, time: float) -> torch.Tensor:
    """E[e - x_0 | x_t = x] where x_0 is drawn from a mixture of equal Gaussians in the plane: (B, 2, 1, 1)."""
    t, x = time / 1000, x.flatten(1).double().numpy()
    variance = ((1 - t) * SPREAD) ** 2 + t**2
    off = x[:, None] - (1 - t) * MEANS  # (B, modes, 2)
    weights = np.exp(-(off**2).sum(-1, keepdims=True) / (2 * variance))
    weights /= weights.sum(1, keepdims=True)
    noise = t * off / variance
    clean = MEANS + (1 - t) * SPREAD**2 * off / variance
    return torch.from_numpy((weights * (noise - clean)).sum(1))[..., None, None]


def noise_in_the_plane(count):
    return torch.from_numpy(generator(0, "plane").standard_normal((count, 2, 1, 1)))


@pytest.mark.parametrize("sampler, steps", [("heun", 60), ("euler", 400), ("euler-ancestral", 400)])
def test_the_exact_velocity_leads_to_the_distribution(sampler, steps):
    fresh = generator(0, "fresh")
    draw = (
        (lambda: torch.from_numpy(fresh.standard_normal((6000, 2, 1, 1)))) if "ancestral" in sampler else None
    )
    x = sample(exact_velocity, noise_in_the_plane(6000), sampler, steps, draw)
    x = x.flatten(1).numpy()
    nearest = ((x[:, None] - MEANS) ** 2).sum(-1).argmin(1)
    for mode, mean in enumerate(MEANS):
        own = x[nearest == mode]
        assert len(own) == pytest.approx(2000, abs=150)
        assert own.mean(0) == pytest.approx(mean, abs=0.03)
        assert own.std(0) == pytest.approx([SPREAD, SPREAD], rel=0.06)


def test_orders_of_the_samplers():
    """Half the step: half the error with Euler, a quarter with Heun."""
    x = noise_in_the_plane(200)
    exact = sample(exact_velocity, x, "heun", 2000, None)
    errors = {
        name: [float((sample(exact_velocity, x, name, steps, None) - exact).norm()) for steps in (40, 80)]
        for name in ("euler", "heun")
    }
    assert errors["euler"][0] / errors["euler"][1] == pytest.approx(2, abs=0.3)
    assert errors["heun"][0] / errors["heun"][1] == pytest.approx(4, abs=1)
    assert errors["heun"][1] < 0.1 * errors["euler"][1]


def test_one_step_of_each_is_as_written():
    x = arrays("x0")[0]

    def velocity(x, time):
        return x**2 - 0.001 * time  # of arrays and of tensors

    steps, seen, done = 4, [], []

    def predict(x, time):
        seen.append(time)
        return velocity(x, time)

    expected = {"euler": x, "heun": x}
    for t in (1000, 750, 500, 250):
        e, h = expected.values()
        there = h - velocity(h, t) / 4
        expected = {
            "euler": e - velocity(e, t) / 4,
            "heun": h - (velocity(h, t) + velocity(there, t - 250)) / 8,
        }
    times = {
        "euler": [1000, 750, 500, 250],
        "heun": [1000, 750, 750, 500, 500, 250, 250, 0],
    }
    for name in expected:
        seen.clear()
        done.clear()
        found = sample(predict, torch.from_numpy(x), name, steps, None, lambda: done.append(1))
        assert np.allclose(found, expected[name], rtol=1e-12) and seen == times[name]
        assert len(done) == steps


def test_an_ancestral_step_is_a_draw_from_the_posterior():
    """q(x_s | x_t, x_0) by the rule for products of Gaussians, where x_t is x_s scaled down with more noise; the last step is x_0."""
    x, fresh = arrays("x0", "noise")
    steps, drawn = 4, []

    def draw():
        drawn.append(fresh)
        return torch.from_numpy(fresh)

    found = SAMPLERS["euler-ancestral"](lambda x, time: 0.3 * x, torch.from_numpy(x), steps, draw)
    for t, s in ((1, 0.75), (0.75, 0.5), (0.5, 0.25)):
        velocity = 0.3 * x
        x0 = x - t * velocity
        scale = (1 - t) / (1 - s)
        added = t**2 - (scale * s) ** 2
        mean = scale * s**2 / t**2 * x + (1 - s) * added / t**2 * x0
        x = mean + s * added**0.5 / t * fresh
        assert np.allclose(next(found), x, rtol=1e-12)
    assert np.allclose(next(found), x - 0.25 * 0.3 * x, rtol=1e-12) and len(drawn) == steps - 1


def test_an_unknown_sampler_is_named():
    with pytest.raises(ValueError, match="sampler 'rk4' is unknown; known: ancestral, ddim"):
        sample(exact_velocity, noise_in_the_plane(1), "rk4", 1, None)
