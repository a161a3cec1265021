"""The picture of sizes: one noise, a row for each checkpoint, every size enlarged alike."""

import numpy as np
import pytest
from PIL import Image

from ditgta.__main__ import main
from ditgta.config import Sampling
from ditgta.report.sizes import BAND, GAP
from ditgta.runtime.errors import InputError
from ditgta.sampling import Sampler
from ditgta.stages import sizes
from tests.stages.test_train import run

OPTIONS = {"steps": 2, "cfg_scale": 1.0}


@pytest.fixture(scope="module")
def learned(tiny_latents, tmp_path_factory):
    out = tmp_path_factory.mktemp("sizes") / "abs-learned"
    run(tiny_latents, out, [4], posenc="abs-learned")
    return out / "0000004.safetensors"


def test_images_stand_where_they_belong(checkpoint, learned, tiny_autoencoder, tmp_path):
    out = tmp_path / "sizes.png"
    words = f"sizes {checkpoint} {learned} --autoencoder {tiny_autoencoder} --sizes 32,16x24 --label 2 --out {out}"
    assert (
        main([*words.split(), "--methods", "extrapolate", "interpolate", "--steps", "2", "--cfg-scale", "1"])
        == 0
    )
    picture = np.asarray(Image.open(out).convert("RGB"))
    zoom, columns = 6, [((16, 16), None)]  # 96 / 16
    columns += [(size, method) for size in ((32, 32), (16, 24)) for method in ("extrapolate", "interpolate")]
    widths = [zoom * size[1] for size, _ in columns]
    left = picture.shape[1] - sum(widths) - GAP * len(widths)
    for column, ((size, method), width) in enumerate(zip(columns, widths)):
        for row, path in enumerate((checkpoint, learned)):
            top = BAND + row * (zoom * 32 + GAP)
            cell = picture[top : top + zoom * size[0], left : left + width]
            if path is learned and method == "extrapolate":
                assert (cell == 255).mean() > 0.98  # empty, but for a dash
                continue
            options = Sampling(**OPTIONS, **({"size": size, "positions": method} if column else {}))
            image = Sampler.from_files(path, tiny_autoencoder, options, "cpu")([0], [2])[0]
            assert np.array_equal(cell, image.repeat(zoom, 0).repeat(zoom, 1)), (row, column)
        left += width + GAP


def test_mistakes_are_one_line(checkpoint, tiny_autoencoder, tmp_path, capfd):
    out = tmp_path / "sizes.png"
    common = {"methods": ["extrapolate"], "sampling": Sampling(**OPTIONS)}
    for given, message in [
        ({"sizes": [(32, 32)], "label": 7}, r"class 7 is not one of 0\.\.2"),
        ({"sizes": [(32, 18)], "label": 0}, "size 32x18 does not suit the network"),
    ]:
        with pytest.raises(InputError, match=message):
            sizes.run([checkpoint], tiny_autoencoder, out, **given, **common)
    for words in ("--sizes 32x", "--sizes 1x2x3", "--sizes 16 --methods extrapolte"):
        with pytest.raises(SystemExit) as caught:
            main(
                [*f"sizes {checkpoint} --autoencoder {tiny_autoencoder} --out {out}".split(), *words.split()]
            )
        assert caught.value.code == 2
    assert "write sides, or HEIGHTxWIDTH, separated by commas (got '32x')" in capfd.readouterr().err
    assert not out.exists()
