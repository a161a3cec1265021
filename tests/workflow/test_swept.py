"""A tiny suite with lists of guidance scales and of averages, from the images to the page."""

import copy
import csv

import pytest
from PIL import Image

from tests.conftest import TINY, run_snakemake

pytestmark = pytest.mark.slow
SCALES, DECAYS = [1, 2], [0.1, 0.7]


def test_a_sweep_runs_through(tmp_path):
    content = copy.deepcopy(TINY)
    content["suites"]["digits"]["milestones"] = [4]
    # So that four steps reach the averaged weights, and guidance the samples.
    content["experiments"]["digits"]["training"] |= {"warmup": 0, "ema_decay": 0.1}
    content["experiments"]["gta"] = {"training": {"ema_decay": DECAYS}}
    content["suites"]["digits"]["sampling"]["cfg_scale"] = SCALES
    done = run_snakemake(tmp_path, configs=(content,))
    assert done.code == 0, done.text[-4000:]
    (folder,) = tmp_path.glob("results/table/digits-*")
    lines = [line for line in csv.DictReader((folder / "sweep.csv").open()) if line["metric"] == "fid"]
    tried = {"rope": len(SCALES), "gta": len(SCALES) * len(DECAYS)}
    assert len(lines) == 2 * sum(tried.values())
    levels: dict[str, dict[str, dict[tuple, float]]] = {}
    for line in lines:
        by_noise = levels.setdefault(line["experiment"], {})
        point = (line["cfg_scale"], line["ema_decay"])
        by_noise.setdefault(line["noise"], {})[point] = float(line["value"])
    shown = {
        line["experiment"]: float(line["value"])
        for line in csv.DictReader((folder / "table.csv").open())
        if line["metric"] == "fid" and line["seed"]
    }
    for row, by_noise in levels.items():
        best = min(by_noise["choice"], key=by_noise["choice"].get)
        assert shown[row] == by_noise["report"][best] and by_noise["report"] != by_noise["choice"]
        points = by_noise["report"].values()
        assert len(set(points)) == tried[row], "guidance and averages reach the samples"
    text = (folder / "table.html").read_text()
    assert len(list(tmp_path.glob("results/loss/*/seed0/*.npz"))) == 1 + len(DECAYS)
    assert "FID against guidance and the EMA decay" in text and "by FID at 4 steps" in text
    assert Image.open(folder / "sweep.png").height > 300
    assert run_snakemake(tmp_path, "--dry-run", configs=(content,)).jobs == {}, "nothing is made twice"
