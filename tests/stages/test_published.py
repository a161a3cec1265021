"""Published checkpoints come in exactly, go out again, and are refused in one line where they must be."""

import argparse
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from ditgta import DiT, load
from ditgta.data.published import read_published
from ditgta.model.positional import POSENCS
from ditgta.runtime.errors import InputError
from ditgta.runtime.files import read_json, write_json
from ditgta.stages.published import run_export, run_import
from tests.golden.dit.recipe import fill

SMALL = {"depth": 2, "width": 48, "heads": 2}


def small(posenc="gta", qk_norm=True, classes=10, image_size=64, **options):
    model = DiT.from_name("DiT-S/2", image_size, posenc, classes, qk_norm, **SMALL, **options)
    model.load_state_dict(fill(model.state_dict()))
    return model


def given(**more):
    return {"name": "DiT-S/2", **SMALL, **more}


def answer(model):
    torch.manual_seed(1)
    with torch.no_grad():
        return model(torch.randn(2, 4, 8, 8), torch.tensor([3, 700]), torch.tensor([1, 9]))


def save_reference(path, weights, ema, **args):
    options = argparse.Namespace(**args)
    torch.save(
        {
            "model": weights.state_dict(),
            "ema": ema.state_dict(),
            "opt": {"state": {}, "param_groups": []},
            "args": options,
        },
        path,
    )


@pytest.mark.parametrize("posenc", POSENCS)
def test_reference_file_comes_in_exactly(tmp_path, posenc):
    ema, model = small(posenc), small(posenc)
    with torch.no_grad():
        model.x_embedder.proj.bias += 1
    save_reference(
        tmp_path / "0200000.pt", model, ema, posenc=posenc, model="DiT-S/2", image_size=64, num_classes=10
    )
    run_import(tmp_path / "0200000.pt", tmp_path / "out.safetensors", SMALL, None)
    assert torch.equal(answer(load(tmp_path / "out.safetensors")), answer(ema))
    assert torch.equal(answer(load(tmp_path / "out.safetensors", "model")), answer(model))
    record = read_json(tmp_path / "out.json")
    assert record["step"] == 200000 and record["spec"]["model"]["posenc"] == posenc


def test_options_may_be_numbers_of_numpy_and_tensors_of_one_number(tmp_path):
    model = small("rope")
    said = {"posenc": "rope", "model": "DiT-S/2", "num_classes": 10}
    save_reference(
        tmp_path / "a.pt", model, model, image_size=torch.tensor(64), latent_size=np.int64(8), **said
    )
    assert read_published(tmp_path / "a.pt").options.image_size == 64
    assert read_published(tmp_path / "a.pt").options.latent_size == 8


def test_bare_state_dict_with_wrapped_names_and_half_precision(tmp_path):
    model = small("rope", qk_norm=False)
    torch.save(
        {f"module.{name}": tensor.half() for name, tensor in model.state_dict().items()}, tmp_path / "bare.pt"
    )
    run_import(tmp_path / "bare.pt", tmp_path / "out.safetensors", given(posenc="rope"), 64)
    found = load(tmp_path / "out.safetensors")
    assert found.config.qk_norm is False and found.config.posenc == "rope"
    assert (answer(found) - answer(model)).norm() / answer(model).norm() < 2e-3


@pytest.mark.parametrize(
    "posenc, options",
    [
        ("gta", {}),
        ("rope", {"rotary_base": 100.0, "absolute_table": True}),
        ("gta-mixed", {"absolute_table": True}),
        ("abs-learned", {}),
    ],
)
def test_there_and_back_again(tmp_path, posenc, options):
    model = small(posenc, **options)
    said = {"posenc": posenc, "model": "DiT-S/2", "image_size": 64, "num_classes": 10, **options}
    save_reference(tmp_path / "a.pt", model, model, **said)
    run_import(tmp_path / "a.pt", tmp_path / "b.safetensors", SMALL, None)
    run_export(tmp_path / "b.safetensors", tmp_path / "c.pt")
    run_export(tmp_path / "b.safetensors", tmp_path / "c.safetensors")
    with torch.serialization.safe_globals([argparse.Namespace]):
        out = torch.load(tmp_path / "c.pt", weights_only=True)
    for weights in (out["ema"], out["model"], load_file(tmp_path / "c.safetensors")):
        assert weights.keys() == model.state_dict().keys()
        assert all(torch.equal(weights[name], tensor) for name, tensor in model.state_dict().items())
    assert out["args"].posenc == posenc and out["args"].image_size == 64
    run_import(tmp_path / "c.pt", tmp_path / "d.safetensors", given(), None)
    assert load(tmp_path / "d.safetensors").config == model.config
    assert torch.equal(answer(load(tmp_path / "d.safetensors")), answer(model))


