"""DINOv2's transformer: against the library's own, stored features, the authors' names, and written-out positions."""

from pathlib import Path

import numpy as np
import pytest
import torch

from ditgta.scoring.dinov2 import DINOv2, load_dinov2
from tests.golden.dinov2.recipe import CASES, OUT, images, weights

STORED = np.load(OUT)


def authors_names(tensors: dict) -> dict:
    """Returns the tensors of a network here under the names of the authors' files."""
    found = {"mask_token": torch.zeros(1, tensors["cls_token"].shape[-1])}
    for name, tensor in tensors.items():
        name = name.replace("patch_embed.", "patch_embed.proj.")
        for layer, group in (("qkv", "attn"), ("fc1", "mlp"), ("fc2", "mlp")):
            name = name.replace(f".{layer}.", f".{group}.{layer}.")
        if name.startswith("blocks."):
            name = name.replace(".proj.", ".attn.proj.")
        for layer in ("ls1", "ls2"):
            name = name.replace(f".{layer}", f".{layer}.gamma")
        found[name] = tensor
    return found


@pytest.mark.parametrize("case", CASES)
def test_features_are_those_of_the_library(case):
    """Of the published table's 37 x 37 positions at 518 pixels, and with registers, whose rule is one for all, at 224 too."""
    network = load_dinov2(weights(case))
    with torch.no_grad():
        for side in (518, 224):
            if f"{case} {side}" in STORED:
                found = network.tokens(images(side))
                stored = torch.from_numpy(STORED[f"{case} {side}"])
                assert (found[:, ::97].double() - stored).abs().max() < 2e-6 * stored.abs().max(), side


def test_the_library_itself_agrees():
    transformers = pytest.importorskip("transformers")
    for case, (config, model) in {
        "plain": ("Dinov2Config", "Dinov2Model"),
        "registers": ("Dinov2WithRegistersConfig", "Dinov2WithRegistersModel"),
    }.items():
        theirs = getattr(transformers, model)(getattr(transformers, config)(**CASES[case])).eval()
        theirs.load_state_dict(weights(case), strict=False)
        own = load_dinov2(dict(theirs.state_dict()))
        with torch.no_grad():
            assert torch.allclose(own.tokens(images(518)), theirs(images(518)).last_hidden_state, atol=1e-5)


def hub_names(tensors: dict) -> dict:
    """Returns tensors under the names of the library's own files, which are older than those of its networks."""
    old = {
        f"{letter}_proj": f"attention.{word}"
        for letter, word in (("q", "query"), ("k", "key"), ("v", "value"))
    }
    found = {}
    for name, tensor in tensors.items():
        for new, word in {**old, "o_proj": "output.dense"}.items():
            name = name.replace(f"attention.{new}", f"attention.{word}")
        found[name] = tensor
    return found


@pytest.mark.parametrize("case", CASES)
def test_all_ways_of_naming_are_one_network(case):
    plain = load_dinov2(weights(case))
    for named in (authors_names(plain.state_dict()), hub_names(weights(case))):
        other = load_dinov2(named)
        assert all(
            torch.equal(a, b) for a, b in zip(plain.state_dict().values(), other.state_dict().values())
        )
    assert other.name.endswith("with registers") == (case == "registers")


def cubic(distance: np.ndarray) -> np.ndarray:
    """Returns the weights of bicubic interpolation with a = -0.75."""
    d, a = np.abs(distance), -0.75
    near, far = (a + 2) * d**3 - (a + 3) * d**2 + 1, a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a
    return np.where(d <= 1, near, np.where(d < 2, far, 0))


def test_positions_are_interpolated_as_the_authors_do():
    """With their offset of 0.1: place i of 16 lies at (i + 1/2) 37 / 16.1 - 1/2 of the table, and oblong grids are not turned."""
    network = load_dinov2(weights("plain"))
    table = network.pos_embed[0, 1:].view(37, 37, -1).double().numpy()

    def matrix(count: int) -> np.ndarray:
        places = (np.arange(count) + 0.5) * 37 / (count + 0.1) - 0.5
        found = np.zeros((count, 37))
        for i, place in enumerate(places):
            for k in range(int(np.floor(place)) - 1, int(np.floor(place)) + 3):
                found[i, min(max(k, 0), 36)] += cubic(place - k)
        return found

    for rows, columns in ((16, 16), (16, 23)):
        expected = np.einsum("ri,cj,ijd->rcd", matrix(rows), matrix(columns), table).reshape(
            rows * columns, -1
        )
        found = network._positions(rows, columns)[0]
        assert torch.equal(found[0], network.pos_embed[0, 0])
        assert np.abs(found[1:].double().numpy() - expected).max() < 1e-5 * np.abs(table).max()


def test_images_are_resized_and_normalised():
    network = load_dinov2(weights("plain"))
    grey = torch.full((1, 30, 50, 3), 128, dtype=torch.uint8)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    pixels = ((128 / 255 - mean) / std).view(1, 3, 1, 1).expand(1, 3, 224, 224)
    with torch.no_grad():
        assert torch.allclose(network(grey).class_token, network.tokens(pixels)[:, 0], atol=1e-5)
    striped = torch.zeros(2, 224, 224, 3, dtype=torch.uint8)
    striped[0, :, :112], striped[1, :112] = 255, 255
    one, other = network(striped).class_token
    assert not torch.allclose(one, other, atol=1e-3), "rows and columns are told apart"


def test_other_weights_are_refused():
    good = load_dinov2(weights("plain")).state_dict()
    for change, words in [
        ({"cls_token": None}, "cls_token of DINOv2 is missing"),
        ({"blocks.1.ls1": None}, "blocks.1.ls1 is missing"),
        ({"head.weight": torch.zeros(2)}, "head.weight is one tensor too many"),
        ({"norm.bias": torch.zeros(3)}, r"norm.bias is \[3\], not"),
        ({"pos_embed": torch.zeros(1, 7, 128)}, "7 positions"),
        ({"patch_embed.weight": torch.zeros(128, 3, 16, 16)}, "patches are not 14 x 14"),
        ({"blocks.0.mlp.w12.weight": torch.zeros(2)}, "ViT-g"),
    ]:
        changed = {**good, **change}
        with pytest.raises(ValueError, match=words):
            load_dinov2({name: tensor for name, tensor in changed.items() if tensor is not None})


def test_published_sizes_have_their_names():
    with torch.device("meta"):
        assert DINOv2(1024, 24).name == "DINOv2 ViT-L/14"
        assert DINOv2(384, 12, registers=4).name == "DINOv2 ViT-S/14 with registers"


def test_golden_features_are_small():
    assert Path(OUT).stat().st_size < 200_000
