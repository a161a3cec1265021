"""A GPU that is not there: the program runs on fake tensors, and Inductor lowers its graphs for an H100; a ledger counts both.

Fake tensors have shapes and no values. They stand on the CPU, since autograd knows no GPU in a build of PyTorch without one; the plain
layers test for no device, and autocast rounds the same operations on both. Attention alone would be another operation on a CPU: it is
replaced by the one that a GPU runs. A compiled graph, as AOTAutograd cut it in two, is moved to a fake GPU, fused by Inductor's
scheduler as it would be on one, and counted instead of run. No code is generated, so Triton is not needed.

All that is private to PyTorch stands here. It was tried with torch 2.13.
"""

import contextlib
import copy
import functools
import types
import warnings
from collections.abc import Callable, Iterator, Sequence
from unittest import mock

import numpy as np
import sympy
import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from torch.fx.node import map_aggregate

from benchmarks.ledger import Entry, Ledger, entry_of
from ditgta import kernels

TRIED_WITH = "2.13"
GPU = torch.device("cuda", 0)
STAND_IN = torch.device(
    "cpu", 0
)  # the GPU's stand-in; without an index "cpu" is the host. The compiler knows one of them alone
H100 = types.SimpleNamespace(
    name="NVIDIA H100 80GB HBM3",
    major=9,
    minor=0,
    multi_processor_count=132,
    max_threads_per_multi_processor=2048,
    max_threads_per_block=1024,
    regs_per_multiprocessor=65536,
    warp_size=32,
    total_memory=80 * 2**30,
    L2_cache_size=50 * 2**20,
    shared_memory_per_block=48 * 2**10,
    shared_memory_per_block_optin=227 * 2**10,
    shared_memory_per_multiprocessor=228 * 2**10,
    gcnArchName="",
)


@contextlib.contextmanager
def fake_tensors() -> Iterator[None]:
    """Have every new tensor be fake, attention be that of a GPU, and algorithms be deterministic, as stages have them on one."""
    before = torch.are_deterministic_algorithms_enabled(), torch.utils.deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False
    try:
        with (
            mock.patch.object(F, "scaled_dot_product_attention", _attention),
            FakeTensorMode(allow_non_fake_inputs=True),
            warnings.catch_warnings(),
        ):
            warnings.filterwarnings(
                "ignore", "Accessing the data pointer of FakeTensor"
            )  # copy.deepcopy does
            yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        torch.utils.deterministic.fill_uninitialized_memory = before[1]


def _attention(
    q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor | None = None, scale: float | None = None
) -> Tensor:
    """Attend as a GPU does: flash attention in bf16, the memory-efficient one in float32 or with a bias."""
    if q.dtype == torch.float32 or attn_mask is not None:
        efficient = torch.ops.aten._scaled_dot_product_efficient_attention
        return efficient(q, k, v, attn_mask, True, scale=scale)[0]
    return torch.ops.aten._scaled_dot_product_flash_attention(q, k, v, scale=scale)[0]


@contextlib.contextmanager
def compiled_into(ledger: Ledger) -> Iterator[None]:
    """Have what is compiled meanwhile be lowered for the GPU; each call of it adds its kernels to the ledger."""
    from torch._inductor.compile_fx import compile_fx

    options = kernels.fixed_shapes()
    backend = functools.partial(compile_fx, inner_compile=functools.partial(_counted, ledger))
    torch._dynamo.reset()
    with mock.patch.object(kernels, "fixed_shapes", lambda: {**options, "backend": backend}):
        yield
    torch._dynamo.reset()


def _counted(
    ledger: Ledger, graph: torch.fx.GraphModule, inputs: Sequence, is_backward=False, is_inference=False, **_
) -> Callable:
    """Stand in Inductor's place: return a function that enters a graph's kernels and returns fake results."""
    entries: list[Entry] = []
    results = [node.meta["val"] if isinstance(node, torch.fx.Node) else node for node in _results(graph)]
    described = [(x.shape, x.stride(), x.dtype) if isinstance(x, Tensor) else x for x in results]

    def call(arguments: list) -> list:
        arguments.clear()
        with ledger.stopped():
            if (
                not entries
            ):  # not lowered before the first call: meanwhile Dynamo's own fake tensors are about
                entries.extend(moved(lowered, graph, inputs, is_backward, is_inference))
            ledger.entries.extend(entries)
            return [torch.empty_strided(*x[:2], dtype=x[2]) if isinstance(x, tuple) else x for x in described]

    call._boxed_call = True
    return call


def _results(graph: torch.fx.GraphModule) -> Sequence:
    return graph.graph.output_node().args[0]


