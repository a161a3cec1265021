"""Checkpoints that others publish: the DiT and DiT+GTA references' .pt files, diffusers' DiT folders, and SiT's weights."""

import argparse
import math
import re
import types
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ditgta.data.pickles import load_plain
from ditgta.runtime.checkpoint_records import DiffusersConfig, PublishedOptions
from ditgta.runtime.checkpoints import read_header
from ditgta.runtime.errors import InputError, as_input_error
from ditgta.runtime.files import is_file, read_json
from ditgta.runtime.records import parsed

Weights = dict[str, Tensor]
# What trainers call the two networks of a file, the first that is there counts; and what they wrap a network in.
_EMA = ("ema", "ema_state_dict", "model_ema", "ema_model", "params_ema")
_MODEL = ("model", "state_dict", "net", "params", "module")
_WRAPPERS = ("module", "state_dict", "params", "shadow_params")


@dataclass
class Published:
    """What a published file holds, in this project's parameter names.

    ema: the weights to use; model: the weights that were trained, where the file has both.
    options: what the file says of itself, as far as it does.
    sizes: depth, width and heads, which a folder of diffusers says.
    """

    ema: Weights
    model: Weights | None = None
    options: PublishedOptions = field(default_factory=PublishedOptions)
    sizes: dict[str, int] = field(default_factory=dict)


def read_published(path: str | Path) -> Published:
    """Reads a .pt or .safetensors file, or a folder of diffusers; raises InputError if it is missing, damaged, unsafe or no DiT."""
    path = Path(path)
    if path.is_dir():
        return _read_diffusers(path)
    if not is_file(path):
        raise InputError(f"checkpoint {path} does not exist; check the path")
    if path.suffix == ".safetensors" and _is_own(path):
        raise InputError(f"{path} is already a checkpoint of this project; use it directly, by its path")
    content = _load(path)
    if not isinstance(content, dict):
        raise InputError(
            f"{path} holds a {type(content).__name__}, not a dictionary of weights; give another file"
        )
    options = _options(path, content.get("args"))
    ema, model = _plain(path, _inner(content, _EMA)), _plain(path, _inner(content, _MODEL))
    return _checked(path, Published(ema or model or _plain(path, content), model or None, options))


def _is_own(path: Path) -> bool:
    try:
        return bool(read_header(path))
    except InputError:
        return False


def _load(path: Path) -> object:
    if path.suffix != ".safetensors":
        return load_plain(path)
    with as_input_error(f"{path} is damaged or not a safetensors file", "download it again", SafetensorError):
        return load_file(path)


def _options(path: Path, args: object) -> PublishedOptions:
    """Return what a file says of itself, numbers of NumPy and tensors of one number as Python's."""
    if isinstance(args, argparse.Namespace | types.SimpleNamespace):
        args = vars(args)
    if not isinstance(args, dict):
        return PublishedOptions()
    options = {key: args[key] for key in PublishedOptions.model_fields if args.get(key) is not None}
    for key, value in options.items():
        if isinstance(value, np.generic | Tensor) and math.prod(value.shape) == 1:
            options[key] = value.item()
    return parsed(PublishedOptions, options, f"{path} has invalid options", "give another file")


def _inner(content: dict, keys: Sequence[str]) -> dict:
    """Return the first dictionary that stands under one of the keys, {} without."""
    return next((content[key] for key in keys if isinstance(content.get(key), dict)), {})


def _plain(path: Path, weights: dict) -> Weights:
    """Drops what wrappers put around a network and in front of names (module., _orig_mod.), and entries that are no tensors."""
    if inner := _inner(weights, _WRAPPERS):
        return _plain(path, inner)
    plain = {}
    for name, tensor in weights.items():
        if not isinstance(tensor, Tensor):
            continue
        if tensor.layout != torch.strided or tensor.is_meta or tensor.is_quantized or tensor.is_complex():
            raise InputError(
                f"{path}: {name} is not a plain tensor of real numbers; save the weights as float32"
            )
        name = re.sub(r"^(module\.|_orig_mod\.|model\.|net\.)+", "", str(name))
        plain[name] = tensor.float() if tensor.is_floating_point() else tensor
    return plain


