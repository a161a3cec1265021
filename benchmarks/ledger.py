"""What an operation costs a GPU, by a small rule: kernels launched, and bytes moved to and from its memory.

- A view, an allocation and what returns no tensor cost nothing.
- Any other operation launches one kernel, or as many as `_LAUNCHES` says. It reads each of its tensors once, writes each of its
  results once, and does not read what it overwrites in whole; an axis of stride 0 is read once, and of a table what is looked up.
  Caches count for nothing.
- A layer norm first copies what is not contiguous: a kernel of its own.
- An operation over a list of tensors (optimizer, moving average) launches a kernel for each 2,240 chunks of 65,536 elements.
- The gradient of flash attention sums that of the queries in float32, which is written once and read once.
- What has the host wait for the GPU is noted by name.

`Ledger` counts this way while a program runs on fake tensors, so that nothing is computed and nothing needs memory.
"""

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

aten = torch.ops.aten
MATMULS = {aten.mm, aten.addmm, aten.bmm, aten.baddbmm, aten.convolution, aten.convolution_backward}
ATTENTION = {
    aten._scaled_dot_product_flash_attention,
    aten._scaled_dot_product_flash_attention_backward,
    aten._scaled_dot_product_efficient_attention,
    aten._scaled_dot_product_efficient_attention_backward,
}
OPTIMIZER = {aten._fused_adamw_, aten._foreach_lerp_, aten._foreach_add_}
NORMS = {aten.native_layer_norm, aten.native_layer_norm_backward}
OVERWRITES = {aten.copy_, aten.fill_, aten.zero_}
LOOKUPS = {aten.embedding, aten.index}
ALLOCATIONS = {
    aten.empty,
    aten.empty_like,
    aten.empty_strided,
    aten.new_empty,
    aten.new_empty_strided,
    aten._unsafe_view,
}
COPIES = {aten._to_copy, aten.copy_}
HOST = torch.device("cpu")
_LAUNCHES = {
    # Zeros for the sums of dq, row sums of do o, the gradient, dq rounded.
    aten._scaled_dot_product_flash_attention_backward: 4,
    # Those of the weights and of the bias.
    aten.convolution_backward: 2,
    # Indices sorted, runs found, rows summed.
    aten.embedding_dense_backward: 3,
}
CHUNK, CHUNKS_OF_A_LAUNCH = 65536, 2240


@dataclass(frozen=True)
class Entry:
    """An operation: its name, its kind ("matmul", "attention", "optimizer" or "other"), launches and bytes."""

    name: str
    kind: str
    launches: int
    bytes: int


def kind_of(packet: torch._ops.OpOverloadPacket) -> str:
    """Return which kind an operation is counted under."""
    for kind, packets in (("matmul", MATMULS), ("attention", ATTENTION), ("optimizer", OPTIMIZER)):
        if packet in packets:
            return kind
    return "other"


def size_of(tensor: Tensor) -> int:
    """Return the bytes of a tensor's distinct elements."""
    sides = (size for size, stride in zip(tensor.shape, tensor.stride()) if stride != 0)
    return math.prod(sides) * tensor.element_size()


def entry_of(operation: torch._ops.OpOverload, args: tuple, kwargs: dict, results: object) -> Entry | None:
    """Return what an operation costs; None where it costs nothing."""
    packet, inputs = operation.overloadpacket, _tensors((args, kwargs))
    is_view = any(about.alias_info and not about.alias_info.is_write for about in operation._schema.returns)
    changed = _tensors(_written_to(operation, args, kwargs))
    made = [] if is_view or changed else _tensors(results)
    if packet in ALLOCATIONS or not (made or changed):
        return None
    read, written = sum(map(size_of, inputs)), sum(map(size_of, made + changed))
    launches = _LAUNCHES.get(packet, 1)
    if packet in OVERWRITES:
        read -= sum(map(size_of, changed))
    if packet in LOOKUPS:
        read = sum(map(size_of, inputs[1:])) + written
    if packet in OPTIMIZER:
        launches = math.ceil(sum(math.ceil(x.numel() / CHUNK) for x in args[0]) / CHUNKS_OF_A_LAUNCH)
    if packet in NORMS:
        copied = [tensor for tensor in inputs if not tensor.is_contiguous()]
        launches, read = launches + len(copied), read + 2 * sum(map(size_of, copied))
    if packet is aten._scaled_dot_product_flash_attention_backward:
        read += 2 * 4 * made[0].numel()
    return Entry(packet.__name__, kind_of(packet), launches, read + written)


def _tensors(tree: object) -> list[Tensor]:
    """Return the distinct tensors of a tree."""
    return list({id(leaf): leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)}.values())


def _named(operation: torch._ops.OpOverload, args: tuple, kwargs: dict) -> dict:
    """Return the arguments of a call by name."""
    return {about.name: value for about, value in zip(operation._schema.arguments, args)} | kwargs


def _written_to(operation: torch._ops.OpOverload, args: tuple, kwargs: dict) -> list:
    """Return the arguments that an operation writes to; AdamW would write gradients if it scaled them."""
    given = _named(operation, args, kwargs)
    written = {about.name for about in operation._schema.arguments if about.is_write}
    if operation.overloadpacket is aten._fused_adamw_:
        written.remove("grads")
    return [given[name] for name in written if name in given]


class Ledger(TorchDispatchMode):
    """While it is active, notes what every operation costs in `entries`, and what has the host wait in `waits`.

    Args:
        host: where the host's own tensors are; None where the GPU's stand-in is there too, so that copies say nothing.
    """

    def __init__(self, host: torch.device | None = HOST):
        super().__init__()
        self.host = host
        self.entries: list[Entry] = []
        self.waits: list[str] = []
        self._stopped = False

    @classmethod
    def ignore_compile_internals(cls) -> bool:
        """Leave compiled functions compiled."""
        return True

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        kwargs, name = kwargs or {}, operation.overloadpacket.__name__
        if operation.namespace == "aten" and operation._can_decompose():
            with self:  # autograd takes it apart; in inference nothing has
                return operation.decompose(*args, **kwargs)
        if operation.overloadpacket is aten._local_scalar_dense:
            self.waits.append(name)
            return 1  # a fake tensor has no value
        try:
            results = operation(*args, **kwargs)
        except (DataDependentOutputException, DynamicOutputShapeException):
            self.waits.append(name)
            raise
        if operation.overloadpacket in COPIES and self._waits_for(_named(operation, args, kwargs), results):
            self.waits.append(f"{name} to or from the host")
        if not self._stopped and (entry := entry_of(operation, args, kwargs, results)):
            self.entries.append(entry)
        return results

    def _waits_for(self, given: dict, result: Tensor) -> bool:
        """Return whether a copy, given by its arguments' names, is one between host and GPU that the host waits for."""
        places = {given.get("src", given["self"]).device, result.device}
        return len(places) == 2 and self.host in places and not given.get("non_blocking")

    def clear(self) -> None:
        """Forget what was counted."""
        self.entries.clear()
        self.waits.clear()

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """Count nothing meanwhile."""
        before, self._stopped = self._stopped, True
        try:
            yield
        finally:
            self._stopped = before

    def sum(self, field: str, *kinds: str) -> int:
        """Return all launches or bytes, or those of some kinds."""
        return sum(getattr(entry, field) for entry in self.entries if not kinds or entry.kind in kinds)
