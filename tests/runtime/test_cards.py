"""What holds on a graphics card. The other tests see none; these start a process that does."""

import subprocess
import sys

import pytest
import torch

from tests.conftest import CARDS, ROOT

pytestmark = pytest.mark.skipif(not CARDS, reason="this machine has no card")


def on_a_card(call: str) -> None:
    """Calls a function of this module in a process that sees the first card."""
    code = "import os; from tests.runtime import test_cards as cards; "
    code += f"os.environ['CUDA_VISIBLE_DEVICES'] = {CARDS[0]!r}; cards.{call}"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


def trained(steps: int, **options):
    """Returns a trainer after some steps on batches that depend on their number alone, and the last batch in pinned memory."""
    from benchmarks.steps import random_batch, trainer_of
    from ditgta import DiT
    from ditgta.config import Training

    network = DiT.from_name("DiT-S/2", depth=2)
    trainer = trainer_of(network, Training(batch_size=8, gradient_clip=1.0, **options))
    for step in range(steps):
        torch.manual_seed(step)
        batch = {name: tensor.cpu().pin_memory() for name, tensor in random_batch(network, 8).items()}
        trainer.step(batch)
    return trainer, batch


def train_twice(**options) -> None:
    weights = [list(trained(8, **options)[0].network.parameters()) for _ in range(2)]
    assert all(torch.equal(*pair) for pair in zip(*weights))


@pytest.mark.parametrize("options", ["", "tf32=True", "precision='bf16'"])
def test_the_same_training_gives_the_same_bits(options):
    on_a_card(f"train_twice({options})")


def step_without_waiting() -> None:
    trainer, batch = trained(2)
    torch.cuda.set_sync_debug_mode("error")
    trainer.step(batch)
    trainer.step(batch, measured=True)


def test_the_processor_does_not_wait_for_the_card_in_a_step():
    on_a_card("step_without_waiting()")


def compute_on_both() -> None:
    import numpy as np

    from ditgta import DiT
    from ditgta.runtime.processes import processes
    from ditgta.scoring.inception import InceptionV3
    from tests.golden.dit.recipe import fill, inputs

    with processes() as group, torch.no_grad():
        for posenc in ("abs", "rope", "gta", "gta-mixed"):
            network = DiT.from_name("DiT-S/4", posenc=posenc)
            network.load_state_dict(fill(network.state_dict()))
            x, t, y, _ = inputs("DiT-S-4_gta_256", 32)
            there = network.to(group.device)(*(value.to(group.device) for value in (x, t, y))).cpu()
            here = network.cpu()(x, t, y)
            assert torch.linalg.norm(there - here) < 1e-5 * torch.linalg.norm(here), posenc
        torch.manual_seed(0)
        scorer = InceptionV3(width=0.25).eval()
        images = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), dtype=np.uint8)
        for here, there in zip(scorer(images), scorer.to(group.device)(images)):
            assert torch.linalg.norm(there.cpu() - here) <= 1e-5 * torch.linalg.norm(here)


def test_a_card_computes_what_the_processor_does():
    on_a_card("compute_on_both()")
