"""Checkpoints that others publish: the DiT and DiT+GTA references' .pt files and diffusers' DiT folders."""

import argparse
import pathlib
import re
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ditgta.runtime.checkpoints import read_header
from ditgta.runtime.errors import InputError
from ditgta.runtime.files import is_file, read_json

Weights = dict[str, Tensor]
OPTIONS = ("model", "posenc", "rotary_base", "absolute_table", "objective", "image_size", "latent_size")


# What a checkpoint's options hold beside plain values: whoever opens it runs nothing by that.
_HARMLESS = [
    argparse.Namespace,
    pathlib.PosixPath,
    pathlib.PurePosixPath,
    np.dtype,
    np._core.multiarray.scalar,
    *(type(np.dtype(kind)) for kind in ("f2", "f4", "f8", "i4", "i8", "b1")),
]
_HARMLESS_NAMES = {f"{kind.__module__}.{kind.__qualname__}" for kind in _HARMLESS}


@dataclass
class Published:
    """What a published file holds, in this project's parameter names.

    ema: the weights to use; model: the weights that were trained, where the file has both.
    options: what the file says of itself, as far as it does: OPTIONS.
    """

    ema: Weights
    model: Weights | None = None
    options: dict = field(default_factory=dict)


def read_published(path: str | Path) -> Published:
    """Reads a published checkpoint: a .pt or .safetensors file, or a folder in diffusers' format.

    Raises:
        InputError: the file is missing, damaged, wants more than plain tensors, or holds no weights of a DiT.
    """
    path = Path(path)
    if path.is_dir():
        return _read_diffusers(path)
    if not is_file(path):
        raise InputError(f"checkpoint {path} does not exist; check the path")
    if path.suffix == ".safetensors" and _is_own(path):
        raise InputError(f"{path} is a checkpoint of this project already; use it as it is, by its own path")
    content = _load_safetensors(path) if path.suffix == ".safetensors" else _load_pickle(path)
    return _sorted_out(path, content)


def _is_own(path: Path) -> bool:
    try:
        read_header(path)
    except InputError:
        return False
    return True


def _load_safetensors(path: Path) -> dict:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise InputError(f"{path} is damaged or no safetensors file ({error}); fetch it again") from None


def _load_pickle(path: Path) -> dict:
    """Opens a .pt file with tensors, plain values and argparse.Namespace allowed, and nothing else."""
    try:
        with torch.serialization.safe_globals(_HARMLESS):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # on what it refuses or cannot read torch raises many types
        if _protocol(path) > 3:
            raise InputError(
                f"{path} is pickled in a way that is not opened here; save it again with torch.save and its default pickle_protocol"
            ) from None
        wanted = _forbidden(path)
        if wanted:
            raise InputError(
                f"{path} is refused: it wants {', '.join(wanted)}, which no checkpoint needs; take the file from its publisher"
            ) from None
        raise InputError(f"{path} is damaged or no PyTorch checkpoint; fetch it again") from None


def _protocol(path: Path) -> int:
    """Returns the version of pickle with which a .pt file is written, 0 where there is none to see."""
    try:
        with zipfile.ZipFile(path) as archive:
            name = next(name for name in archive.namelist() if name.endswith("data.pkl"))
            with archive.open(name) as member:
                head = member.read(2)
    except Exception:  # no zip file, or a damaged one
        return 0
    return head[1] if head[:1] == b"\x80" and len(head) == 2 else 0


def _forbidden(path: Path) -> list[str]:
    """Returns what a pickle would import beyond tensors, plain values and argparse.Namespace, without running it."""
    try:
        found = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except Exception:  # no zip file of PyTorch's, or a damaged one
        return []
    return [name for name in found if name not in _HARMLESS_NAMES]


def _sorted_out(path: Path, content: object) -> Published:
    if not isinstance(content, dict):
        raise InputError(
            f"{path} holds a {type(content).__name__}, not a dictionary of weights; take another file"
        )
    options = content.get("args")
    known = {}
    if isinstance(options, argparse.Namespace):
        options = vars(options)
    if isinstance(options, dict):
        known = {key: options[key] for key in OPTIONS if options.get(key) is not None}
    ema, model = (
        next((_plain(content[key]) for key in keys if isinstance(content.get(key), dict)), None)
        for keys in (("ema", "ema_state_dict"), ("model", "state_dict", "net"))
    )
    if ema or model:
        return _checked(path, Published(ema or model, model, known))
    return _checked(path, Published(_plain(content), None, known))


