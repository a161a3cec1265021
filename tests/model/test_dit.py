"""The transformer's public behaviour: sizes, refusals, initial weights, guidance."""

import json
from dataclasses import asdict

import pytest
import torch

from ditgta import DiT, DiTConfig, config, guided
from ditgta.config.names import PATCHES, SIZES, named_sizes

SMALL = {"depth": 2, "width": 48, "heads": 2}


def small(posenc="gta", image_size=64, **more):
    return DiT.from_name("DiT-S/2", image_size, posenc, 5, **{**SMALL, **more})


def shaken(model):
    """Gives every parameter a value, since adaLN-zero makes a new model's output zero."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    return model


def inputs(model):
    torch.manual_seed(1)
    return (
        torch.randn(3, 4, *model.config.latent_size),
        torch.tensor([0, 500, 999]),
        torch.tensor([0, 3, 4]),
    )


@pytest.mark.parametrize(
    "size, depth, width, heads, millions",
    [("S", 12, 384, 6, 33), ("B", 12, 768, 12, 130), ("L", 24, 1024, 16, 458), ("XL", 28, 1152, 16, 675)],
)
def test_named_sizes(size, depth, width, heads, millions):
    with torch.device("meta"):
        model = DiT(DiTConfig((32, 32), 2, depth, width, heads, 1000, "none"))
    assert sum(parameter.numel() for parameter in model.parameters()) / 1e6 == pytest.approx(
        millions, rel=0.02
    )
    assert named_sizes(f"DiT-{size}/4") == {
        "patch": 4,
        "depth": depth,
        "width": width,
        "heads": heads,
    }


def test_the_configuration_takes_every_name_and_no_other():
    for size in SIZES:
        for patch in PATCHES:
            assert config.Model(name=f"DiT-{size}/{patch}").name
    for name in ("DiT-B/16", "DiT-M/2", "B/2", "DiT-B/2x"):
        with pytest.raises(ValueError, match="should match pattern"):
            config.Model(name=name)


@pytest.mark.parametrize(
    "name, options, message",
    [
        ("DiT-B/3", {}, "DiT-SIZE/PATCH"),
        ("B/2", {}, "DiT-SIZE/PATCH"),
        ("DiT-B/2", {"image_size": 250}, "multiples of 16"),
        ("DiT-B/8", {"image_size": (256, 288)}, "multiples of 64"),
        ("DiT-B/2", {"posenc": "ropes"}, "unknown"),
        ("DiT-B/2", {"width": 100, "heads": 12}, "head width"),
        ("DiT-B/2", {"num_classes": 0}, "num_classes"),
        ("DiT-B/2", {"rotary_base": 1}, "greater than 1"),
    ],
)
def test_refusals(name, options, message):
    with pytest.raises(ValueError, match=message):
        DiT.from_name(name, **{"depth": 1, **options})


def test_a_wrong_input_is_named():
    with pytest.raises(ValueError, match=r"expected \(B, 4"):
        small()(torch.zeros(1, 4, 9, 8), torch.zeros(1), torch.zeros(1, dtype=torch.long))


def test_initial_weights_depend_on_the_seed_and_are_common_to_all_encodings():
    first, same, other = small("gta"), small("rope"), small("gta", seed=1)
    for (name, a), b, c in zip(first.named_parameters(), same.parameters(), other.parameters()):
        assert torch.equal(a, b), name
        random = not (name.endswith(("bias", "scale")) or "adaLN" in name or name.startswith("final"))
        assert random != torch.equal(a, c), name
    qkv, labels = first.blocks[0].attn.qkv.weight.detach(), first.y_embedder.embedding_table.weight.detach()
    assert qkv.abs().max() <= (6 / (48 + 144)) ** 0.5 and float(qkv.std()) == pytest.approx(
        (2 / (48 + 144)) ** 0.5, rel=0.05
    )
    assert float(labels.std()) == pytest.approx(0.02, rel=0.1)
    assert first(*inputs(first)).abs().max() == 0


def test_options_that_a_checkpoint_does_not_name_have_their_defaults():
    options = asdict(small().config)
    assert (options.pop("rotary_base"), options.pop("absolute_table")) == (None, False)
    assert DiTConfig(**options) == small().config


def test_the_configuration_of_a_network_survives_json_and_cannot_be_changed():
    config = small("rope", image_size=(64, 96), rotary_base=50.0).config
    assert DiTConfig(**json.loads(json.dumps(asdict(config)))) == config
    with pytest.raises(AttributeError):
        config.depth = 3


def test_the_absolute_table_is_added_as_it_is_and_kept_in_the_weights():
    model = small("gta-mixed", absolute_table=True)
    assert torch.equal(model.pos_embed, small("abs").pos_embed)
    assert model.state_dict().keys() == small("abs").state_dict().keys() | {"encoding.theta"}
    model = shaken(model)
    with torch.no_grad():
        there = model(*inputs(model))
        model.pos_embed.zero_()
        assert (model(*inputs(model)) - there).norm() / there.norm() > 1e-3


def test_a_fixed_table_is_one_tensor_for_all_blocks():
    model = small("gta")
    tables = [table.rotation.data_ptr() for table in model.encoding.tables()]
    assert tables == 2 * [model.encoding.kept_rotation.data_ptr()]


def test_guidance():
    model = shaken(small())
    x, t, y = inputs(model)
    with torch.no_grad():
        conditional, null = model(x, t, y), model(x, t, torch.full_like(y, 5))
        assert torch.allclose(guided(model, x, t, y, 1.0), conditional)
        three, four = guided(model, x, t, y, 1.5, "3"), guided(model, x, t, y, 1.5)
    expected = null + 1.5 * (conditional - null)
    assert torch.allclose(three[:, :3], expected[:, :3], atol=1e-5)
    assert torch.allclose(three[:, 3:], conditional[:, 3:], atol=1e-5)
    assert torch.allclose(four[:, :4], expected[:, :4], atol=1e-5)
    assert not torch.allclose(four[:, 3], three[:, 3], atol=1e-4)
    assert guided(model, x, t, y, 1.5, precision=torch.float64).dtype == torch.float64


def test_guidance_of_any_model():
    """A model without variance channels and without classes of its own, asked for one timestep of all images."""
    x, y = torch.randn(3, 2, 4, 4), torch.tensor([0, 1, 1])
    predict = lambda x, t, y: x * t[:, None, None, None] + y[:, None, None, None]  # noqa: E731
    found = guided(predict, x, torch.tensor([2]), y, 3.0, null=7)
    null, conditional = 2 * x + 7, 2 * x + y[:, None, None, None]
    assert torch.allclose(found, null + 3 * (conditional - null))


def test_one_timestep_stands_for_all_images():
    model = shaken(small())
    x, t, y = inputs(model)
    with torch.no_grad():
        shared = guided(model, x, t[:1], y, 1.5)
        assert torch.allclose(guided(model, x, t[:1].expand(len(x)), y, 1.5), shared, atol=1e-5)
        assert torch.allclose(model(x, t[:1].expand(len(x)), y), model(x, t[:1], y), atol=1e-5)


def test_patches_return_to_their_places():
    model = small()
    tokens = torch.arange(16 * 2 * 2 * 8).float().reshape(1, 16, 32)
    latent = model.unpatchify(tokens)
    for row, column, channel in ((0, 0, 0), (3, 6, 5), (7, 7, 7)):
        token, inside = (row // 2) * 4 + column // 2, (row % 2) * 2 + column % 2
        assert latent[0, channel, row, column] == tokens[0, token, inside * 8 + channel]


def test_a_label_std_changes_the_conditioning_alone():
    plain, wide = (DiT.from_name("DiT-Pi/2", 16, downsampling=1, label_std=std) for std in (None, 0.5))
    changed = {
        name
        for (name, one), other in zip(plain.state_dict().items(), wide.state_dict().values())
        if not torch.equal(one, other)
    }
    assert {name.split(".")[0] for name in changed} == {"t_embedder", "y_embedder"}
    assert 0.45 < float(wide.y_embedder.embedding_table.weight.detach().std()) < 0.55
    weight = wide.t_embedder.mlp[0].weight.detach()
    assert float(weight.abs().max()) <= (6 / sum(weight.shape)) ** 0.5 and float(weight.std()) > 0.05
