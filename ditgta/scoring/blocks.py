"""The layers of Inception-V3: a table of its convolutions and the modules that run them."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn


class Unit(NamedTuple):
    """One convolution of the published network: its name, output channels at width 1 and geometry."""

    name: str
    channels: int
    kernel: int | tuple[int, int] = 1
    stride: int = 1
    padding: str = "same"


class Branch:
    """One path through a mixed block: an optional pool, units one after another, then units side by side."""

    def __init__(self, *units: Unit, fork: tuple[Unit, ...] = (), pool: str | None = None):
        self.units, self.fork, self.pool = units, fork, pool

    @property
    def reads_input(self) -> bool:
        """Whether it begins with a 1x1 convolution of the block's input, or of its local average."""
        return bool(self.units) and self.units[0].kernel == 1 and self.pool in (None, "average")


def _reducing(name: str, channels: int) -> Unit:
    """Return the 3x3 convolution that halves a map."""
    return Unit(name, channels, kernel=3, stride=2, padding="valid")


def _mixed_5(pool_channels: int) -> tuple[Branch, ...]:
    """Return the block for maps of 35x35 (Szegedy et al. 2016, arXiv:1512.00567, figure 5)."""
    return (
        Branch(Unit("branch1x1", 64)),
        Branch(Unit("branch5x5_1", 48), Unit("branch5x5_2", 64, 5)),
        Branch(Unit("branch3x3dbl_1", 64), Unit("branch3x3dbl_2", 96, 3), Unit("branch3x3dbl_3", 96, 3)),
        Branch(Unit("branch_pool", pool_channels), pool="average"),
    )


def _mixed_6(middle: int) -> tuple[Branch, ...]:
    """Return the block for maps of 17x17, 7x7 filters factorised (arXiv:1512.00567, figure 6)."""
    row, column = (1, 7), (7, 1)
    return (
        Branch(Unit("branch1x1", 192)),
        Branch(
            Unit("branch7x7_1", middle), Unit("branch7x7_2", middle, row), Unit("branch7x7_3", 192, column)
        ),
        Branch(
            Unit("branch7x7dbl_1", middle),
            Unit("branch7x7dbl_2", middle, column),
            Unit("branch7x7dbl_3", middle, row),
            Unit("branch7x7dbl_4", middle, column),
            Unit("branch7x7dbl_5", 192, row),
        ),
        Branch(Unit("branch_pool", 192), pool="average"),
    )


def _mixed_7(pool: str) -> tuple[Branch, ...]:
    """Return the block for maps of 8x8, its filter banks widened (arXiv:1512.00567, figure 7)."""
    row, column = (1, 3), (3, 1)
    fork = Unit("branch3x3_2a", 384, row), Unit("branch3x3_2b", 384, column)
    double_fork = Unit("branch3x3dbl_3a", 384, row), Unit("branch3x3dbl_3b", 384, column)
    return (
        Branch(Unit("branch1x1", 320)),
        Branch(Unit("branch3x3_1", 384), fork=fork),
        Branch(Unit("branch3x3dbl_1", 448), Unit("branch3x3dbl_2", 384, 3), fork=double_fork),
        Branch(Unit("branch_pool", 192), pool=pool),
    )


STEM = (
    Unit("Conv2d_1a_3x3", 32, 3, stride=2, padding="valid"),
    Unit("Conv2d_2a_3x3", 32, 3, padding="valid"),
    Unit("Conv2d_2b_3x3", 64, 3),
    Unit("Conv2d_3b_1x1", 80),
    Unit("Conv2d_4a_3x3", 192, 3, padding="valid"),
)
MIXED = {
    "Mixed_5b": _mixed_5(32),
    "Mixed_5c": _mixed_5(64),
    "Mixed_5d": _mixed_5(64),
    "Mixed_6a": (
        Branch(_reducing("branch3x3", 384)),
        Branch(Unit("branch3x3dbl_1", 64), Unit("branch3x3dbl_2", 96, 3), _reducing("branch3x3dbl_3", 96)),
        Branch(pool="reduce"),
    ),
    "Mixed_6b": _mixed_6(128),
    "Mixed_6c": _mixed_6(160),
    "Mixed_6d": _mixed_6(160),
    "Mixed_6e": _mixed_6(192),
    "Mixed_7a": (
        Branch(Unit("branch3x3_1", 192), _reducing("branch3x3_2", 320)),
        Branch(
            Unit("branch7x7x3_1", 192),
            Unit("branch7x7x3_2", 192, (1, 7)),
            Unit("branch7x7x3_3", 192, (7, 1)),
            _reducing("branch7x7x3_4", 192),
        ),
        Branch(pool="reduce"),
    ),
    "Mixed_7b": _mixed_7("average"),
    # The published graph pools by maximum here and by average in 7b; scores depend on it.
    "Mixed_7c": _mixed_7("max"),
}


