"""Training: exact resume, any number of processes, faults named in one line."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file

from ditgta import load
from ditgta.config import Model, Training
from ditgta.runtime.checkpoints import read_checkpoint
from ditgta.runtime.errors import InputError
from ditgta.runtime.files import read_json, write_json
from ditgta.stages import train

MODEL = {"name": "DiT-Ti/1", "depth": 2, "width": 32, "heads": 2}
TRAINING = {"batch_size": 12, "learning_rate": 1e-3, "ema_decay": 0.9, "log_every": 4, "snapshot_every": 5}
GROUPS = ("ema", "model", "optimizer")


def run(latents, out, milestones, autoencoder=None, **changes):
    model = Model(**MODEL, posenc=changes.pop("posenc", "gta"))
    options = Training(**{**TRAINING, **changes})
    train.run(latents, out, milestones, model, options, seed=3, autoencoder=autoencoder)


def command(latents, out, milestones, *more, processes=1):
    launcher = [sys.executable, "-m"]
    if processes > 1:
        launcher += ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m"]
    spec = json.dumps({"model": {**MODEL, "posenc": "gta"}, "training": TRAINING, "seed": 3})
    options = [
        "--latents",
        latents,
        "--out",
        out,
        "--milestones",
        ",".join(map(str, milestones)),
        "--spec",
        spec,
        *more,
    ]
    return [*launcher, "ditgta", "train", *map(str, options)]


def tensors(path):
    header, groups = read_checkpoint(path, GROUPS)
    return header, {
        f"{group}.{name}": tensor for group, items in groups.items() for name, tensor in items.items()
    }


def metrics(out):
    (folder,) = out.glob("run")
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def losses(out):
    return [{key: entry[key] for key in ("step", "loss", "mse", "vb")} for entry in metrics(out)]


def assert_same(one, other):
    (header_a, a), (header_b, b) = tensors(one), tensors(other)
    assert header_a == header_b and a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


@pytest.fixture(scope="module")
def undisturbed(tiny_latents, tmp_path_factory):
    out = tmp_path_factory.mktemp("undisturbed") / "gta"
    run(tiny_latents, out, [7, 20])
    return out


def test_learns_and_records(undisturbed):
    curve = losses(undisturbed)
    assert [entry["step"] for entry in curve] == [4, 8, 12, 16, 20]
    assert curve[-1]["mse"] < 0.9 * curve[0]["mse"]
    record = read_json(undisturbed / "0000020.json")
    assert record["step"] == 20 and record["spec"]["model"]["posenc"] == "gta"
    assert [entry["loss"] for entry in record["losses"]] == [entry["loss"] for entry in curve]
    assert (next(undisturbed.glob("run")) / "train.log").read_text().count("train:") >= 2


def test_a_process_trains_in_one_precision_after_the_other(tiny_latents, undisturbed, tmp_path):
    run(tiny_latents, tmp_path / "bf16", [4], precision="bf16")
    run(tiny_latents, tmp_path / "float32", [4])
    in_bf16, in_float32 = losses(tmp_path / "bf16"), losses(tmp_path / "float32")
    assert in_float32 == losses(undisturbed)[:1] and in_bf16 != in_float32


def test_checkpoint_is_self_contained(undisturbed):
    model = load(undisturbed / "0000020.safetensors")
    _, stored = tensors(undisturbed / "0000020.safetensors")
    assert model.config.posenc == "gta" and model.num_classes == 3
    assert torch.equal(model.x_embedder.proj.weight, stored["ema.x_embedder.proj.weight"])
    assert not torch.equal(model.x_embedder.proj.weight, stored["model.x_embedder.proj.weight"])


def test_milestones_in_two_legs_equal_one_run(tiny_latents, undisturbed, tmp_path):
    out = tmp_path / "gta"
    run(tiny_latents, out, [7])
    run(tiny_latents, out, [20])
    for name in ("0000007.safetensors", "0000020.safetensors"):
        assert_same(out / name, undisturbed / name)
    assert losses(out) == losses(undisturbed)
    first, second = (read_json(out / name) for name in ("0000007.json", "0000020.json"))
    assert first["earlier"] == [] and [leg["seconds"] for leg in second["earlier"]] == [first["seconds"]]


def test_goes_on_from_a_milestone_when_the_run_folder_is_gone(tiny_latents, undisturbed, tmp_path):
    out = tmp_path / "gta"
    run(tiny_latents, out, [7])
    shutil.rmtree(next(out.glob("run")))
    run(tiny_latents, out, [20])
    assert_same(out / "0000020.safetensors", undisturbed / "0000020.safetensors")


def test_damaged_snapshot_is_named_and_an_older_state_taken(tiny_latents, undisturbed, tmp_path, capfd):
    out = tmp_path / "gta"
    run(tiny_latents, out, [16])
    folder = next(out.glob("run"))
    (out / "0000016.safetensors").unlink()
    (out / "0000016.json").unlink()
    newest = folder / "0000015.safetensors"
    content = bytearray(newest.read_bytes())
    content[-100] ^= 1
    newest.write_bytes(content)
    run(tiny_latents, out, [20])
    assert "0000015.safetensors is damaged" in capfd.readouterr().err
    assert_same(out / "0000020.safetensors", undisturbed / "0000020.safetensors")


@pytest.mark.parametrize("wrong", [{"earlier": 5}, {"losses": [5]}, {"earlier": [{"seconds": "long"}]}])
def test_a_damaged_record_is_named_and_an_older_state_taken(
    tiny_latents, undisturbed, tmp_path, capfd, wrong
):
    out = tmp_path / "gta"
    run(tiny_latents, out, [7])
    write_json(out / "0000007.json", read_json(out / "0000007.json") | wrong)
    run(tiny_latents, out, [20])
    (name,) = wrong
    assert f"0000007.json: {name}" in capfd.readouterr().err
    assert_same(out / "0000020.safetensors", undisturbed / "0000020.safetensors")


def test_lines_of_the_log_that_are_none_are_left_out(tiny_latents, undisturbed, tmp_path):
    out = tmp_path / "gta"
    run(tiny_latents, out, [7])
    log = out / "run/metrics.jsonl"
    log.write_bytes(b'5\n[]\n{"x": 1}\n{"step": "4"}\n' + log.read_bytes() + b'{"step": 7, "lo\xff')
    run(tiny_latents, out, [20])
    assert losses(out) == losses(undisturbed)


@pytest.mark.parametrize("kill", [signal.SIGKILL, signal.SIGTERM])
def test_killed_anywhere_goes_on_exactly(tiny_latents, undisturbed, tmp_path, kill):
    out = tmp_path / "gta"
    process = subprocess.Popen(command(tiny_latents, out, [7, 20]), stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while (
        not list(out.glob("run/000000[5-9].json")) and process.poll() is None and time.monotonic() < deadline
    ):
        time.sleep(0.005)
    os.kill(process.pid, kill)
    process.communicate(timeout=60)
    done = subprocess.run(command(tiny_latents, out, [7, 20]), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert_same(out / "0000020.safetensors", undisturbed / "0000020.safetensors")
    assert losses(out) == losses(undisturbed)


def test_two_processes_give_the_same_losses(tiny_latents, undisturbed, tmp_path):
    out = tmp_path / "gta"
    done = subprocess.run(command(tiny_latents, out, [20], processes=2), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for one, two in zip(losses(undisturbed), losses(out)):
        assert two["loss"] == pytest.approx(one["loss"], rel=1e-5)


def test_accumulation_changes_nothing_but_rounding(tiny_latents, undisturbed, tmp_path):
    run(tiny_latents, tmp_path / "gta", [20], micro_batch=5)
    for one, two in zip(losses(undisturbed), losses(tmp_path / "gta")):
        assert two["loss"] == pytest.approx(one["loss"], rel=1e-5)


def test_rows_share_data_noise_and_initial_weights(tiny_latents, undisturbed, tmp_path):
    run(tiny_latents, tmp_path / "rope", [4], posenc="rope")
    first, second = losses(undisturbed)[0], losses(tmp_path / "rope")[0]
    assert first["loss"] != second["loss"]
    assert first["loss"] == pytest.approx(second["loss"], rel=0.02)


def test_loss_that_is_not_finite_stops_with_step_and_state(tiny_latents, tmp_path):
    with pytest.raises(
        InputError, match=r"loss of gta is not finite at step \d+; the last good state is"
    ) as caught:
        run(tiny_latents, tmp_path / "gta", [40], learning_rate=1e18)
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "gta").glob("*.safetensors"))


@pytest.mark.parametrize(
    "changes, message",
    [({"batch_size": 601}, "601"), ({"posenc": "gta", "batch_size": 12, "name": "DiT-Ti/8"}, "multiples")],
)
def test_unusable_options_are_one_line(tiny_latents, tmp_path, changes, message):
    model = Model(**{**MODEL, "name": changes.pop("name", "DiT-Ti/1")}, posenc=changes.pop("posenc", "gta"))
    with pytest.raises(InputError, match=message):
        train.run(tiny_latents, tmp_path / "x", [4], model, Training(**{**TRAINING, **changes}), seed=0)


@pytest.mark.parametrize("tracker", ["wandb", "no-such-tracker"])
def test_a_tracker_that_is_not_there_is_one_line(tiny_latents, tmp_path, tracker):
    with pytest.raises(InputError, match=f"tracker {tracker}") as caught:
        run(tiny_latents, tmp_path / "gta", [4], tracker=tracker)
    assert "\n" not in str(caught.value)


def test_a_tracker_shows_what_is_logged_and_samples(tiny_latents, tiny_autoencoder, undisturbed, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    out = tmp_path / "gta"
    run(tiny_latents, out, [20], tiny_autoencoder, tracker="tensorboard")
    assert losses(out) == losses(undisturbed)  # showing samples disturbs nothing
    (folder,) = {path.parent for path in out.rglob("events.out.*")}
    events = EventAccumulator(str(folder)).Reload()
    lines = metrics(out)
    for name in ("loss", "mse", "vb", "gradient_norm", "images_per_second"):
        shown = [(event.step, event.value) for event in events.Scalars(name)]
        assert shown == [(line["step"], pytest.approx(line[name])) for line in lines], name
    shown = {event.step: event.encoded_image_string for event in events.Images("samples")}
    assert list(shown) == [5, 10, 15, 20] and shown[5] != shown[20]


def test_gradients_are_clipped_where_asked(tiny_latents, undisturbed, tmp_path):
    """AdamW hardly feels the gradients' scale: what shows is the norm before clipping, equal at first and other later."""
    run(tiny_latents, tmp_path / "gta", [20], gradient_clip=1e-3)
    norms = [[entry["gradient_norm"] for entry in metrics(out)] for out in (undisturbed, tmp_path / "gta")]
    assert len(norms[0]) == 5 and all(norm > 0 for norm in norms[0]) and norms[0] != norms[1]
    _, clipped = tensors(tmp_path / "gta" / "0000020.safetensors")
    moments = [tensor for name, tensor in clipped.items() if name.startswith("optimizer.exp_avg_sq.")]
    # Every gradient had norm 1e-3 at most, so the average of its square over the steps is bounded by 1e-6.
    assert sum(tensor.double().sum() for tensor in moments) <= 1e-6