def lowered(
    graph: torch.fx.GraphModule, inputs: Sequence, is_backward: bool, is_inference: bool
) -> list[Entry]:
    """Return the kernels that Inductor would launch for a graph on an H100.

    Args:
        graph: of ATen operations, as AOTAutograd gives it to a compiler.
        inputs: fake tensors of the graph's inputs, on any device.
    """
    from torch._inductor import compile_fx, debug
    from torch._inductor.graph import GraphLowering
    from torch._inductor.virtualized import V

    mode = FakeTensorMode(allow_non_fake_inputs=True, shape_env=ShapeEnv())
    graph, inputs = _on_gpu(graph), [_fake_on_gpu(mode, x) for x in inputs]
    with _gpu_is_there(), unset_fake_temporarily(), torch.no_grad(), V.set_fake_mode(mode):
        # The steps of Inductor's own compile_fx, up to the generation of code.
        compile_fx.view_to_reshape(graph)
        compile_fx.fake_tensor_prop(graph, inputs)
        compile_fx._recursive_record_original_output_strides(graph)
        compile_fx._recursive_post_grad_passes(graph, is_inference=is_inference)
        with compile_fx.maybe_disable_comprehensive_padding(inputs):
            lowering = GraphLowering(
                graph,
                example_inputs=inputs,
                shape_env=mode.shape_env,
                graph_id=0,
                is_backward=is_backward,
                is_inference=is_inference,
                inputs_to_check=(),
            )
            lowering.freeze_runtime_asserts()
            handlers = (V.set_graph_handler(lowering), V.set_extern_kernel_nodes([]))
            with handlers[0], handlers[1], V.set_debug_handler(debug.DebugContext()):
                lowering.run(*inputs)
                lowering.init_wrapper_code()
                lowering._update_scheduler()
                entries = map(_entry_of_kernel, lowering.scheduler.nodes)
                return [entry for entry in entries if entry]


def _on_gpu(graph: torch.fx.GraphModule) -> torch.fx.GraphModule:
    """Return a graph whose operations make their results on the GPU."""
    graph = copy.deepcopy(graph)
    for node in graph.graph.nodes:
        node.args, node.kwargs = (
            map_aggregate(tree, lambda leaf: GPU if isinstance(leaf, torch.device) else leaf)
            for tree in (node.args, node.kwargs)
        )
    return graph


def _fake_on_gpu(mode: FakeTensorMode, value: object) -> object:
    if not isinstance(value, Tensor):
        return value
    shape = torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device="meta")
    return FakeTensor(mode, shape, GPU)


@contextlib.contextmanager
def _gpu_is_there() -> Iterator[None]:
    """Answer Inductor's questions about the GPU as an H100 would, and say that Triton is installed."""
    from torch._dynamo import device_interface
    from torch._inductor import scheduler

    cuda = device_interface.CudaInterface
    device_interface.init_device_reg()
    answers = {
        (torch.cuda, "get_device_properties"): H100,
        (torch.cuda, "get_device_capability"): (H100.major, H100.minor),
        (torch.cuda, "current_device"): 0,
        (torch.cuda, "device_count"): 1,
        (cuda, "get_device_properties"): H100,
        (cuda, "current_device"): 0,
        (cuda, "is_available"): True,
        (cuda, "raise_if_triton_unavailable"): None,
        (cuda.Worker, "get_device_properties"): H100,
        (scheduler, "has_triton"): True,
    }
    with contextlib.ExitStack() as stack:
        for (owner, name), answer in answers.items():
            given = staticmethod(lambda *_, answer=answer, **__: answer)
            stack.enter_context(mock.patch.object(owner, name, given))
        stack.enter_context(mock.patch.object(torch.version, "cuda", "13.0"))
        interfaces = {"cuda": cuda, "cuda:0": cuda}
        stack.enter_context(mock.patch.dict(device_interface.device_interfaces, interfaces))
        yield


def _entry_of_kernel(node) -> Entry | None:
    """Return the entry of a node of Inductor's scheduler: a fused kernel, a call of a library, or nothing."""
    from torch._inductor.ir import MultiOutput
    from torch._inductor.scheduler import NopKernelSchedulerNode

    if isinstance(node, NopKernelSchedulerNode) or isinstance(node.node, MultiOutput):
        return None
    if node.is_extern():
        packet = node.node.op_overload.overloadpacket
        call = next(x for x in node.node.origins if getattr(x.target, "overloadpacket", None) is packet)
        args, kwargs = map_aggregate((call.args, call.kwargs), lambda x: getattr(x, "meta", {}).get("val", x))
        return entry_of(call.target, args, kwargs, call.meta["val"])
    return Entry(node.get_name(), "other", 1, _bytes_of(node))