def test_sit_is_the_same_network_with_another_time_and_sign(tmp_path):
    """SiT embeds s = 1 - t as it is, predicts images minus noise, and leaves the second half of its channels unused."""
    theirs = small("abs", qk_norm=False)
    torch.save(theirs.state_dict(), tmp_path / "SiT.pt")
    run_import(tmp_path / "SiT.pt", tmp_path / "out.safetensors", given(), 64, objective="sit")
    ours = load(tmp_path / "out.safetensors")
    assert ours.config.objective == "flow" and ours.final_layer.linear.out_features == 16
    torch.manual_seed(1)
    t = torch.tensor([0.0, 0.013, 0.25, 0.5, 0.777, 0.999, 1.0])
    x, y = torch.randn(len(t), 4, 8, 8), torch.arange(len(t))
    with torch.no_grad():
        expected, found = -theirs(x, 1 - t, y)[:, :4], ours(x, 1000 * t, y)
        unmoved = -theirs(x, 1 - t.flip(0), y)[:, :4]
    assert (found - expected).norm() / expected.norm() < 1e-5
    assert (unmoved - expected).norm() / expected.norm() > 1e-3  # time matters to this network


def test_diffusers_folder(tmp_path):
    from diffusers import DiTTransformer2DModel

    torch.manual_seed(0)
    theirs = DiTTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=24,
        num_layers=2,
        patch_size=2,
        sample_size=8,
        num_embeds_ada_norm=10,
        out_channels=8,
        norm_eps=1e-6,
    ).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.copy_(0.1 * torch.randn(parameter.shape))
        first = theirs.transformer_blocks[0].norm1.emb.state_dict()
        for block in theirs.transformer_blocks[1:]:
            block.norm1.emb.load_state_dict(first)  # published files hold the same embedders in every block
    theirs.save_pretrained(tmp_path / "pipeline" / "transformer")
    run_import(tmp_path / "pipeline", tmp_path / "out.safetensors", {}, None)
    ours = load(tmp_path / "out.safetensors")
    assert ours.config.posenc == "abs" and not ours.config.qk_norm and ours.config.grid == (4, 4)
    for block in (
        theirs.transformer_blocks
    ):  # diffusers spaces the time frequencies by 127; the published weights want 128
        block.norm1.emb.time_proj.downscale_freq_shift = 0
    torch.manual_seed(1)
    x, t, y = torch.randn(2, 4, 8, 8), torch.tensor([3, 700]), torch.tensor([1, 9])
    with torch.no_grad():
        expected = theirs(x, timestep=t, class_labels=y).sample
        assert (ours(x, t, y) - expected).norm() / expected.norm() < 1e-5
    config = tmp_path / "pipeline/transformer/config.json"
    write_json(config, read_json(config) | {"num_layers": "two"})
    with pytest.raises(InputError, match=r"config\.json: num_layers: input should be a valid integer"):
        run_import(tmp_path / "pipeline", tmp_path / "other.safetensors", {}, None)


class Trap:
    """Would run a command if it were unpickled."""

    def __reduce__(self):
        return os.system, ("touch trapped",)


def test_a_file_that_wants_to_run_something_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"ema": small().state_dict(), "args": Trap()}, tmp_path / "evil.pt")
    with pytest.raises(InputError, match=r"evil.pt is refused: it asks for posix.system") as caught:
        run_import(tmp_path / "evil.pt", tmp_path / "out.safetensors", given(posenc="gta"), 64)
    assert "\n" not in str(caught.value) and not (tmp_path / "trapped").exists()


