"""Every row of the suites `zoo-...` trains as its options say, and moves what its encoding learns."""

from pathlib import Path

import pytest
import torch
import yaml

from ditgta import DiT, DiTConfig, config
from ditgta.model.init import initialise
from ditgta.runtime.checkpoints import read_checkpoint
from ditgta.stages import train

CONFIG = config.load(yaml.safe_load((Path(__file__).parents[2] / "config.yaml").read_text()))
ROWS = sorted(
    {row for name, suite in CONFIG.suites.items() if name[:4] == "zoo-" for row in suite.experiments}
)
OPTIONS = {"batch_size": 12, "learning_rate": 1e-3, "ema_decay": 0.9}


@pytest.mark.parametrize("row", ROWS)
def test_a_row_trains_as_its_options_say(tiny_latents, tmp_path, row):
    model = CONFIG.experiments[row].model.model_copy(update={"depth": 1, "width": 32, "heads": 2})
    train.run(tiny_latents, tmp_path / row, [3], model, config.Training(**OPTIONS), seed=3)
    header, groups = read_checkpoint(tmp_path / row / "0000003.safetensors", ["model"])
    for option in ("posenc", "rotary_base", "absolute_table"):
        said = getattr(model, option)
        assert header.model.said()[option] == said, (
            f"training does not pass on {option}: the row is not what it says"
        )
    start = DiT(DiTConfig(**header.model.said()))
    initialise(start, 3)
    for name, parameter in start.named_parameters():
        if name.startswith("encoding."):
            assert not torch.equal(parameter, groups["model"][name])
