"""What scoring and other sizes cost, with numbers written out: operations of a second judge, images that networks see."""

from collections import Counter

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.utils.flop_counter import FlopCounterMode

from ditgta import config
from ditgta.planning import cost
from ditgta.planning.estimate import plan
from ditgta.planning.networks import autoencoder_cost, inception_flops, judge_sizes
from ditgta.planning.scoring import BASELINE_DRAWS, METRIC_SECONDS, metric_seconds, scored_images
from ditgta.planning.work import SuiteWork
from ditgta.scoring.dinov2 import INPUT_SIZE, PATCH, DINOv2
from ditgta.stages.score import DRAWS

# L (24 T D^2 + 4 T^2 D) of 257 tokens, and 2 x 256 x 588 D of the patches.
JUDGES = {
    "dinov2_vits14_pretrain.pth": 12 * (24 * 257 * 384**2 + 4 * 257**2 * 384) + 115_605_504,
    "dinov2_vitb14_pretrain.pth": 46_322_454_528,
    "dinov2_vitl14_pretrain.pth": 162_023_964_672,
    "elsewhere.pth": 162_023_964_672,
    "dinov2_vits14_reg4_pretrain.pth": 12 * (24 * 261 * 384**2 + 4 * 261**2 * 384) + 115_605_504,
}
# Operations of DiT-Pi/2 on pixels, whose width is 64 and depth 4, with 36, 54 and 144 tokens.
FORWARD = {36: 15_773_696, 54: 24_528_896, 144: 78_258_176}


@pytest.mark.parametrize("name", JUDGES)
def test_a_second_judge_is_counted_by_the_name_of_its_file(name):
    assert judge_sizes(name) == cost.judge_sizes(name)
    assert cost.judge_flops(*judge_sizes(name)) == JUDGES[name]


