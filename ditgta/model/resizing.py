"""A network at another size than that of its training: same weights, other places, and a temperature of attention."""

import copy
import math
from dataclasses import replace

import torch

from ditgta.model.dit import DiT, DiTConfig
from ditgta.model.positional import AbsoluteEncoding


def resized(
    network: DiT, latent_size: tuple[int, int], positions: str = "extrapolate", temperature: str = "1"
) -> DiT:
    """Return a network that shares another's weights and takes latents of another size; of the same size, that network.

    Args:
        network: as it was trained, before kernels or a compiler are chosen for it.
        latent_size: (h, w).
        positions: how its encoding takes the new grid, one of ditgta.config.names.POSITIONS.
        temperature: "log" multiplies q k^T by sqrt(ln T / ln T_trained), which holds the entropy of attention over T tokens
            about where it was; "1" does not.

    Raises:
        ValueError: a size that the patch does not divide, or an encoding that does not take it that way.
    """
    config = replace(network.config, latent_size=latent_size)
    if config == network.config:
        return network
    other = copy.deepcopy(network, {id(tensor): tensor for tensor in network.parameters()})
    try:
        _place(other, config, positions)
    except ValueError as error:
        raise ValueError(f"posenc {config.posenc} {error}") from None
    for block in other.blocks:
        block.attn.scale = _scale(network.config, config, temperature)
    return other


@torch.no_grad()
def _place(network: DiT, config: DiTConfig, positions: str) -> None:
    """Tell a network's encodings of the grid of `config`, and make their tables again."""
    added = network.encoding
    if config.absolute_table:
        added = AbsoluteEncoding(*network.config.grid, config.width, config.heads)
    network.config, stored = config, network.pos_embed
    if stored is not None and not torch.allclose(stored[0].cpu(), added.position_table().cpu(), atol=1e-3):
        raise ValueError("has a table that differs from its formula, so it supports only one size")
    for encoding in {network.encoding, added}:
        encoding.resize(*config.grid, positions)
    if stored is not None:
        network.pos_embed = added.position_table()[None]
    network.encoding.keep_tables()
    network.to(network.device)


def _scale(trained: DiTConfig, config: DiTConfig, temperature: str) -> float | None:
    """Return the scale of q k^T; None: E^(-1/2), as in training."""
    before, after = (math.prod(network.grid) for network in (trained, config))
    if temperature == "1" or before == after:
        return None
    if before == 1:
        raise ValueError(
            "temperature log is not defined for a network that was trained on one token; set temperature to 1"
        )
    head_width = config.width // config.heads
    return math.sqrt(math.log(after) / math.log(before) / head_width)
