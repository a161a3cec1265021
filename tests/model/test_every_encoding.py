"""What every positional encoding must do: each name in POSENCS goes through all of this, or the one that `--posenc` names."""

import contextlib
from dataclasses import asdict

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from ditgta import DiT, config, load
from ditgta.config import names
from ditgta.model.positional import (
    POSENCS,
    PositionalEncoding,
    Tables,
    encoding_class,
    rotate,
    rotate_back,
)
from ditgta.planning import cost
from ditgta.runtime.checkpoints import write_checkpoint
from ditgta.runtime.modules import is_own


def pytest_generate_tests(metafunc):
    own = metafunc.config.getoption("posenc", None)
    metafunc.parametrize("posenc", [own] if own else POSENCS)


def built(posenc, image_size=(64, 96), seed=0, shaken=True, **options):
    """A model of head width 72 on a grid of 4 x 6 tokens, its weights shaken, since adaLN-zero makes a new one's output zero."""
    model = DiT.from_name("DiT-S/2", image_size, posenc, 5, depth=2, width=144, heads=2, seed=seed, **options)
    torch.manual_seed(0)
    with torch.no_grad():
        # The encoding's own come last, so that models with and without it are shaken alike.
        for _, parameter in sorted(
            model.named_parameters(), key=lambda item: item[0].startswith("encoding.")
        ):
            if shaken:
                parameter.add_(0.05 * torch.randn(parameter.shape))
    return model


def answer(model, forward=None):
    torch.manual_seed(1)
    x = torch.randn(3, 4, *model.config.latent_size)
    return (model if forward is None else forward)(x, torch.tensor([0, 500, 999]), torch.tensor([0, 3, 5]))


def of_tokens(tables, place):
    """Returns what attention is told when it sees some of the tokens alone."""
    rotation = None if tables.rotation is None else tables.rotation[place]
    bias = None if tables.bias is None else tables.bias[:, place][:, :, place]
    return Tables(rotation, bias, tables.maps)


def test_is_named_where_options_are(posenc):
    if is_own(posenc):
        pytest.skip("its name is that of its class")
    assert POSENCS[posenc].__doc__.startswith(f"`{posenc}`: ")
    assert posenc in config.POSENCS and set(config.POSENCS) == set(POSENCS)
    assert (posenc in config.ROTATIONS) == bool(POSENCS[posenc].rotated)
    assert (posenc in names.WITHOUT_BASE) == (bool(POSENCS[posenc].rotated) and POSENCS[posenc].base is None)


