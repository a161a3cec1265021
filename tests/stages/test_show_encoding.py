"""The command show-encoding, from names and checkpoints to a picture; and the picture of the two-by-two."""

import math
import runpy

import numpy as np
import pytest
import torch
from PIL import Image

from ditgta import load
from ditgta.__main__ import main
from ditgta.loading import load_encoding
from ditgta.model.similarity import uniform_distance
from ditgta.stages.show_encoding import distances_of
from tests.conftest import ROOT


def test_names_and_checkpoints_side_by_side(checkpoint, tmp_path, capsys):
    small = ["--model", "DiT-Ti/2", "--image-size", "64"]
    assert main(["show-encoding", "rope", "bias", "--out", str(tmp_path / "names.png"), *small]) == 0
    assert "rope: 16 pairs a head, 88% of which make less than 0.25 turns" in capsys.readouterr().out
    assert main(["show-encoding", "rope", str(checkpoint), "--out", str(tmp_path / "both.png"), *small]) == 0
    names, both = (Image.open(tmp_path / name) for name in ("names.png", "both.png"))
    assert both.height > names.height + 400  # the distances stand below
    assert len(np.unique(np.asarray(names).reshape(-1, 3), axis=0)) > 50


def test_distances_of_a_checkpoint(checkpoint):
    network = load(checkpoint)
    found = distances_of(network, images=2, steps=3)
    assert found.shape == (1, 2) and (found > 0).all()
    assert not np.allclose(found, uniform_distance(*network.config.grid), atol=1e-6)
    assert np.array_equal(found, distances_of(network, images=2, steps=3))


def test_an_encoding_is_loaded_without_its_network(tiny_latents, tmp_path):
    from ditgta.config import Model, Training
    from ditgta.stages import train

    model = Model(name="DiT-Ti/1", depth=1, width=32, heads=2, posenc="rope-mixed", rotary_base=5.0)
    train.run(
        tiny_latents, tmp_path, [3], model, Training(batch_size=12, learning_rate=1e-2, ema_decay=0.5), seed=0
    )
    found, whole = load_encoding(tmp_path / "0000003.safetensors"), load(tmp_path / "0000003.safetensors")
    assert found.base == 5.0 and torch.equal(found.theta, whole.encoding.theta)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["rop"], "posenc 'rop' is unknown"),
        (["nowhere:Own"], "there is no nowhere.py"),
        (["gone.safetensors"], "checkpoint gone.safetensors does not exist"),
        (["rope", "--model", "DiT-Q/2"], "model 'DiT-Q/2' is unknown"),
    ],
)
def test_mistakes_are_one_line(words, said, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["show-encoding", *words, "--out", "new.png"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("ditgta show-encoding: error: ") and said in line
    assert not (tmp_path / "new.png").exists()


def test_the_picture_of_the_two_by_two(tmp_path):
    """Weights fall with distance where queries and keys are rotated; arrows turn with the column where values are."""
    script = runpy.run_path(str(ROOT / "docs/images/two_by_two.py"))
    weights, arrows = zip(*map(script["seen_from_the_centre"], ("none", "rope", "vo", "gta")))
    assert np.allclose(weights[0], 1 / 81) and np.array_equal(weights[2], weights[0])
    assert weights[1].argmax() == 40 and np.array_equal(weights[3], weights[1])
    assert np.allclose(arrows[0], [1, 0]) and np.array_equal(arrows[1], arrows[0])
    turn = 100 ** (-1 / 8)  # of the second pair that turns with the column
    expected = [[math.cos((token % 9 - 4) * turn), math.sin((token % 9 - 4) * turn)] for token in range(81)]
    assert np.allclose(arrows[2], expected, atol=1e-5) and np.array_equal(arrows[3], arrows[2])
    script["draw"]().savefig(tmp_path / "drawn.png")
    sizes = [Image.open(path).size for path in (tmp_path / "drawn.png", ROOT / "docs/images/two-by-two.png")]
    assert sizes[0] == sizes[1]
