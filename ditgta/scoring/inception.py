"""Inception-V3 as used for FID: uint8 images in, the features that generative models are scored on out."""

import contextlib
import copy
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from ditgta.runtime.errors import InputError
from ditgta.scoring.blocks import MIXED, STEM, ConvUnit, Mixed, pool_3x3

SPATIAL_CHANNELS = 7
SMALLEST_INPUT = 75
CPU_CHUNK = 16  # images run at once on a CPU: the maps of more leave its caches, which costs a tenth
TAPS = ("64", "192", "768", "2048", "spatial", "logits", "logits_unbiased", "probabilities")


class Features(NamedTuple):
    """What the network says of N images."""

    pool3: torch.Tensor  # (N, 2048 * width) average of the last map, for FID, KID, precision and recall
    # (N, h * w * 7) first 7 channels of Mixed_6d.branch1x1 after ReLU, in order h, w, channel, for sFID; 2023 values at input_size 299
    spatial: torch.Tensor
    # (N, classes) softmax of pool3 @ fc.weight^T WITHOUT fc.bias, for the Inception Score
    probabilities: torch.Tensor
    logits: torch.Tensor  # (N, classes) pool3 @ fc.weight^T + fc.bias, for classification


class InceptionV3(nn.Module):
    """Inception-V3 as published for FID on 2015-12-05, or the same network with fewer channels.

    At width 1 and 1008 classes the state dict has the 472 tensors of `pt_inception-2015-12-05-6726825d.pth`
    (Heusel et al. 2017, arXiv:1706.08500). Every layer follows ADM's evaluation suite (Dhariwal and Nichol 2021,
    arXiv:2105.05233): TF1 resize, batch normalisation with eps 1e-3, averages that leave the padding out.

    `width` is a factor on all channel counts, a multiple of 1/16 in which every count is whole, `input_size` the side in pixels to which
    images are resized, at least 75. Raises InputError if one of them is out of range.
    """

    def __init__(self, width: float = 1.0, num_classes: int = 1008, input_size: int = 299):
        super().__init__()
        if width <= 0 or width * 16 != round(width * 16):
            raise InputError(
                f"scorer width {width} is not a positive multiple of 1/16; use e.g. 0.0625 or 1.0"
            )
        if input_size < SMALLEST_INPUT:
            raise InputError(f"scorer input_size {input_size} is too small; use {SMALLEST_INPUT} or more")
        self.width, self.num_classes, self.input_size = width, num_classes, input_size
        channels = 3
        for unit in STEM:
            self.add_module(unit.name, ConvUnit(channels, unit, width))
            channels = round(unit.channels * width)
        for name, branches in MIXED.items():
            block = Mixed(channels, branches, width)
            self.add_module(name, block)
            channels = block.channels
        self.pool3_channels = channels
        self.fc = nn.Linear(channels, num_classes)

    def prepare(self, images_NHWC: torch.Tensor | np.ndarray) -> torch.Tensor:
        """Return uint8 images as the network's input: resized, (x - 128) / 128, (N, 3, size, size) on its device.

        Raises InputError if the images are not uint8 of shape (N, height, width, 3).
        """
        weight = self.fc.weight
        images_NHWC = _as_images(images_NHWC).to(weight.device)
        resized = resize_tf1(images_NHWC, self.input_size).sub_(128).mul_(0.0078125)
        return resized.permute(0, 3, 1, 2).to(weight.dtype)

    def classify(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        """Return the logits (N, classes), with fc.bias, of prepared images; gradients flow."""
        return self.fc(self._maps(x_NCHW, ())["2048"])

    def forward(self, images_NHWC: torch.Tensor | np.ndarray) -> Features:
        """Return the features of uint8 images (N, height, width, 3), in full float32 on every device."""
        taps = self.taps(images_NHWC, ("2048", "spatial", "probabilities", "logits"))
        return Features(taps["2048"], taps["spatial"], taps["probabilities"], taps["logits"])

    @torch.no_grad()
    def taps(
        self, images_NHWC: torch.Tensor | np.ndarray, names: tuple[str, ...] = TAPS
    ) -> dict[str, torch.Tensor]:
        """Return named features of uint8 images (N, height, width, 3), each of shape (N, features).

        "64", "192", "768" and "2048" are averages over the map after the first and second pool, Mixed_6e and
        Mixed_7c (named for their channels at width 1). "probabilities" is the softmax of "logits_unbiased", for
        published and trained weights alike, so that the Inception Score of both means the same.
        """
        device = self.fc.weight.device
        images_NHWC = _as_images(images_NHWC)
        chunk = CPU_CHUNK if device.type == "cpu" else max(len(images_NHWC), 1)
        with full_float32(device):
            parts = [self._taps(images, names) for images in images_NHWC.split(chunk)]
        return {name: torch.cat([part[name] for part in parts]) for name in names}

    def _taps(self, images_NHWC: torch.Tensor, names: tuple[str, ...]) -> dict[str, torch.Tensor]:
        maps = self._maps(self.prepare(images_NHWC), names)
        maps["logits_unbiased"] = F.linear(maps["2048"], self.fc.weight)
        maps["logits"] = maps["logits_unbiased"] + self.fc.bias
        maps["probabilities"] = maps["logits_unbiased"].softmax(dim=1)
        return maps

    def _maps(self, x: torch.Tensor, names: tuple[str, ...]) -> dict[str, torch.Tensor]:
        """Runs the convolutions and returns "2048" and those of "64", "192", "768" and "spatial" that are named."""
        maps = {}
        for tap, units in (("64", STEM[:3]), ("192", STEM[3:])):
            for unit in units:
                x = self.get_submodule(unit.name)(x)
            x = pool_3x3(x, "reduce")
            if tap in names:
                maps[tap] = x.mean((2, 3))
        for name in MIXED:
            x = self.get_submodule(name)(x)
            if name == "Mixed_6d" and "spatial" in names:
                # The first channels of the concatenation are those of branch1x1.
                count = min(SPATIAL_CHANNELS, round(192 * self.width))
                maps["spatial"] = x[:, :count].permute(0, 2, 3, 1).flatten(1)
            if name == "Mixed_6e" and "768" in names:
                maps["768"] = x.mean((2, 3))
        maps["2048"] = x.mean((2, 3))
        return maps

    def fuse(self) -> "InceptionV3":
        """Return a copy for scoring only: normalisation folded into the convolutions, tensors channels last.

        Its features are equal to rounding and its state dict is another; about 1.7 times faster on a CPU.
        """
        fused = copy.deepcopy(self).eval().requires_grad_(False)
        for kind in (ConvUnit, Mixed):
            for module in list(fused.modules()):
                if isinstance(module, kind):
                    module.fold()
        return fused.to(memory_format=torch.channels_last)


@contextlib.contextmanager
def full_float32(device: torch.device) -> Iterator[None]:
    """Switches TF32 and autocast off within the block: ten mantissa bits move the features by about 1e-3.

    cuDNN's convolutions use TF32 by default on NVIDIA GPUs since Ampere, whatever the tensors' type says.
    """
    before = torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()
    torch.backends.cudnn.allow_tf32 = False
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        torch.backends.cudnn.allow_tf32 = before[0]
        torch.set_float32_matmul_precision(before[1])


def _as_images(images: torch.Tensor | np.ndarray) -> torch.Tensor:
    if isinstance(images, np.ndarray):
        images = torch.from_numpy(np.require(images, requirements=["C", "W"]))
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[3] != 3 or 0 in images.shape[1:]:
        raise InputError(
            f"images are {images.dtype} of shape {tuple(images.shape)}; give uint8 of shape (N, height, width, 3)"
        )
    return images


def load_inception(state_dict: Mapping[str, torch.Tensor], input_size: int = 299) -> InceptionV3:
    """Builds the network that a state dict belongs to, in eval mode; width and classes follow from its shapes.

    Raises InputError if a tensor is missing, unexpected or of the wrong shape.
    """
    tensors = {}
    for key, tensor in state_dict.items():
        if not key.endswith("num_batches_tracked"):
            tensors[key] = tuple(getattr(tensor, "shape", ()))
    stem, fc = tensors.get("Conv2d_1a_3x3.conv.weight", ()), tensors.get("fc.weight", ())
    if len(stem) != 4 or len(fc) != 2:
        raise InputError(
            "these are not FID Inception weights (Conv2d_1a_3x3.conv.weight or fc.weight is missing or misshapen); "
            "give pt_inception-2015-12-05-6726825d.pth or a scorer trained by the scorer stage"
        )
    width, num_classes = stem[0] / STEM[0].channels, fc[0]
    if not stem[0] or width * 16 != round(width * 16):
        raise InputError(
            f"Inception weights: Conv2d_1a_3x3.conv.weight has shape {list(stem)}, not [32 * width, 3, 3, 3] with "
            "width a multiple of 1/16; give another weights file"
        )
    with torch.device("meta"):
        model = InceptionV3(width, num_classes, input_size)
    expected = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
    faults = [f"{key} is missing" for key in expected if key not in tensors]
    faults += [f"{key} is unexpected" for key in tensors if key not in expected]
    for key, shape in expected.items():
        if tensors.get(key, shape) != shape:
            faults.append(f"{key} has shape {list(tensors[key])}, not {list(shape)}")
    if faults:
        more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise InputError(f"Inception weights: {'; '.join(faults[:3])}{more}; give another weights file")
    weights = {key: torch.as_tensor(state_dict[key]).detach().float() for key in expected}
    model.load_state_dict(weights, assign=True)
    return model.eval()


@lru_cache(maxsize=16)
def _lerp_table(
    size_in: int, size_out: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return lower and upper source index and weight of each output pixel, with TF1's float32 arithmetic."""
    step = torch.tensor(size_in, dtype=torch.float32) / torch.tensor(size_out, dtype=torch.float32)
    source = torch.arange(size_out, dtype=torch.float32) * step
    lower = source.floor().long()
    upper = (lower + 1).clamp_max(size_in - 1)
    return lower.to(device), upper.to(device), (source - lower).to(device)


def resize_tf1(images_NHWC: torch.Tensor | np.ndarray, size: int | tuple[int, int]) -> torch.Tensor:
    """Resizes as TensorFlow 1's `resize_bilinear` does, bit for bit, for any input and output size.

    Source coordinates are i * in / out (corners not aligned, pixel centres not halved), without antialiasing or
    rounding; columns are interpolated before rows. Images (N, height, width, channels) are uint8 or float32, `size` is side or
    (height, width) of the result, which is float32 with the values' range unchanged.
    """
    images_NHWC = torch.as_tensor(images_NHWC)
    height_out, width_out = (size, size) if isinstance(size, int) else size
    count, height, width, channels = images_NHWC.shape
    device = images_NHWC.device

    left, right, weight_x = _lerp_table(width, width_out, device)
    top, bottom, weight_y = _lerp_table(height, height_out, device)
    offsets = torch.arange(channels, device=device)
    left = (left[:, None] * channels + offsets).flatten()
    right = (right[:, None] * channels + offsets).flatten()
    weight_x = weight_x.repeat_interleave(channels)

    resized = torch.empty((count, height_out, width_out * channels), device=device)
    # A few images at a time stay in the caches of a CPU: five times faster than a whole batch.
    step = 2 if device.type == "cpu" else max(count, 1)
    for start in range(0, count, step):
        span = slice(start, start + step)
        rows = images_NHWC[span].to(torch.float32).reshape(-1, width * channels)
        columns = _lerp(rows.index_select(1, left), rows.index_select(1, right), weight_x)
        columns = columns.view(-1, height, width_out * channels)
        resized[span] = _lerp(
            columns.index_select(1, top), columns.index_select(1, bottom), weight_y[:, None]
        )
    return resized.view(count, height_out, width_out, channels)


def _lerp(start: torch.Tensor, end: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Return start + (end - start) * weight, rounded after each operation as TF1 does; overwrites `end`."""
    return end.sub_(start).mul_(weight).add_(start)
