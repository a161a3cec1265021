"""A network that is trained by flow matching: logged, resumed, sampled, exported, and refused where it does not fit."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch

from ditgta import DiTPipeline, load
from ditgta.config import Sampling
from ditgta.report.evidence import curves_of, read_runs
from ditgta.runtime.errors import InputError
from ditgta.runtime.files import read_json
from ditgta.stages import pretrained, sample
from ditgta.stages.published import run_export, run_import
from tests.stages.test_train import assert_same, command, metrics, run, subprocess, tensors

FLOW = {"objective": "flow"}
SAMPLING = {"num_samples": 9, "steps": 4, "cfg_scale": 2.0, "sampler": "euler"}


@pytest.fixture(scope="module")
def flow(tiny_latents, tmp_path_factory):
    out = tmp_path_factory.mktemp("flow") / "gta"
    run(tiny_latents, out, [7, 60], learning_rate=3e-3, **FLOW)
    return out


@pytest.fixture(scope="module")
def flow_checkpoint(flow):
    return flow / "0000060.safetensors"


def sampled(checkpoint, autoencoder, out, **changes):
    sample.run(checkpoint, autoencoder, out, Sampling(**{**SAMPLING, **changes}))
    with np.load(out / "samples.npz") as file:
        return file["arr_0"].astype(int)


def test_learns_and_logs_its_loss_alone(flow, flow_checkpoint):
    lines = metrics(flow)
    assert all(line.keys() == {"step", "loss", "gradient_norm", "images_per_second"} for line in lines)
    # To say nothing costs E|e - x_0|^2, which is more than 1 where latents have a mean.
    assert lines[0]["loss"] > 0.9 and np.mean([line["loss"] for line in lines[-3:]]) < 0.7 * lines[0]["loss"]
    model = load(flow_checkpoint)
    assert model.config.objective == "flow" and model.final_layer.linear.out_features == 4
    record = read_json(flow / "0000060.json")
    assert record["spec"]["training"]["objective"] == "flow"
    (curve,) = curves_of(read_runs([flow / "0000060.json"]))
    assert set(curve.losses) == {"loss"} and len(curve.steps) == len(lines)


def test_resumes_exactly(tiny_latents, flow, tmp_path):
    out = tmp_path / "gta"
    run(tiny_latents, out, [7], learning_rate=3e-3, **FLOW)
    shutil.rmtree(out / "run")
    run(tiny_latents, out, [60], learning_rate=3e-3, **FLOW)
    assert_same(out / "0000060.safetensors", flow / "0000060.safetensors")


def test_objectives_share_initial_weights(tiny_latents, tmp_path):
    run(tiny_latents, tmp_path / "ddpm", [1])
    run(tiny_latents, tmp_path / "flow", [1], **FLOW)
    first, second = (tensors(tmp_path / name / "0000001.safetensors")[1] for name in ("ddpm", "flow"))
    assert first.keys() == second.keys()
    shapes = {name: tensor.shape for name, tensor in first.items() if "final_layer.linear" not in name}
    assert shapes == {name: second[name].shape for name in shapes}
    # The first step moves each weight by the learning rate or not at all, whatever the gradient's size.
    own = [name for name in shapes if name.startswith("model.")]
    assert own and max(float((first[name] - second[name]).abs().max()) for name in own) <= 2.1e-3


@pytest.mark.parametrize("change", ["two processes", {"micro_batch": 5}, {"checkpoint_gradients": True}])
def test_processes_and_accumulation_change_nothing_but_rounding(tiny_latents, tmp_path, change):
    run(tiny_latents, tmp_path / "one", [8], **FLOW)
    if change == "two processes":
        call = command(tiny_latents, tmp_path / "other", [8], *["--objective", "flow"], processes=2)
        done = subprocess.run(call, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    else:
        run(tiny_latents, tmp_path / "other", [8], **FLOW, **change)
    one, other = (
        [line["loss"] for line in read_json(tmp_path / name / "0000008.json")["losses"]]
        for name in ("one", "other")
    )
    assert len(one) == 2 and other == pytest.approx(one, rel=1e-5)


@pytest.mark.slow
def test_a_compiled_network_trains_alike(tiny_latents, tmp_path):
    for compile in (False, True):
        run(tiny_latents, tmp_path / str(compile), [20], compile=compile, **FLOW)
    lines = [metrics(tmp_path / str(compile)) for compile in (False, True)]
    assert len(lines[0]) == 5
    for one, two in zip(*lines, strict=True):
        assert two["loss"] == pytest.approx(one["loss"], rel=1e-4)


def test_samplers_approach_each_other(flow_checkpoint, tiny_autoencoder, tmp_path):
    exact = sampled(flow_checkpoint, tiny_autoencoder, tmp_path / "exact", sampler="heun", steps=40)

    def error(sampler, steps):
        out = tmp_path / f"{sampler}-{steps}"
        found = sampled(flow_checkpoint, tiny_autoencoder, out, sampler=sampler, steps=steps)
        return np.abs(found - exact).mean()

    assert exact.std() > 5
    assert error("heun", 10) < 0.5 * error("euler", 20) < 0.2 * error("euler", 4)


def test_noise_drawn_again_belongs_to_the_image(flow_checkpoint, tiny_autoencoder, tmp_path):
    one, other = (
        sampled(
            flow_checkpoint,
            tiny_autoencoder,
            tmp_path / str(size),
            sampler="euler-ancestral",
            batch_size=size,
        )
        for size in (9, 2)
    )
    assert np.abs(one - other).max() <= 1
    plain = sampled(flow_checkpoint, tiny_autoencoder, tmp_path / "plain")
    assert np.abs(one - plain).max() > 20


def test_classes_are_where_the_latents_are(flow_checkpoint, tiny_autoencoder):
    """Latents of class k lie around k - 1 before they are scaled: so do those that are sampled."""
    sampler = sample.Sampler.from_files(flow_checkpoint, tiny_autoencoder, Sampling(**SAMPLING), "cpu")
    decoded = []
    sampler.autoencoder.decode = lambda latents, **_: decoded.append(latents) or [latents[:, :3]]
    sampler(list(range(60)), [i % 3 for i in range(60)])
    means = torch.cat(decoded).mean((1, 2, 3)).reshape(-1, 3).mean(0)
    assert means[0] < -0.3 < means[1] < 0.3 < means[2]


@pytest.mark.parametrize("sampler", ["ancestral", "ddim", "dpm-solver++"])
def test_samplers_of_another_objective_are_refused(flow_checkpoint, tiny_autoencoder, tmp_path, sampler):
    with pytest.raises(InputError, match="objective flow; use euler or heun") as caught:
        sampled(flow_checkpoint, tiny_autoencoder, tmp_path / "out", sampler=sampler)
    assert "\n" not in str(caught.value) and sampler in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_guidance_may_be_limited_to_an_interval(flow_checkpoint, tiny_autoencoder):
    options = Sampling(**{**SAMPLING, "sampler": "heun", "cfg_interval": (0.25, 0.75)})
    sampler = sample.Sampler.from_files(flow_checkpoint, tiny_autoencoder, options, "cpu")
    seen = []
    sampler.network.register_forward_pre_hook(
        lambda _, inputs: seen.append((float(inputs[1][0]), len(inputs[0])))
    )
    sampler([0, 1, 2], [0, 1, 2])
    assert seen == [(1000, 3), (750, 6), (750, 6), (500, 6), (500, 6), (250, 6), (250, 6), (0, 3)]


def test_samplers_of_flow_are_refused_for_ddpm(checkpoint, tiny_autoencoder, tmp_path):
    with pytest.raises(InputError, match="sampler heun does not belong to objective ddpm; use ancestral or"):
        sampled(checkpoint, tiny_autoencoder, tmp_path / "out", sampler="heun")


def test_a_tracker_gets_samples(tiny_latents, tiny_autoencoder, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run(tiny_latents, tmp_path / "gta", [5], tiny_autoencoder, tracker="tensorboard", **FLOW)
    (folder,) = {path.parent for path in tmp_path.rglob("events.out.*")}
    events = EventAccumulator(str(folder)).Reload()
    assert [event.step for event in events.Images("samples")] == [5]
    assert "mse" not in events.Tags()["scalars"]


def test_the_pipeline_takes_a_sampler_that_fits(flow_checkpoint, tiny_autoencoder, tmp_path):
    pretrained.run_save(flow_checkpoint, tmp_path / "hub", tiny_autoencoder, None, None)
    assert "- objective: flow" in (tmp_path / "hub" / "README.md").read_text()
    pipe = DiTPipeline.from_pretrained(tmp_path / "hub")
    pipe.set_progress_bar_config(disable=True)
    labels = [i % 3 for i in range(9)]
    found = pipe(labels, guidance_scale=2.0, num_inference_steps=4, seed=0, output_type="np").images
    expected = sampled(flow_checkpoint, tiny_autoencoder, tmp_path / "samples")
    assert np.abs(found.astype(int) - expected).max() <= 1


def test_there_and_back_again(flow_checkpoint, tmp_path):
    """The references' layout keeps the objective; weights without it are refused, not taken for noise and variance."""
    model, options = load(flow_checkpoint), {"name": "DiT-Ti/1", "depth": 2, "width": 32, "heads": 2}
    run_export(flow_checkpoint, tmp_path / "a.pt")
    run_import(tmp_path / "a.pt", tmp_path / "b.safetensors", options, None)
    found = load(tmp_path / "b.safetensors")
    assert found.config == model.config
    assert all(map(torch.equal, found.state_dict().values(), model.state_dict().values()))
    run_export(flow_checkpoint, tmp_path / "bare.safetensors")
    given = {**options, "posenc": "gta"}
    with pytest.raises(InputError, match="predicts 4 channels for 4 of the latent, objective ddpm needs 8"):
        run_import(tmp_path / "bare.safetensors", tmp_path / "c.safetensors", given, 16)
    with pytest.raises(InputError, match="says objective flow, --objective says ddpm"):
        run_import(tmp_path / "a.pt", tmp_path / "c.safetensors", options, None, objective="ddpm")


def test_old_checkpoints_predict_noise_and_variance(checkpoint):
    from ditgta.loading import network_of

    network = load(checkpoint)
    header = json.loads(json.dumps(dataclasses.asdict(network.config)))
    del header["objective"]
    assert network_of("old", header, network.state_dict()).config == network.config
    with pytest.raises(InputError, match="objective 'edm' is unknown; known: ddpm, flow"):
        network_of("new", header | {"objective": "edm"}, network.state_dict())
