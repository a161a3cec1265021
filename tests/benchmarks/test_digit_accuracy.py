"""The digits' classifier: held-out digits are tried, and samples are found where the workflow puts them."""

from pathlib import Path

import numpy as np
import pytest
import yaml

from benchmarks import digit_accuracy
from ditgta.config import load
from ditgta.data.images import load_index
from ditgta.layout import Layout, Row
from ditgta.runtime.errors import InputError
from ditgta.runtime.files import sha256_of, write_json
from ditgta.stages import images
from tests.conftest import ROOT

RAW = yaml.safe_load((ROOT / "config.yaml").read_text())


def sampled(folder: Path, pictures: np.ndarray, labels: np.ndarray) -> None:
    """Writes samples as the sample stage does."""
    folder.mkdir(parents=True)
    np.savez(folder / "00000.npz", arr_0=pictures, arr_1=labels)
    shard = {"file": "00000.npz", "sha256": sha256_of(folder / "00000.npz"), "start": 0, "count": len(labels)}
    write_json(
        folder / "index.json", {"count": len(labels), "shape": list(pictures.shape[1:]), "shards": [shard]}
    )


def test_shares_of_samples_that_are_digits_and_of_others(tmp_path, capsys):
    config = load(RAW)
    layout = Layout(config, str(tmp_path))
    with pytest.raises(InputError, match="holds no samples of the suite digits"):
        digit_accuracy.main(tmp_path, config)
    images.run(Path(layout.images("gta")), layout.specs.listed("gta"))
    held_out = load_index(layout.held_out("gta"))
    pictures, labels = np.stack([held_out.image(i) for i in range(held_out.count)]), held_out.labels
    rows = [Row("gta", 0, 1500), Row("rope", 1, 1500)]
    sampled(Path(layout.samples("digits", rows[0])), pictures, labels)
    sampled(
        Path(layout.samples("digits", rows[1])), pictures, np.where(labels < 5, labels, 5 + (labels - 4) % 5)
    )
    found = digit_accuracy.main(tmp_path, config)
    assert set(found) == {"gta/seed0/0001500", "rope/seed1/0001500"}
    real = found["gta/seed0/0001500"]
    assert 0.9 < real < 1, "the digits that it was fitted on would all be right"
    assert found["rope/seed1/0001500"] == pytest.approx(0.5, abs=0.03), "the labels of half of them are wrong"
    assert f"SVM on real digits: {real:.1%} of held-out images right" in capsys.readouterr().out
