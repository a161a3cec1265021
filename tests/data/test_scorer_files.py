"""Finding and reading a scorer's weights."""

import json

import pytest
import torch
from safetensors.torch import save_file

from ditgta.data import scorer_files
from ditgta.data.scorer_files import PUBLISHED_NAME, PUBLISHED_SHA256, fetch_scorer, find_weights, read_scorer
from ditgta.runtime.errors import InputError
from ditgta.runtime.files import sha256_of
from ditgta.scoring.inception import InceptionV3

TENSORS = {"Conv2d_1a_3x3.conv.weight": torch.ones(4, 3, 3, 3), "fc.weight": torch.zeros(5, 7)}


def test_published_weights_are_known_by_their_bytes(tmp_path, monkeypatch):
    path = tmp_path / "any.name"
    torch.save(TENSORS, path)
    found = read_scorer(path)
    assert not found.published and found.input_size == 299 and found.sha256 == sha256_of(path)
    assert torch.equal(found.tensors["fc.weight"], TENSORS["fc.weight"])
    assert found.description()["name"] == "Inception-V3 of unknown origin"
    monkeypatch.setattr(scorer_files, "PUBLISHED_SHA256", sha256_of(path))
    assert read_scorer(path).description()["published"] is True


def test_trained_scorer(tmp_path):
    details = {"width": 0.125, "input_size": 75, "num_classes": 5, "accuracy": 0.9, "classes": ["a"] * 5}
    save_file(TENSORS, tmp_path / "scorer.safetensors", metadata={"ditgta": json.dumps(details)})
    described = read_scorer(tmp_path / "scorer.safetensors").description()
    assert described["width"] == 0.125 and described["input_size"] == 75 and described["accuracy"] == 0.9
    assert described["published"] is False and "trained" in described["name"]


@pytest.mark.parametrize("kind", ["pth", "legacy", "safetensors"])
@pytest.mark.parametrize("keep", [0.0, 0.3, 0.9])
def test_truncated_weights(tmp_path, kind, keep):
    path = tmp_path / "weights"
    if kind == "safetensors":
        save_file(TENSORS, path)
    else:
        torch.save(TENSORS, path, _use_new_zipfile_serialization=kind == "pth")
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    with pytest.raises(InputError, match="truncated") as caught:
        read_scorer(path)
    assert "\n" not in str(caught.value)


def test_pickled_code_is_never_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    torch.save({"x": Trap()}, tmp_path / "weights.pth")
    with pytest.raises(InputError, match="is refused: it asks for"):
        read_scorer(tmp_path / "weights.pth")
    assert not (tmp_path / "ran").exists()
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(InputError, match="no Inception weights"):
        read_scorer(tmp_path / "list.pth")


def test_where_the_published_file_is_looked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    with pytest.raises(InputError, match=f"download https://.*{PUBLISHED_NAME} to weights/{PUBLISHED_NAME}"):
        find_weights(None, tmp_path / "results" / "scores.json")
    with pytest.raises(InputError, match=r"given\.pth does not exist"):
        find_weights(tmp_path / "given.pth", tmp_path / "scores.json")
    hub = tmp_path / "torch" / "hub" / "checkpoints"
    for folder in (hub, tmp_path / "results", tmp_path / "weights"):
        folder.mkdir(parents=True)
        (folder / PUBLISHED_NAME).touch()
        assert find_weights(None, tmp_path / "results" / "scores.json").resolve().parent == folder


def test_fetching_takes_a_local_file_and_names_what_is_wrong(tmp_path):
    weights = InceptionV3(width=1 / 16, num_classes=4, input_size=75).state_dict()
    torch.save(weights, tmp_path / "mine.pth")
    found = fetch_scorer(str(tmp_path / "mine.pth"), tmp_path / "out" / "scorer.safetensors")
    assert (
        not found.published
        and (tmp_path / "out" / "scorer.safetensors").read_bytes() == (tmp_path / "mine.pth").read_bytes()
    )

    torch.save(weights, tmp_path / PUBLISHED_NAME)
    mistakes = {
        str(
            tmp_path / PUBLISHED_NAME
        ): f"wrong or truncated: sha256 {sha256_of(tmp_path / PUBLISHED_NAME)}, published {PUBLISHED_SHA256}",
        str(tmp_path / "none.pth"): "does not exist",
        "https://127.0.0.1:9/scorer.pth": "cannot download .* copy it here",
    }
    (tmp_path / "cut.pth").write_bytes((tmp_path / "mine.pth").read_bytes()[:2000])
    mistakes[str(tmp_path / "cut.pth")] = "cut.pth is truncated"
    for source, message in mistakes.items():
        with pytest.raises(InputError, match=message) as caught:
            fetch_scorer(source, tmp_path / "other" / "scorer.safetensors")
        assert "\n" not in str(caught.value)
        assert not list((tmp_path / "other").iterdir())
