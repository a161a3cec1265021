"""From a file, a folder or a name on the Hugging Face hub to a network."""

import math
from pathlib import Path

import torch
from torch import Tensor

from ditgta.model.dit import DiT, DiTConfig
from ditgta.model.positional import PositionalEncoding, encoding_class
from ditgta.runtime.checkpoint_records import Network
from ditgta.runtime.checkpoints import AVERAGE, average_of, read_checkpoint, read_header, read_part
from ditgta.runtime.errors import InputError, one_line
from ditgta.runtime.pretrained import read_pretrained
from ditgta.runtime.records import checked

_MOST_TOKENS = 2**20


def load(
    path: str | Path, weights: str = AVERAGE, revision: str | None = None, ema_decay: float | None = None
) -> DiT:
    """Return the network of a checkpoint, of a folder that save-pretrained wrote, or of such a repository on the hub.

    Args:
        path: a .safetensors file of this project, a folder, or OWNER/NAME.
        weights: of a checkpoint, "ema" (their moving average) or "model" (those that were trained).
        revision: of a repository on the hub.
        ema_decay: of a checkpoint with several averages, the decay of the one to take; None: the first.

    Raises:
        InputError: it is not there, damaged, or not of this project, or has no such average.
    """
    if str(path).endswith(".safetensors") or Path(path).is_file():
        group = weights if weights != AVERAGE else average_of(path, read_header(path), ema_decay)
        header, groups = read_checkpoint(path, [group])
        return network_of(path, header.model.said(), groups[group])
    if ema_decay is not None:
        raise InputError(f"{path} holds only one average; leave ema_decay out")
    config, tensors = read_pretrained(path, revision)
    return network_of(path, config["model"], tensors)


def load_encoding(path: str | Path) -> PositionalEncoding:
    """Return the positional encoding of a checkpoint with what it learned (the first average), without the rest of the network.

    Raises:
        InputError: there is no such checkpoint, it is damaged, or its encoding is of someone's own and not here.
    """
    try:
        config = DiTConfig(**read_header(path).model.said())
        encoding = encoding_class(config.posenc)(
            *config.grid, config.width, config.heads, config.depth, config.rotary_base
        )
        encoding.load_state_dict(read_part(path, f"{AVERAGE}.encoding."))
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{path}: {one_line(error)}") from None
    return encoding


def network_of(path: str | Path, options: dict, tensors: dict[str, Tensor]) -> DiT:
    """Return the network that a header describes, with its weights; `path` is named where they do not fit.

    Raises:
        InputError: unknown options, or weights of another network.
    """
    known = checked(Network, options, f"{path} does not describe a network of this version", "give another")
    try:
        config = DiTConfig(**known)
        _check_shapes(config, tensors)
        network = DiT(config)
        network.load_state_dict(tensors)
    except InputError as error:  # an encoding of someone's own that is not here
        raise InputError(f"{path}: {error}") from None
    except (TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"{path} does not describe a network of this version ({reason}); give another checkpoint"
        ) from None
    return network


def _check_shapes(config: DiTConfig, tensors: dict[str, Tensor]) -> None:
    """Compare a network's description with its weights before memory is taken for it; raise ValueError where they differ."""
    if config.depth > len(tensors) or math.prod(config.grid) > _MOST_TOKENS:
        raise ValueError(f"{config.depth} blocks and {math.prod(config.grid)} tokens")
    with torch.device("meta"):
        expected = {name: tensor.shape for name, tensor in DiT(config).state_dict().items()}
    for name in [*expected, *tensors]:
        found, wanted = (table.get(name) for table in (tensors, expected))
        if found is None or wanted is None:
            raise ValueError(f"{name} is {'missing' if found is None else 'one tensor too many'}")
        if found.shape != wanted:
            raise ValueError(f"{name} is {list(found.shape)}, not {list(wanted)}")
