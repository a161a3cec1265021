"""What a training on several processes sends, reads and holds, computed without running it."""

from collections import defaultdict
from dataclasses import dataclass

from ditgta.config import Experiment, Suite, Training
from ditgta.data.shard_plan import plan_shards
from ditgta.planning import cost
from ditgta.planning.estimate import as_size, encoding_of, image_set, latent_sides, products_of, shape_of
from ditgta.planning.machine import Machine
from ditgta.planning.memory import FORMULA, Pass, pass_bytes, traits

# Bytes per second and direction between two devices of a node, as their makers give them: NVLink, or PCIe 4.0 x16.
LINKS = {"v100": 150e9, "a100": 300e9, "h100": 450e9, "h200": 450e9, "rtx4090": 32e9}
PCIE, NETWORK = 32e9, 25e9  # a GPU whose class is not said; 200 Gb/s InfiniBand between nodes
# Measured on a CPU: the interpreter with its libraries; and a pass with the holes of glibc's heap, where freed blocks of all sizes
# are kept, over the pass alone: float32, bf16 (whose casts make blocks of more sizes), and where attention is the plain layer, not
# compiled, whose temporaries are of many sizes.
BASE, HOLES, PLAIN_HOLES = 331e6, (1.15, 1.3), 1.4


@dataclass(frozen=True)
class World:
    """How many train together, on how many nodes, with what bytes per second over the slowest link; GPUs or one CPU."""

    count: int
    nodes: int
    bandwidth: float
    gpus: bool


@dataclass(frozen=True)
class Memory:
    """Bytes of one training process.

    state: weights, their averages, AdamW's moments. work: the most of a forward and backward pass. copy: of the state, which the
    first process keeps for its snapshots.
    """

    state: float
    work: float
    copy: float

    @property
    def in_all(self) -> float:
        """What the first process takes on a CPU."""
        return BASE + self.state + self.work + self.copy


def memory_of(experiment: Experiment, classes: int, world: World) -> Memory:
    """Return what a process of a training holds."""
    training, shape = experiment.training, shape_of(experiment, classes)
    share = -(-training.batch_size // world.count)
    images = min(training.micro_batch or share, share)
    step = Pass(
        images=images,
        bf16=training.precision == "bf16",
        checkpoint_gradients=training.checkpoint_gradients,
        layers=_layers(training, world.gpus),
        **traits(encoding_of(experiment)),
        keeps_gradients=world.count > 1 or images < share,
    )
    kept = not (world.gpus or training.checkpoint_gradients)
    state, work = cost.checkpoint_bytes(shape, len(training.decays)), pass_bytes(shape, step)
    fused = step.attends_by_kernel or step.layers == "compiled"
    holes = HOLES[step.bf16] if fused else PLAIN_HOLES
    return Memory(state, work * (holes if kept else 1), state)


def _layers(training: Training, gpus: bool) -> str:
    """Return how a training's layers compute, as in `memory.KEPT`."""
    if training.compile or (training.compile is None and gpus):
        return "compiled"
    return "cpu" if training.kernels == "auto" and not gpus else "plain"


def scale(
    suite: Suite,
    experiments: dict[str, Experiment],
    images: tuple[int, int] | None,
    machine: Machine,
    world: World,
) -> tuple[dict, list[str]]:
    """Return the figures of a suite's trainings, those of its first one where they differ, and lines that say them.

    Only gradients count as sent: a few bytes more are the losses of each logged step and the wish to stop of every tenth.
    """
    if not experiments:
        return {}, []
    first = next(iter(experiments.values()))
    count, classes = image_set(first, images)
    training, shape, n = first.training, shape_of(first, classes), world.count
    sent = cost.allreduce_bytes(shape, n)
    seconds = sent / world.bandwidth
    flops = cost.training_flops(shape, training.checkpoint_gradients) * training.batch_size
    computed, _ = machine.seconds(flops, products_of(training))
    read = cost.side_bytes(shape.channels, *latent_sides(first))
    per_second = training.batch_size / (computed + seconds) / world.nodes
    latents = len(plan_shards(count))
    samples = len(plan_shards(suite.sampling.num_samples, most=None))
    held = {name: memory_of(experiment, classes, world) for name, experiment in experiments.items()}
    figures = {
        "processes": n,
        "nodes": world.nodes,
        "allreduce_bytes": sent,
        "allreduce_seconds": seconds,
        "compute_seconds": computed,
        "loader_bytes_per_second_and_node": per_second * read,
        "latent_shards": latents,
        "sample_shards": samples,
        "memory": {name: {**vars(memory), "base": BASE} for name, memory in held.items()},
    }
    sends = "nothing is sent"
    if n > 1:
        sends = (
            f"each sends 2 (n-1)/n x {as_size(4 * cost.parameters(shape))} of float32 gradients = {as_size(sent)},"
            f" / {as_size(world.bandwidth)}/s = {1e3 * seconds:.3g} ms if none of it is hidden"
        )
    return figures, [
        f"a step on {n} process{'es' * (n > 1)}, {world.nodes} node{'s' * (world.nodes > 1)}: {sends};"
        f" computing takes at least {1e3 * computed:.3g} ms",
        f"loader: {per_second:.3g} images/s per node x {read:,.0f} bytes (one side of a record)"
        f" = {as_size(per_second * read)}/s per node",
        f"shards: {latents} of latents, at most {-(-latents // n)} for a process;"
        f" {samples} of a row's samples, at most {-(-samples // n)}",
        *_memory_lines(held, world, {len(experiment.training.decays) for experiment in experiments.values()}),
    ]


def _memory_lines(held: dict[str, Memory], world: World, averages: set[int]) -> list[str]:
    """Return a line for the experiments that hold the same, and what is counted; `averages`: how many their trainings keep."""
    names: dict[Memory, list[str]] = defaultdict(list)
    for name, memory in held.items():
        names[memory].append(name)
    lines = []
    for memory, alike in names.items():
        total, parts = memory.in_all, f"state {as_size(memory.state)} + pass {as_size(memory.work)}"
        if world.gpus:
            total = memory.state + memory.work
        else:
            parts += f" + copy {as_size(memory.copy)} + base {as_size(BASE)}"
        lines.append(f"memory of a process: {as_size(total)} = {parts}: {', '.join(alike)}")
    place = "copy: of the state, for snapshots, in the first process alone; the figure was measured on CPUs, to 10 %"
    if world.gpus:
        place = "both on the GPU, beside CUDA's own memory; measured on an H100 (DiT-B/2), to 4 %. The host of the first process keeps a copy of the state"
    parts = " or ".join(str(4 * (3 + count)) for count in sorted(averages))
    kept = "average" if averages == {1} else "averages"
    state = f"state: weights, {kept}, AdamW ({parts} bytes a parameter)"
    return [*lines, f"{state}; pass: gradients and about {FORMULA}", place]