@pytest.mark.parametrize(
    "posenc, args, said, size, message",
    [
        ("gta", {}, given(), 64, "give --posenc"),
        ("gta", {"posenc": "rope"}, given(posenc="gta"), 64, "says posenc rope, --posenc says gta"),
        ("abs", {}, given(posenc="gta"), 64, "says posenc abs"),
        (
            "gta",
            {},
            given(posenc="abs"),
            64,
            "cannot be posenc abs: its weights fit none, .*rope, vo, gta, .*; give another --posenc",
        ),
        ("gta", {"posenc": "gta"}, given(), None, "give --image-size"),
        ("gta", {"posenc": "gta", "image_size": 64}, given(), 128, "says image size 64"),
        ("gta", {"posenc": "gta"}, {"name": "DiT-B/2"}, 64, "give the --model"),
        ("gta", {"posenc": "gta"}, {"name": "DiT-Q/2"}, 64, "DiT-SIZE/PATCH"),
        ("gta", {"posenc": "gta"}, given(qk_norm=False), 64, "says qk_norm True"),
        ("abs", {}, given(), 128, "pos_embed"),
        (
            "abs",
            {"posenc": "gta"},
            given(),
            64,
            "its weights fit abs; give another --posenc or --absolute-table",
        ),
        ("rope-mixed", {}, given(), 64, "and its weights fit rope-mixed, gta-mixed; give --posenc"),
        (
            "rope-mixed",
            {},
            given(posenc="rope"),
            64,
            "cannot be posenc rope: its weights fit rope-mixed, gta-mixed",
        ),
        ("abs-learned", {}, given(posenc="none"), 64, "says posenc abs-learned, --posenc says none"),
        ("abs-learned", {}, given(), 128, "encoding.table is"),
        ("gta", {"rotary_base": 50.0}, given(posenc="gta", rotary_base=60.0), 64, "says rotary_base 50.0"),
        ("none", {"posenc": "none"}, given(rotary_base=60.0), 64, "does not rotate"),
    ],
)
def test_contradictions_are_one_line_and_write_nothing(tmp_path, posenc, args, said, size, message):
    save_reference(tmp_path / "a.pt", small(posenc), small(posenc), **args)
    with pytest.raises(InputError, match=message) as caught:
        run_import(tmp_path / "a.pt", tmp_path / "out.safetensors", said, size)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("out*"))


def test_damaged_foreign_and_missing_files(tmp_path):
    save_reference(tmp_path / "a.pt", small(), small(), posenc="gta", image_size=64)
    (tmp_path / "short.pt").write_bytes((tmp_path / "a.pt").read_bytes()[:5000])
    (tmp_path / "text.pt").write_text("hello")
    save_file({"x": torch.zeros(2)}, tmp_path / "other.safetensors")
    (tmp_path / "folder").mkdir()
    broken = small().state_dict()
    broken["x_embedder.proj.bias"][0] = float("nan")
    torch.save(broken, tmp_path / "nan.pt")
    for name, message in [
        ("short.pt", "damaged"),
        ("text.pt", "damaged"),
        ("other.safetensors", "no weights of a DiT"),
        ("folder", "not a diffusers model"),
        ("none.pt", "does not exist"),
        ("nan.pt", "not finite"),
    ]:
        with pytest.raises(InputError, match=message) as caught:
            run_import(tmp_path / name, tmp_path / "out.safetensors", given(posenc="gta"), 64)
        assert "\n" not in str(caught.value), name


def test_command_line(tmp_path):
    save_reference(tmp_path / "a.pt", small(), small())
    words = [
        sys.executable,
        "-m",
        "ditgta",
        "import-checkpoint",
        str(tmp_path / "a.pt"),
        str(tmp_path / "out.safetensors"),
    ]
    spec = json.dumps({"model": SMALL})
    options = ["--model", "DiT-S/2", "--posenc", "gta", "--image-size", "64", "--spec", spec]
    assert subprocess.run([*words, *options], capture_output=True).returncode == 0
    failed = subprocess.run([*words, "--model", "DiT-S/2"], capture_output=True, text=True)
    assert failed.returncode == 2 and failed.stderr.count("\n") == 1 and "give --posenc" in failed.stderr