# Tensors by which a network is described before it is built, and their dimensions.
_DESCRIBING = {
    "x_embedder.proj.weight": 4,
    "final_layer.linear.weight": 2,
    "y_embedder.embedding_table.weight": 2,
}


def _checked(path: Path, published: Published) -> Published:
    for name, dimensions in _DESCRIBING.items():
        fault, shape = "is missing", []
        if name in published.ema:
            shape = list(published.ema[name].shape)
            fault = f"has shape {shape}"
        if len(shape) != dimensions or 0 in shape:
            raise InputError(f"{path} holds no weights of a DiT ({name} {fault}); give another file")
    return published


def _read_diffusers(folder: Path) -> Published:
    """Reads a DiTTransformer2DModel, alone or as the `transformer` of a pipeline's folder."""
    if (folder / "transformer" / "config.json").is_file():
        folder = folder / "transformer"
    if not (folder / "config.json").is_file():
        raise InputError(
            f"{folder} is not a diffusers model: it has neither config.json nor transformer/config.json"
        )
    config = read_json(folder / "config.json")
    if "num_embeds_ada_norm" not in config or config.get("norm_type", "ada_norm_zero") != "ada_norm_zero":
        raise InputError(
            f"{folder} is a {config.get('_class_name')}, not a DiT with adaLN-zero; give the folder of a DiT"
        )
    names = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")
    file = next((folder / name for name in names if (folder / name).is_file()), None)
    if file is None:
        raise InputError(f"{folder} has no {names[0]}; download it beside config.json")
    network = parsed(DiffusersConfig, config, str(folder / "config.json"), "download it again")
    try:
        ema = _from_diffusers(_plain(folder, _load(file)), network.num_layers)
    except KeyError as error:
        raise InputError(f"{folder} lacks the tensor {error}; download the folder again") from None
    heads = network.num_attention_heads
    sizes = {"depth": network.num_layers, "width": heads * network.attention_head_dim, "heads": heads}
    options = PublishedOptions(posenc="abs", image_size=8 * network.sample_size)
    return _checked(folder, Published(ema, None, options, sizes))


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
_FREQUENCIES = 128  # of the sinusoids of SiT's time, 10000^(-k/128)
_LABELS = "transformer_blocks.0.norm1.emb.class_embedder.embedding_table.weight"


def _from_diffusers(theirs: Weights, depth: int) -> Weights:
    """Return a diffusers DiT's weights under this project's names."""
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


def from_sit(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of the network v(x, 1000 t) = -sit(x, 1 - t) of SiT's (Ma et al., ECCV 2024), equal to float32's rounding.

    The layers and their names are DiT's. The conventions differ: SiT's time s = 1 - t runs from noise at 0 to images at 1 and is
    embedded as it is, not times 1000; its velocity points to the images; and of 2C channels only the first C are used. All of this is
    linear at the network's ends, so other weights say the same.
    """
    weights = dict(weights)
    turn = torch.from_numpy(_time_features())
    first = weights["t_embedder.mlp.0.weight"].double()
    weights["t_embedder.mlp.0.bias"] = (weights["t_embedder.mlp.0.bias"] + first @ turn[-1]).float()
    weights["t_embedder.mlp.0.weight"] = (first @ turn[:-1].T).float()
    channels, patch = weights["x_embedder.proj.weight"].shape[1:3]
    for name in ("final_layer.linear.weight", "final_layer.linear.bias"):
        by_channel = weights[name].unflatten(0, (patch**2, -1))
        weights[name] = -by_channel[:, :channels].flatten(0, 1)
    return weights


def _time_features() -> np.ndarray:
    """Return SiT's 256 sinusoids of s = 1 - t as sums of this project's of 1000 t, and of 1, by least squares to 1e-12: (257, 256)."""
    frequencies = 10000.0 ** (-np.arange(_FREQUENCIES) / _FREQUENCIES)
    t = np.linspace(0, 1, 4001)
    ours, theirs = (np.outer(time, frequencies) for time in (1000 * t, 1 - t))
    ours = np.concatenate([np.cos(ours), np.sin(ours), np.ones((len(t), 1))], axis=1)
    theirs = np.concatenate([np.cos(theirs), np.sin(theirs)], axis=1)
    return np.linalg.lstsq(ours, theirs, rcond=1e-12)[0]