def pool_3x3(x_NCHW: torch.Tensor, kind: str) -> torch.Tensor:
    """Pools over 3x3: "average" (of what lies inside the map) and "max" keep the size, "reduce" halves it by maximum."""
    if kind == "average":
        return F.avg_pool2d(x_NCHW, 3, stride=1, padding=1, count_include_pad=False)
    if kind == "max":
        return F.max_pool2d(x_NCHW, 3, stride=1, padding=1)
    assert kind == "reduce"
    return F.max_pool2d(x_NCHW, 3, stride=2)


class BatchNorm(nn.Module):
    """Batch normalisation with eps 1e-3 whose state is the four published tensors and no batch counter."""

    def __init__(self, channels: int):
        super().__init__()
        self.momentum = 0.1
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.batch_norm(
            x,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            self.training,
            self.momentum,
            eps=1e-3,
        )


class ConvUnit(nn.Module):
    """Convolution, batch normalisation and ReLU; after `fold` the normalisation is part of the convolution."""

    def __init__(self, channels_in: int, unit: Unit, width: float):
        super().__init__()
        channels = round(unit.channels * width)
        self.conv = nn.Conv2d(channels_in, channels, unit.kernel, unit.stride, unit.padding, bias=False)
        self.bn = BatchNorm(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu_(self.bn(self.conv(x)))

    def fold(self) -> None:
        """Moves the running statistics into weight and bias of the convolution, in float64."""
        scale = self.bn.weight.double() / torch.sqrt(self.bn.running_var.double() + 1e-3)
        weight, dtype = self.conv.weight, self.conv.weight.dtype
        self.conv.weight = _frozen((weight.double() * scale[:, None, None, None]).to(dtype))
        self.conv.bias = _frozen((self.bn.bias.double() - self.bn.running_mean.double() * scale).to(dtype))
        self.bn = nn.Identity()


def _frozen(tensor: torch.Tensor) -> nn.Parameter:
    return nn.Parameter(tensor.detach(), requires_grad=False)


class Mixed(nn.Module):
    """Parallel branches over one input whose outputs are concatenated along the channels."""

    def __init__(self, channels_in: int, branches: tuple[Branch, ...], width: float):
        super().__init__()
        self.branches = branches
        self.merged: nn.Conv2d | None = None
        self.channels = 0
        for branch in branches:
            channels = channels_in
            for unit in branch.units:
                self.add_module(unit.name, ConvUnit(channels, unit, width))
                channels = round(unit.channels * width)
            for unit in branch.fork:
                self.add_module(unit.name, ConvUnit(channels, unit, width))
            self.channels += sum(round(unit.channels * width) for unit in branch.fork) or channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        heads = self._merged_heads(x) if self.merged is not None else {}
        outputs = []
        for branch in self.branches:
            if branch.units and branch.units[0].name in heads:
                y, units = heads[branch.units[0].name], branch.units[1:]
            else:
                y, units = pool_3x3(x, branch.pool) if branch.pool else x, branch.units
            for unit in units:
                y = self.get_submodule(unit.name)(y)
            outputs += [self.get_submodule(unit.name)(y) for unit in branch.fork] or [y]
        return torch.cat(outputs, dim=1)

    def fold(self) -> None:
        """Merges the 1x1 convolutions that read the block's input into one; its units must be folded."""
        self.heads: dict[str, int] = {}  # channels of each merged unit
        self.averaged: list[str] = []  # those that read the local average
        weights, biases = [], []
        for branch in self.branches:
            if branch.reads_input:
                name = branch.units[0].name
                convolution = self.get_submodule(name).conv
                weights.append(convolution.weight)
                biases.append(convolution.bias)
                self.heads[name] = convolution.out_channels
                if branch.pool:
                    self.averaged.append(name)
                delattr(self, name)
        self.merged = nn.Conv2d(weights[0].shape[1], sum(self.heads.values()), 1, device="meta")
        self.merged.weight, self.merged.bias = _frozen(torch.cat(weights)), _frozen(torch.cat(biases))

    def _merged_heads(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the outputs of the merged units by name; ReLU copies each slice into a tensor of its own."""
        parts = dict(zip(self.heads, self.merged(x).split(list(self.heads.values()), dim=1), strict=True))
        # A mean and an affine 1x1 convolution commute: after the convolution fewer channels are pooled.
        for name in self.averaged:
            parts[name] = pool_3x3(parts[name], "average")
        return {name: F.relu(part) for name, part in parts.items()}