def test_tables_have_their_shapes(posenc):
    encoding = built(posenc).encoding
    positions, rotations, maps = encoding.position_table(), encoding.rotation_table(), encoding.map_table()
    if positions is not None:
        assert positions.shape == (24, 144) and positions.dtype == torch.float32
    assert (rotations is not None) == bool(encoding.rotated) and set(encoding.rotated) <= {"qk", "vo"}
    if rotations is not None:
        blocks, tokens, heads, *parts = rotations.shape
        assert {blocks, heads} <= {1, 2} and tokens == 24
        assert parts in ([36, 2], [72 // parts[-1], parts[-1], parts[-1]])
        assert rotations.dtype == torch.float32
    if maps is not None:
        assert maps.shape in ((1, 2, 2, 72, 72), (2, 2, 2, 72, 72)) and maps.dtype == torch.float32
    tables = list(encoding.tables())
    assert len(tables) == 2
    for bias in (tables.bias for tables in tables if tables.bias is not None):
        assert bias.shape == (2, 24, 24) and bias.dtype == torch.float32


@torch.no_grad()
def test_rotations_keep_lengths_and_leave_the_origin_alone(posenc):
    encoding = built(posenc).encoding
    x = torch.randn(5, 24, 2, 72)
    for table in (tables.rotation for tables in encoding.tables() if encoding.rotated):
        turned = rotate(x, table)
        assert torch.allclose(turned[:, 0], x[:, 0], atol=1e-6)
        assert torch.allclose(turned.norm(dim=-1), x.norm(dim=-1), rtol=5e-5)
        assert torch.allclose(rotate_back(turned, table), x, atol=5e-5)
        assert (turned - x)[:, 1:].norm(dim=-1).min() > 0.1


@torch.no_grad()
def test_only_relative_places_matter_where_it_says_so(posenc):
    """Tokens at (i + 2, j + 3) attend to each other as those at (i, j), in every block, and go on alike after the first."""
    model = built(posenc, image_size=(96, 128))  # 6 x 8 tokens
    places = torch.arange(48).reshape(6, 8)
    here, there = places[:3, :4].flatten(), places[2:5, 3:7].flatten()
    positions = model.encoding.position_table()
    x = 0.1 * torch.randn(1, 12, 144)
    after = model.encoding.after_first_block(torch.ones(1, 48, 144))
    differences = [float((after[:, here] - after[:, there]).norm() / after[:, here].norm())]
    for block, tables in zip(model.blocks, model.encoding.tables()):
        outputs = []
        for place in (here, there):
            moved = x if positions is None else x + positions[place]
            outputs.append(block.attn(moved, of_tokens(tables, place)))
        differences.append(float((outputs[0] - outputs[1]).norm() / outputs[0].norm()))
    assert max(differences) < 1e-5 if model.encoding.relative else max(differences) > 1e-3


def test_place_matters(posenc):
    with torch.no_grad():
        difference = (answer(built(posenc)) - answer(built("none"))).norm()
    assert difference == 0 if posenc == "none" else difference > 1e-2


def test_it_starts_as_a_function_of_the_seed_and_leaves_the_rest_alone(posenc):
    first, same, other, none = (
        dict(built(name, seed=seed, shaken=False).named_parameters())
        for name, seed in ((posenc, 0), (posenc, 0), (posenc, 1), ("none", 0))
    )
    for name, parameter in first.items():
        assert torch.equal(parameter, same[name])
        if name.startswith("encoding."):
            constant = encoding_class(posenc).initial is not PositionalEncoding.initial
            assert constant or not torch.equal(parameter, other[name])
        else:
            assert torch.equal(parameter, none[name])
    assert none.keys() == {name for name in first if not name.startswith("encoding.")}


def test_what_it_learns_is_reached_by_gradients_also_when_activations_are_recomputed(posenc):
    gradients = []
    for recompute in (False, True):
        model = built(posenc).train()
        model.checkpoint_gradients = recompute
        answer(model).square().mean().backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
        assert all(p.grad.isfinite().all() and p.grad.any() for p in model.encoding.parameters())
    assert all(torch.equal(a, b) for a, b in zip(*gradients))


@pytest.mark.slow
def test_compiled_gradients_are_the_same(posenc):
    model = built(posenc, qk_norm=False).train()
    gradients = []
    for forward in (model, torch.compile(model)):
        model.zero_grad()
        answer(model, forward).square().mean().backward()
        gradients.append([parameter.grad.clone() for parameter in model.parameters()])
    assert all((a - b).norm() <= 1e-4 * a.norm() + 1e-7 for a, b in zip(*gradients))


def test_half_precision_stays_close_and_angles_stay_exact(posenc):
    model = built(posenc)
    made = (model.encoding.rotation_table, model.encoding.map_table)
    tables, outputs, gradients = [make() for make in made], [], []
    for half in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            assert all(table is None or torch.equal(table, make()) for table, make in zip(tables, made))
            outputs.append(answer(model).float())
        model.zero_grad()
        outputs[-1].square().mean().backward()
        gradients.append([parameter.grad for parameter in model.encoding.parameters()])
    exact, rough = outputs
    assert 1e-5 < (rough - exact).norm() / exact.norm() < 0.05
    assert all((a - b).norm() / a.norm() < 0.1 for a, b in zip(*gradients))


def test_its_parameters_and_operations_are_counted(posenc, monkeypatch):
    model = built(posenc)
    own = sum(parameter.numel() for parameter in model.encoding.parameters())
    shape = cost.Shape(24, 144, 2, 2, 4, 5, 2, encoding=own, encoding_flops=model.encoding.operations())
    assert cost.parameters(shape) == sum(parameter.numel() for parameter in model.parameters())
    # The counter knows all operations on tensors without data, which know no autocast. Two counts: what a pass does once, however
    # many images it sees, is no image's.
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())
    model, counts = model.to("meta"), []
    for images in (1, 3):
        x, t = (
            torch.zeros(images, 4, 8, 12, device="meta"),
            torch.zeros(images, dtype=torch.long, device="meta"),
        )
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(x, t, t)
        counts.append(counter.get_total_flops())
    assert (counts[1] - counts[0]) / 2 == pytest.approx(cost.forward_flops(shape), rel=1e-6)


def test_a_checkpoint_brings_it_back(posenc, tmp_path):
    options = {"absolute_table": True} if encoding_class(posenc).rotated else {}
    options |= {"rotary_base": 50.0} if encoding_class(posenc).base else {}
    model = built(posenc, **options)
    header = {"spec": {}, "step": 1, "model": asdict(model.config)}
    write_checkpoint(tmp_path / "0000001.safetensors", header, {"ema": model.state_dict()})
    found = load(tmp_path / "0000001.safetensors")
    assert found.config == model.config
    with torch.no_grad():
        assert torch.equal(answer(found), answer(model))


@pytest.mark.parametrize("image_size", [64, (64, 96), (160, 32), (16, 16)])
def test_any_size_that_divides(posenc, image_size):
    model = built(posenc, image_size)
    with torch.no_grad():
        output = answer(model)
    assert output.shape == (3, 8, *model.config.latent_size)
    assert output.isfinite().all() and output.std() > 0.01


def test_options_of_rotations(posenc):
    """Another base and an added table change what a rotation says; where nothing is rotated they are refused."""
    kind = encoding_class(posenc)
    known = [({"rotary_base": 100.0}, kind.base, "has no base"), ({"absolute_table": True}, kind.rotated, "")]
    outputs = [answer(built(posenc)).detach()]
    for option, applies, fault in known:
        if applies:
            outputs.append(answer(built(posenc, **option)).detach())
            continue
        with pytest.raises(
            ValueError, match=f"posenc {posenc} {fault if kind.rotated else 'does not rotate'}"
        ):
            built(posenc, **option)
    assert all((outputs[i] - outputs[j]).norm() > 1e-2 for i in range(len(outputs)) for j in range(i))