@pytest.mark.parametrize(("width", "depth", "registers"), [(384, 12, 0), (768, 12, 4), (1024, 24, 0)])
def test_the_formula_of_a_second_judge_agrees_with_a_counter(width, depth, registers):
    with torch.device("meta"), FlopCounterMode(display=False) as counter, torch.no_grad():
        DINOv2(width, depth, registers=registers).tokens(torch.zeros(1, 3, INPUT_SIZE, INPUT_SIZE))
    assert counter.get_total_flops() == cost.judge_flops(width, depth, registers)
    assert (PATCH, (INPUT_SIZE // PATCH) ** 2) == (cost.JUDGE_PATCH, cost.JUDGE_PATCHES)


@pytest.mark.parametrize("kind", [torch.float32, torch.float16])
def test_a_second_judge_of_any_name_is_known_by_its_tensors(kind, tmp_path):
    """Not by its bytes: a file of float16 is half as large, and one of other sizes is none of the three."""
    network = DINOv2(128, 3, side=2, registers=4).to(kind).state_dict()
    torch.save(network, tmp_path / "judge.pth")
    save_file(network, tmp_path / "judge.safetensors")
    renamed = {
        "embeddings.cls_token": torch.zeros(1, 1, 64),
        "encoder.layer.1.layer_scale1.lambda1": torch.ones(64),
    }
    save_file(renamed, tmp_path / "transformers.safetensors")
    (tmp_path / "dinov2_vitb14.pth").write_bytes(b"damaged")
    found = [judge_sizes(str(path)) for path in sorted(tmp_path.iterdir())]
    assert found == [(768, 12, 0), (128, 3, 4), (128, 3, 4), (64, 2, 0)]


@pytest.mark.parametrize(("width", "depth"), cost.JUDGES.values())
@pytest.mark.parametrize("size", [4, 2])
def test_status_knows_a_second_judge_by_the_size_of_its_file(width, depth, size, tmp_path):
    with torch.device("meta"):
        count = sum(parameter.numel() for parameter in DINOv2(width, depth).parameters())
    with open(tmp_path / "judge.bin", "wb") as file:
        file.truncate(size * count)
    assert cost.judge_sizes(str(tmp_path / "judge.bin")) == (width, depth, 0)


def test_decoding_larger_images_is_counted_at_their_size():
    """Convolutions grow with the pixels; attention in the middle, 512 wide, with their square: 4 D ((4 T)^2 - 4 T^2), T = 1,024."""
    options = config.Autoencoder(pretrained="sd")
    small, large = (autoencoder_cost(options, (side, side))[1] for side in (256, 512))
    assert large - 4 * small == 4 * 512 * 12 * 1024**2 == 25_769_803_776
    assert autoencoder_cost(options, (256, 512))[1] == autoencoder_cost(options, (512, 256))[1]


@pytest.fixture(scope="module")
def digits_sizes():
    loaded = config.load(config.read())
    return loaded, {stage.stage: stage for stage in plan(loaded, "digits-sizes", None)[0]}


def test_a_plan_of_other_sizes_counts_tokens_jobs_and_images(digits_sizes):
    """3 encodings x 3 seeds: at 12 x 12, at 12 x 18, and at 24 x 24 with positions of three kinds; 400 images, 16 steps, guided.

    5,752 images of training and 360 held out are seen at each of three sizes, and as crops at two.
    """
    loaded, stages = digits_sizes
    assert stages["sample"].flops == 400 * 32 * (9 * FORWARD[36] + 9 * FORWARD[54] + 27 * FORWARD[144])
    assert [stages[name].jobs for name in ("images", "sample", "score")] == [3, 45, 48]
    seen = 45 * 400 + 3 * 6_112 + 36 * 400 + 2 * 6_112
    assert stages["score"].flops == seen * inception_flops(0.0625, 75) and seen == 62_960
    work = SuiteWork(loaded, "digits-sizes", 5_752)
    for row, tokens in (("abs", 36), ("abs-12x18-extrapolate", 54), ("gta-24-ntk", 144)):
        assert work.sample(row).flops == 400 * 32 * FORWARD[tokens]
    assert work.score("gta-24-ntk").flops == 2 * work.score("gta").flops


def test_a_second_judge_sees_whole_images_alone(digits_sizes):
    loaded, stages = digits_sizes
    judge = "dinov2_vits14_pretrain.pth"
    suite = loaded.suites["digits-sizes"]
    scorer = suite.scorer.model_copy(update={"judge": judge})
    judged = loaded.model_copy(
        update={"suites": {**loaded.suites, "digits-sizes": suite.model_copy(update={"scorer": scorer})}}
    )
    (score,) = (stage for stage in plan(judged, "digits-sizes", None)[0] if stage.stage == "score")
    assert score.flops - stages["score"].flops == (45 * 400 + 3 * 6_112) * JUDGES[judge]
    assert score.bytes - stages["score"].bytes == (45 * 400 + 3 * 6_112) * 4 * 384
    plain, with_judge = (
        SuiteWork(one, "digits-sizes", 5_752).score("gta-24-ntk") for one in (loaded, judged)
    )
    assert with_judge.flops - plain.flops == 400 * JUDGES[judge]


def test_images_that_are_scored():
    """Crops of images that are smaller than those of training do not exist; a reference file has its own images, or none."""
    experiment = config.Experiment(images=config.Images(source="x", size=32))
    suite = config.Suite(
        experiments=["a"],
        milestones=[1],
        sampling={"num_samples": 10},
        scorer={"reference": "gone.npz", "weights": "w.pth"},
    )
    found = scored_images(suite, experiment, Counter({(32, 32): 2, (16, 64): 1, (64, 32): 3}), 100)
    assert (found.whole, found.crops) == (20 + 10 + 100 + 30 + 100, 30 + 100)
    assert (found.compared, found.compared_crops) == (20 + 110 + 130, 130)
    assert BASELINE_DRAWS == DRAWS
    assert metric_seconds(found, 1.0, 1024) == pytest.approx(METRIC_SECONDS * (260 * 1.25 + 130 * 0.5))


def test_the_images_of_a_reference_file_are_counted(tmp_path):
    np.savez(tmp_path / "real.npz", arr_0=np.zeros((7, 2, 2, 3), np.uint8), mu=np.zeros(3))
    suite = config.Suite(
        experiments=["a"],
        milestones=[1],
        sampling={"num_samples": 2},
        scorer={"reference": str(tmp_path / "real.npz")},
    )
    experiment = config.Experiment(images=config.Images(source="x", size=32))
    found = scored_images(suite, experiment, Counter({(32, 32): 1}), 100)
    assert found.whole == 2 + 7 and found.compared == 2 + 10 * 2
