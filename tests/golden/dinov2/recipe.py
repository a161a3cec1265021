"""Weights and images of small DINOv2 networks, from names alone, and the library's features of them, which `python -m` this stored once.

Features are those of transformers 5.24.0 in float64: every 97th token after the last norm. They are never made again from our own code.
"""

import zlib
from pathlib import Path

import numpy as np
import torch

OUT = Path(__file__).with_name("features.npz")
_COMMON = {
    "hidden_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "mlp_ratio": 4,
    "patch_size": 14,
    "image_size": 518,
}
CASES = {"plain": _COMMON, "registers": {**_COMMON, "num_register_tokens": 4}}
STORED = (
    ("plain", 518),
    ("registers", 518),
    ("registers", 224),
)  # where the library interpolates as the authors do


def shapes(case: str) -> dict[str, tuple[int, ...]]:
    """Returns the tensors of a network by their names in transformers."""
    width, registers = 128, CASES[case].get("num_register_tokens")
    found = {"embeddings.cls_token": (1, 1, width), "embeddings.position_embeddings": (1, 1 + 37**2, width)}
    found |= {"embeddings.register_tokens": (1, registers, width)} if registers else {}
    found |= _layer("embeddings.patch_embeddings.projection", width, 3, 14, 14)
    for k in range(3):
        block = f"encoder.layer.{k}"
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            found |= _layer(f"{block}.attention.{name}", width, width)
        found |= _layer(f"{block}.mlp.fc1", 4 * width, width) | _layer(f"{block}.mlp.fc2", width, 4 * width)
        for number in (1, 2):
            found |= _layer(f"{block}.norm{number}", width)
            found[f"{block}.layer_scale{number}.lambda1"] = (width,)
    return found | _layer("layernorm", width)


def _layer(name: str, *shape: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


def drawn(key: str, shape: tuple[int, ...]) -> np.ndarray:
    """Returns standard normal numbers that a name alone decides, by a generator that NumPy never changes."""
    return np.random.RandomState(zlib.crc32(key.encode())).standard_normal(shape)


def weights(case: str) -> dict[str, torch.Tensor]:
    """Returns the weights of a case, float32."""
    found = {}
    for name, shape in shapes(case).items():
        values = drawn(f"{case} {name}", shape)
        if len(shape) in (2, 4):
            values = values * 1.5 / np.sqrt(np.prod(shape[1:]))
        elif "norm" in name or "layer_scale" in name:
            values = 0.3 * values + ("bias" not in name)
        else:
            values = 0.3 * values
        found[name] = torch.from_numpy(values.astype(np.float32))
    return found


def images(side: int) -> torch.Tensor:
    """Returns two normalised images, (2, 3, side, side), float32."""
    return torch.from_numpy(drawn(f"images {side}", (2, 3, side, side)).astype(np.float32))


def main() -> None:
    """Stores the library's features."""
    import transformers

    classes = {"plain": "Dinov2", "registers": "Dinov2WithRegisters"}
    found = {}
    for case, side in STORED:
        config = getattr(transformers, f"{classes[case]}Config")(**CASES[case])
        network = getattr(transformers, f"{classes[case]}Model")(config).eval()
        missing = network.load_state_dict(weights(case), strict=False)
        assert missing.missing_keys == ["embeddings.mask_token"] and not missing.unexpected_keys, missing
        with torch.no_grad():
            features = network.double()(images(side).double()).last_hidden_state
        found[f"{case} {side}"] = features[:, ::97].numpy()
    np.savez_compressed(OUT, **found)


if __name__ == "__main__":
    main()
