"""Checkpoints that others publish: the DiT and DiT+GTA references' .pt files and diffusers' DiT folders."""

import argparse
import re
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ditgta.runtime.errors import InputError
from ditgta.runtime.files import read_json

Weights = dict[str, Tensor]
OPTIONS = ("model", "posenc", "rotary_base", "absolute_table", "objective", "image_size", "latent_size")


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
    if not path.is_file():
        raise InputError(f"checkpoint {path} does not exist; check the path")
    content = _load_safetensors(path) if path.suffix == ".safetensors" else _load_pickle(path)
    return _sorted_out(path, content)


def _load_safetensors(path: Path) -> dict:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise InputError(f"{path} is damaged or no safetensors file ({error}); fetch it again") from None


def _load_pickle(path: Path) -> dict:
    """Opens a .pt file with tensors, plain values and argparse.Namespace allowed, and nothing else."""
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # on what it refuses or cannot read torch raises many types
        wanted = _forbidden(path)
        if wanted:
            raise InputError(
                f"{path} is refused: it wants {', '.join(wanted)}, which no checkpoint needs; take the file from its publisher"
            ) from None
        raise InputError(f"{path} is damaged or no PyTorch checkpoint; fetch it again") from None


def _forbidden(path: Path) -> list[str]:
    """Returns what a pickle would import beyond tensors, plain values and argparse.Namespace, without running it."""
    try:
        found = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except Exception:  # no zip file of PyTorch's, or a damaged one
        return []
    return [name for name in found if name != "argparse.Namespace"]


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
    if any(isinstance(content.get(key), dict) for key in ("ema", "model")):
        model = _plain(content["model"]) if isinstance(content.get("model"), dict) else None
        ema = _plain(content["ema"]) if isinstance(content.get("ema"), dict) else model
        return _checked(path, Published(ema, model, known))
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
