"""The training objectives by name."""

import torch

from ditgta.diffusion.ddpm import DDPM
from ditgta.diffusion.flow import Flow


def objective_of(name: str, device: torch.device) -> DDPM | Flow:
    """Return what trains a network, by the name of the objective: what it is shown, and what its answer costs.

    Raises:
        ValueError: an unknown name.
    """
    if name == "ddpm":
        return DDPM(device)
    if name == "flow":
        return Flow()
    raise ValueError(f"objective {name!r} is unknown; known: ddpm, flow")