def test_three_processes_share_an_uneven_batch_exactly(tiny_latents, tmp_path):
    for processes in (1, 3):
        more = ["--batch-size", "16", "--log-every", "1", "--ema-decay", "0.9", "0.5"]
        call = command(tiny_latents, tmp_path / str(processes), [3], *more, processes=processes)
        done = subprocess.run(call, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    for one, three in zip(losses(tmp_path / "1"), losses(tmp_path / "3"), strict=True):
        assert three["loss"] == pytest.approx(one["loss"], rel=1e-5)
    one, three = (load_file(tmp_path / processes / "0000003.safetensors") for processes in "13")
    averages = [name for name in one if name.startswith(("ema.", "ema1."))]
    assert len(averages) == 2 * sum(name.startswith("model.") for name in one)
    for name in averages:
        torch.testing.assert_close(three[name], one[name], rtol=1e-4, atol=1e-5)
    table = "y_embedder.embedding_table.weight"
    assert not torch.allclose(one[f"ema.{table}"], one[f"ema1.{table}"], atol=1e-5)


@pytest.mark.slow
def test_a_compiled_network_trains_alike(tiny_latents, undisturbed, tmp_path):
    run(tiny_latents, tmp_path / "gta", [20], compile=True)
    for one, two in zip(losses(undisturbed), losses(tmp_path / "gta")):
        assert two["loss"] == pytest.approx(one["loss"], rel=1e-4)
    assert (
        tensors(undisturbed / "0000020.safetensors")[1].keys()
        == tensors(tmp_path / "gta/0000020.safetensors")[1].keys()
    )


def test_second_trainer_is_refused(tiny_latents, tmp_path):
    out = tmp_path / "gta"
    run(tiny_latents, out, [4])
    folder = next(out.glob("run"))
    from ditgta.runtime.lease import lease

    with lease(folder, "a test"), pytest.raises(InputError, match="already running"):
        run(tiny_latents, out, [8])


def test_a_training_that_kept_no_state_leaves_its_folder_to_other_options(tiny_latents, tmp_path):
    with pytest.raises(InputError, match="finite"):
        run(tiny_latents, tmp_path / "gta", [4], learning_rate=1e30)
    run(tiny_latents, tmp_path / "gta", [4])


def test_a_lost_milestone_is_made_again_from_before_it(tiny_latents, undisturbed, tmp_path):
    out = tmp_path / "gta"
    run(tiny_latents, out, [7, 20])
    for name in ("0000007.safetensors", "0000007.json"):
        (out / name).unlink()
    run(tiny_latents, out, [7, 20])
    assert_same(out / "0000007.safetensors", undisturbed / "0000007.safetensors")
    assert_same(out / "0000020.safetensors", undisturbed / "0000020.safetensors")


@pytest.mark.parametrize("processes", [1, 2])
def test_a_flipped_bit_in_a_latent_shard_is_found_before_use(tiny_latents, tmp_path, processes):
    latents = tmp_path / "latents"
    shutil.copytree(tiny_latents, latents)
    content = bytearray((latents / "00001.safetensors").read_bytes())
    content[-3] ^= 4
    (latents / "00001.safetensors").write_bytes(content)
    call = command(latents, tmp_path / "gta", [4], processes=processes)
    done = subprocess.run(call, capture_output=True, text=True)
    lines = [line for line in done.stderr.splitlines() if line.startswith("ditgta train: error")]
    assert done.returncode == (2 if processes == 1 else 1)  # torchrun's own code
    assert len(lines) == 1 and re.search(
        r"00001.safetensors is damaged.*; run the latents stage again", lines[0]
    )
    assert not list((tmp_path / "gta").glob("*.safetensors"))


def test_warm_up_is_a_function_of_the_step(tiny_latents, tmp_path):
    options = {"warmup": 8, "betas": (0.9, 0.99), "timesteps": "stratified"}
    run(tiny_latents, tmp_path / "one", [6], **options)
    run(tiny_latents, tmp_path / "two", [3], **options)
    shutil.rmtree(tmp_path / "two/run")
    run(tiny_latents, tmp_path / "two", [6], **options)
    assert_same(tmp_path / "one/0000006.safetensors", tmp_path / "two/0000006.safetensors")
    run(tiny_latents, tmp_path / "constant", [6], **{**options, "warmup": 0})
    one, constant = (tensors(tmp_path / name / "0000006.safetensors")[1] for name in ("one", "constant"))
    moved = [
        (tensor - constant[name]).abs().max() for name, tensor in one.items() if name.startswith("model")
    ]
    assert max(moved) > 1e-4