def _bytes_of(node) -> int:
    """Return the bytes that a fused kernel reads and writes: each distinct element of a buffer once, however often it is named."""
    if node.is_foreach():  # kernels side by side in one launch
        return sum(map(_bytes_of, node.snodes))
    inside = {part.get_name() for part in node.get_nodes()}
    buffers = node.scheduler.name_to_buf
    written, read = {}, {}
    for dependency in node.read_writes.writes:
        users = buffers[dependency.name].users
        if any(user.get_name() not in inside for user in users):
            written.setdefault(dependency.name, []).append(dependency)
    for dependency in node.read_writes.reads:
        if dependency.name not in node.get_buffer_names():
            read.setdefault(dependency.name, []).append(dependency)
    return sum(_distinct(name, accesses) for side in (read, written) for name, accesses in side.items())


def _distinct(name: str, accesses: list) -> int:
    """Return the bytes of a buffer's elements that some accesses touch; all of them where an index depends on data."""
    from torch._inductor.virtualized import V

    buffer = V.graph.get_buffer(name)
    itemsize, count = buffer.get_dtype().itemsize, int(sympy.prod(buffer.get_size()))
    try:
        runs = _merged(np.concatenate([runs_of(access.index, access.ranges) for access in accesses]))
    except (KeyError, AttributeError):
        return itemsize * count
    return itemsize * int((runs[:, 1] - runs[:, 0]).sum())


def runs_of(index: sympy.Expr, ranges: dict) -> np.ndarray:
    """Return the elements at an index, for all values of its variables, as disjoint runs (n, 2) of begin and end.

    The index is a sum. Terms that share a variable are evaluated together; each group of terms then shifts the runs found so far.
    """
    groups: list[tuple[set, sympy.Expr]] = []
    offset = 0
    for term in sympy.Add.make_args(index):
        if not term.free_symbols:
            offset += int(term)
            continue
        names, joined = set(term.free_symbols), term
        for group in [group for group in groups if group[0] & names]:
            groups.remove(group)
            names, joined = names | group[0], joined + group[1]
        groups.append((names, joined))
    shifts = [_values(term, ranges, names) for names, term in groups]
    runs = np.array([[offset, offset + 1]])
    for values in sorted(shifts, key=lambda values: int(values[-1]) - int(values[0])):
        runs = _shifted(runs, values)
    return runs


def _shifted(runs: np.ndarray, values: Sequence[int]) -> np.ndarray:
    """Return the runs shifted by each of some ascending values."""
    if isinstance(values, range) and len(runs) == 1 and values.step <= runs[0, 1] - runs[0, 0]:
        return runs + [values[0], values[-1]]
    return _merged((runs[None] + np.asarray(values)[:, None, None]).reshape(-1, 2))


def _values(term: sympy.Expr, ranges: dict, names: set) -> Sequence[int]:
    """Return the distinct values of a term of an index, ascending."""
    variables = sorted(names, key=str)
    step = term.coeff(variables[0])
    if term == step * variables[0] and step.is_Integer and step > 0:
        return range(0, int(step * ranges[variables[0]]), int(step))
    sides = [np.arange(int(ranges[variable])) for variable in variables]
    functions = {
        "FloorDiv": np.floor_divide,
        "ModularIndexing": lambda x, divisor, modulus: x // divisor % modulus,
        "Mod": np.mod,
    }
    value = sympy.lambdify(variables, term, modules=[functions, "numpy"])
    return np.unique(value(*np.meshgrid(*sides, indexing="ij", sparse=True)))


def _merged(runs: np.ndarray) -> np.ndarray:
    """Return overlapping and adjacent runs joined."""
    runs = runs[np.argsort(runs[:, 0], kind="stable")]
    ends = np.maximum.accumulate(runs[:, 1])
    first = np.concatenate([[True], runs[1:, 0] > ends[:-1]])
    last = np.concatenate([first[1:], [True]])
    return np.stack([runs[first, 0], ends[last]], axis=1)


def moved(function: Callable, *arguments) -> object:
    """Call what leans on PyTorch's private parts; where they have moved, say so in one line."""
    try:
        return function(*arguments)
    except (AttributeError, ImportError, TypeError) as error:
        raise RuntimeError(
            f"torch {torch.__version__} has moved what benchmarks/fake_gpu.py uses ({error}); it was tried with {TRIED_WITH}"
        ) from error
