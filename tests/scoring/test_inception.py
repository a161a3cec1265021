"""The Inception network against stored outputs of the original graph, with random weights made from a recipe."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from ditgta.runtime.errors import InputError
from ditgta.scoring.inception import Features, InceptionV3, load_inception, resize_tf1
from tests.golden.inception import recipe

GOLDEN = Path(recipe.__file__).parent
NAMES = {"spatial": "spatial2023", "probabilities": "softmax_nobias"}


@pytest.fixture(scope="module")
def random_weights():
    return {key: torch.from_numpy(array) for key, array in recipe.random_state_dict().items()}


@pytest.fixture(scope="module")
def published(random_weights):
    return load_inception(random_weights)


@pytest.fixture(scope="module")
def small():
    """A network of width 1/16 whose running statistics are not trivial."""
    torch.manual_seed(0)
    model = InceptionV3(width=1 / 16, num_classes=10, input_size=75)
    for name, tensor in model.state_dict().items():
        if name.endswith(("running_mean", "bn.bias")):
            tensor.normal_(0, 0.2)
        if name.endswith(("running_var", "bn.weight")):
            tensor.uniform_(0.5, 1.5)
    return model.eval()


def _images(count, height, width=None, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, height, width or height, 3), dtype=np.uint8)


def _relative(found, expected):
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    return np.linalg.norm(found - expected) / np.linalg.norm(expected)


def test_recipe_gives_the_stored_weights(random_weights):
    expected = json.loads((GOLDEN / "state_dict_sha.json").read_text())["per_tensor_sha256_first16"]
    for key, start in list(expected.items())[::40]:
        assert hashlib.sha256(random_weights[key].numpy().tobytes()).hexdigest()[:16] == start


def test_state_dict_has_the_472_published_tensors():
    with torch.device("meta"):
        state = InceptionV3().state_dict()
    expected = json.loads((GOLDEN / "inception_keys.json").read_text())["keys"]
    assert len(state) == 472
    assert {key: list(tensor.shape) for key, tensor in state.items()} == dict(expected)


@pytest.mark.parametrize("name", ["img256", "img32"])
@pytest.mark.parametrize("fused", [False, True], ids=["plain", "fused"])
def test_all_features_equal_the_golden_ones(published, name, fused):
    images, golden = np.load(GOLDEN / "images.npz")[name], np.load(GOLDEN / "features.npz")
    network = published.fuse() if fused else published
    for tap, found in network.taps(images).items():
        expected = golden[f"{name}/{NAMES.get(tap, tap)}"]
        assert found.shape == expected.shape
        assert _relative(found, expected) < 3e-5, tap


def test_forward_gives_the_taps_in_one_tuple(published):
    images = np.load(GOLDEN / "images.npz")["img32"][:2]
    features, taps = published(images), published.taps(images)
    assert isinstance(features, Features)
    assert features.pool3.shape == (2, 2048) and features.spatial.shape == (2, 2023)
    for found, tap in zip(features, ("2048", "spatial", "probabilities", "logits"), strict=True):
        assert torch.equal(found, taps[tap])
    assert torch.allclose(features.probabilities.sum(1), torch.ones(2))


@pytest.mark.parametrize("name", ["img256", "img32"])
def test_resize_is_tensorflows_bit_for_bit(name):
    golden = np.load(GOLDEN / "tf1_resize.npz")
    resized = resize_tf1(np.load(GOLDEN / "images.npz")[name], 299)[0].numpy()
    for place, values in {
        "row0": resized[0],
        "row150": resized[150],
        "row298": resized[298],
        "col0": resized[:, 0],
        "col298": resized[:, 298],
    }.items():
        assert np.array_equal(values, golden[f"{name}/{place}"]), place
    assert hashlib.sha256(resized.tobytes()).digest() == golden[f"{name}/sha256"].tobytes()


@pytest.mark.parametrize("height, width, size", [(7, 13, 20), (40, 21, 9), (16, 16, 16), (1, 5, (3, 8))])
def test_resize_of_any_shape_follows_the_definition(height, width, size):
    images = _images(3, height, width)
    height_out, width_out = (size, size) if isinstance(size, int) else size
    expected = np.empty((3, height_out, width_out, 3), np.float32)
    f32 = np.float32
    for row in range(height_out):
        y = f32(row) * (f32(height) / f32(height_out))
        top, dy = int(y), y - f32(int(y))
        bottom = min(top + 1, height - 1)
        for column in range(width_out):
            x = f32(column) * (f32(width) / f32(width_out))
            left, dx = int(x), x - f32(int(x))
            right = min(left + 1, width - 1)
            corner = images.astype(f32)
            above = corner[:, top, left] + (corner[:, top, right] - corner[:, top, left]) * dx
            below = corner[:, bottom, left] + (corner[:, bottom, right] - corner[:, bottom, left]) * dx
            expected[:, row, column] = above + (below - above) * dy
    assert np.array_equal(resize_tf1(images, size).numpy(), expected)


@pytest.mark.parametrize("width, input_size, spatial", [(1 / 16, 75, 3 * 3 * 7), (1 / 8, 107, 5 * 5 * 7)])
def test_reduced_width_scales_every_channel_count(width, input_size, spatial):
    model = InceptionV3(width, num_classes=5, input_size=input_size).eval()
    with torch.device("meta"):
        full = InceptionV3().state_dict()
    for key, tensor in model.state_dict().items():
        if not key.startswith("fc."):
            assert tensor.shape[0] == full[key].shape[0] * width
    features = model(_images(2, 32))
    assert features.pool3.shape == (2, 2048 * width) and model.pool3_channels == 2048 * width
    assert features.spatial.shape == (2, spatial)
    assert features.logits.shape == features.probabilities.shape == (2, 5)


def test_probabilities_leave_the_bias_out(small):
    features = small(_images(3, 40))
    expected = (features.logits - small.fc.bias).softmax(1)
    assert torch.allclose(features.probabilities, expected, atol=1e-6)


def test_fused_equals_unfused(small):
    images, fused = _images(5, 48, 64), small.fuse()
    for tap, expected in small.taps(images).items():
        assert _relative(fused.taps(images)[tap], expected.detach()) < 1e-5, tap
    assert small.Conv2d_1a_3x3.bn is not None and not any(p.requires_grad for p in fused.parameters())


def test_images_do_not_depend_on_the_batch(small):
    images = _images(21, 32)
    fused = small.fuse()
    whole, single = fused(images).pool3, torch.cat([fused(image[None]).pool3 for image in images])
    assert _relative(single, whole) < 1e-6
    assert small(images[:0]).pool3.shape == (0, 128)


def test_forward_switches_tf32_off_and_puts_it_back(small, monkeypatch):
    seen = []
    monkeypatch.setattr(
        small,
        "_taps",
        lambda *_: seen.append((torch.backends.cudnn.allow_tf32, torch.is_autocast_enabled("cpu"))) or {},
    )
    before = torch.backends.cudnn.allow_tf32
    with torch.autocast("cpu", dtype=torch.bfloat16):
        small.taps(_images(1, 32), ())
        assert torch.is_autocast_enabled("cpu")
    assert seen == [(False, False)] and torch.backends.cudnn.allow_tf32 == before


def test_autocast_does_not_touch_the_features(small):
    images, expected = _images(2, 32), small(_images(2, 32)).pool3
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(small(images).pool3, expected)


def test_load_finds_width_and_classes(small):
    loaded = load_inception({key: value.numpy() for key, value in small.state_dict().items()}, input_size=75)
    assert (loaded.width, loaded.num_classes, loaded.training) == (1 / 16, 10, False)
    images = _images(2, 32)
    assert torch.equal(loaded(images).pool3, small(images).pool3)


def _faulty(state, fault):
    state = dict(state)
    if fault == "missing":
        del state["Mixed_6d.branch1x1.conv.weight"]
    elif fault == "unexpected":
        state["AuxLogits.fc.weight"] = torch.zeros(3)
    elif fault == "shape":
        state["Mixed_7c.branch_pool.bn.bias"] = torch.zeros(3)
    elif fault == "other network":
        state = {"conv1.weight": torch.zeros(64, 3, 7, 7)}
    elif fault == "width":
        state["Conv2d_1a_3x3.conv.weight"] = torch.zeros(33, 3, 3, 3)
    elif fault == "not tensors":
        state = {"epoch": 3, "fc.weight": 4}
    return state


@pytest.mark.parametrize(
    "fault, named",
    [
        ("missing", "Mixed_6d.branch1x1.conv.weight is missing"),
        ("unexpected", "AuxLogits.fc.weight is unexpected"),
        ("shape", r"Mixed_7c.branch_pool.bn.bias has shape \[3\], not \[12\]"),
        ("other network", "not FID Inception weights"),
        ("width", r"Conv2d_1a_3x3.conv.weight has shape \[33, 3, 3, 3\]"),
        ("not tensors", "not FID Inception weights"),
    ],
)
def test_load_names_what_is_wrong_in_one_line(small, fault, named):
    with pytest.raises(InputError, match=named) as caught:
        load_inception(_faulty(small.state_dict(), fault))
    assert "\n" not in str(caught.value)


def test_network_refuses_what_it_cannot_be():
    with pytest.raises(InputError, match=r"width 0\.1 is not a positive multiple of 1/16"):
        InceptionV3(width=0.1)
    with pytest.raises(InputError, match="input_size 64 is too small"):
        InceptionV3(width=1 / 16, input_size=64)


@pytest.mark.parametrize("images", [np.zeros((2, 8, 8, 3), np.float32), np.zeros((8, 8, 3), np.uint8)])
def test_images_of_another_kind_are_refused(small, images):
    with pytest.raises(InputError, match=r"give uint8 of shape \(N, height, width, 3\)"):
        small(images)