def _plain(weights: dict) -> Weights:
    """Drops what wrappers put in front of names (module., _orig_mod.) and entries that are no tensors."""
    return {
        re.sub(r"^(module\.|_orig_mod\.)+", "", str(name)): tensor.float()
        if tensor.is_floating_point()
        else tensor
        for name, tensor in weights.items()
        if isinstance(tensor, Tensor)
    }


def _checked(path: Path, published: Published) -> Published:
    if "x_embedder.proj.weight" not in published.ema or "final_layer.linear.weight" not in published.ema:
        raise InputError(
            f"{path} holds no weights of a DiT (x_embedder and final_layer are missing); take another file"
        )
    return published


def _read_diffusers(folder: Path) -> Published:
    """Reads a DiTTransformer2DModel, alone or as the `transformer` of a pipeline's folder."""
    if (folder / "transformer" / "config.json").is_file():
        folder = folder / "transformer"
    if not (folder / "config.json").is_file():
        raise InputError(
            f"{folder} is no diffusers model: it has neither config.json nor transformer/config.json"
        )
    config = read_json(folder / "config.json")
    if "num_embeds_ada_norm" not in config or config.get("norm_type", "ada_norm_zero") != "ada_norm_zero":
        raise InputError(
            f"{folder} is a {config.get('_class_name')}, not a DiT with adaLN-zero; take a DiT's folder"
        )
    weights_file = folder / "diffusion_pytorch_model.safetensors"
    pickled = folder / "diffusion_pytorch_model.bin"
    if weights_file.is_file():
        content = _load_safetensors(weights_file)
    elif pickled.is_file():
        content = _load_pickle(pickled)
    else:
        raise InputError(f"{folder} has no {weights_file.name}; download it beside config.json")
    try:
        ema = _from_diffusers(_plain(content), int(config["num_layers"]))
    except KeyError as error:
        raise InputError(f"{folder} lacks the tensor {error}; download the folder again") from None
    width = int(config["num_attention_heads"]) * int(config["attention_head_dim"])
    options = {
        "posenc": "abs",
        "image_size": 8 * int(config["sample_size"]),
        "num_classes": int(config["num_embeds_ada_norm"]),
        "depth": int(config["num_layers"]),
        "width": width,
        "heads": int(config["num_attention_heads"]),
        "patch": int(config["patch_size"]),
    }
    return _checked(folder, Published(ema, None, options))


# diffusers' names of a block's layers and of this project's. Its time and label embedders stand, all alike, in every block.
_BLOCK_NAMES = {
    "attn1.to_out.0": "attn.proj",
    "ff.net.0.proj": "mlp.fc1",
    "ff.net.2": "mlp.fc2",
    "norm1.linear": "adaLN_modulation.1",
}
_TOP_NAMES = {
    "pos_embed.proj": "x_embedder.proj",
    "transformer_blocks.0.norm1.emb.timestep_embedder.linear_1": "t_embedder.mlp.0",
    "transformer_blocks.0.norm1.emb.timestep_embedder.linear_2": "t_embedder.mlp.2",
    "proj_out_1": "final_layer.adaLN_modulation.1",
    "proj_out_2": "final_layer.linear",
}
_LABELS = "transformer_blocks.0.norm1.emb.class_embedder.embedding_table.weight"


def _from_diffusers(theirs: Weights, depth: int) -> Weights:
    """Returns a diffusers DiT's weights under this project's names."""
    ours = {"y_embedder.embedding_table.weight": theirs[_LABELS]}
    for kind in ("weight", "bias"):
        for name, target in _TOP_NAMES.items():
            ours[f"{target}.{kind}"] = theirs[f"{name}.{kind}"]
        for i in range(depth):
            block = f"transformer_blocks.{i}"
            parts = [theirs[f"{block}.attn1.to_{letter}.{kind}"] for letter in "qkv"]
            ours[f"blocks.{i}.attn.qkv.{kind}"] = torch.cat(parts)
            for name, target in _BLOCK_NAMES.items():
                ours[f"blocks.{i}.{target}.{kind}"] = theirs[f"{block}.{name}.{kind}"]
    return ours
