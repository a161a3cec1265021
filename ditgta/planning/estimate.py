"""What a suite will cost - jobs, operations, storage and hours - estimated without running anything of it."""

from collections import Counter
from dataclasses import dataclass, replace

import torch

from ditgta.config import Autoencoder, Config, Experiment, Loss, Sampling, Suite, Training
from ditgta.data.shard_plan import plan_shards
from ditgta.model.positional import POSENCS, PositionalEncoding
from ditgta.planning import cost
from ditgta.planning.machine import PRODUCTS, Machine
from ditgta.planning.networks import autoencoder_cost, inception_flops, judge_sizes
from ditgta.planning.scoring import feature_bytes, metric_seconds, scored_images
from ditgta.runtime.modules import is_own

KNOWN_IMAGES = {"digits": (1797, 10)}
IMAGENET = (1_281_167, 1000)
DECODE_SECONDS = 4.7e-3  # of a core to decode, scale and crop one of ImageNet's JPEG files, measured


@dataclass
class Stage:
    """One line of the plan."""

    stage: str
    jobs: int
    flops: float
    bytes: float
    note: str
    products: str = "float32"  # of PRODUCTS
    core_seconds: float = 0.0  # of CPU cores, beside the operations

    def __add__(self, other: "Stage") -> "Stage":
        """Return one line for both, of one stage, with the first one's note."""
        jobs, flops, size = self.jobs + other.jobs, self.flops + other.flops, self.bytes + other.bytes
        seconds = self.core_seconds + other.core_seconds
        return replace(self, jobs=jobs, flops=flops, bytes=size, core_seconds=seconds)


def products_of(options: Training | Sampling | Autoencoder | Loss) -> str:
    """Return in which of PRODUCTS a section's products are computed."""
    if getattr(options, "precision", "float32") == "bf16":
        return "bf16"
    return "tf32" if options.tf32 else "float32"


def plan(config: Config, suite_name: str, images: tuple[int, int] | None) -> tuple[list[Stage], list[str]]:
    """Return the plan's lines and notes that explain them."""
    suite = config.suites[suite_name]
    experiments, first = list(config.rows(suite_name).values()), config.first(suite_name)
    count, classes = image_set(first, images)
    shape = shape_of(first, classes)
    trained = list(config.trained(suite_name).values())
    scored = sum(_runs(suite, experiment, len(suite.milestones)) for experiment in experiments)
    sized = {name: _runs(suite, row, 1) for name, row in config.sized(suite_name).items()}
    swept = {name: _runs(suite, row, len(suite.milestones)) for name, row in config.swept(suite_name).items()}
    sampling = sampling_stage(suite.sampling.at_first(), scored, shape, first)
    sizes = Counter({(first.images.size,) * 2: scored + sum(swept.values())})
    for name, runs in sized.items():
        sizes[config.sampling(suite_name, name).size] += runs
    for name, runs in {**sized, **swept}.items():
        shape_beside = shape_of(config.experiments[name], classes)
        sampling += sampling_stage(config.sampling(suite_name, name), runs, shape_beside, first)
    for rows, words in ((sized, "at other sizes"), (swept, "at other points of the sweep")):
        if rows:
            sampling.note += f" + {sum(rows.values())} {words}"
    stages = [
        *_inputs(experiments, count, classes, len(sizes)),
        _training(suite, first, trained, classes, shape),
        sampling,
    ]
    if first.images.holds_out:
        stages.append(_held_out_loss(suite.loss, first, scored + _averaged(config, suite_name), count, shape))
    stages += [*_scoring(suite, first, sizes, count), Stage("table", 1, 0, 5e6, "no network")]
    notes = [
        f"forward pass of {first.model.name}: {cost.FORWARD_FORMULA} = {cost.forward_flops(shape):.4g}"
        f" with T={shape.tokens}, D={shape.width}, L={shape.depth}, p={shape.patch}, C={shape.channels}, o={shape.outputs}",
        f"parameters: {cost.parameters(shape):,}; a checkpoint holds {3 + len(first.training.decays)} times their float32 bytes",
        "hours = operations / (peak rate x share reached x devices), at the rates of float32, TF32 or bf16 as the configuration"
        f" says; and time of CPU cores: {1000 * DECODE_SECONDS:.3g} ms for each decoding of a picture, and the metrics",
    ]
    if images is None and first.images.source not in KNOWN_IMAGES:
        notes.append(
            f"assumed: ImageNet's {count:,} images of {classes:,} classes; change this with --images and --classes"
        )
    if own := [name for name in suite.experiments if is_own(config.experiments[name].model.posenc)]:
        notes.append(f"a plan does not import your own encoding; it is counted as gta: {', '.join(own)}")
    return stages, notes


def _inputs(experiments: list[Experiment], count: int, classes: int, sizes: int) -> list[Stage]:
    """Return the lines of images, of so many sizes, autoencoder and latents."""
    first = experiments[0]
    options, sides = first.autoencoder, (first.images.size,) * 2
    encode, decode, size = autoencoder_cost(options, sides)
    sets, products = len({str(experiment.autoencoder) for experiment in experiments}), products_of(options)
    trained, kind = 3 * (encode + decode) * options.steps * options.batch_size, "trained on the images"
    if options.pixels:
        trained, kind = 0, "none: latents are pixels"
    elif options.pretrained:
        trained, kind = 0, options.pretrained
    seconds = 0.0 if first.images.source == "digits" else count * DECODE_SECONDS
    record = cost.latent_bytes(options.channels, *latent_sides(first))
    images = f"{count:,} images of {classes:,} classes, decoded once to check them"
    shards = len(plan_shards(count))
    latents = f"2 x {encode:.3g} per image (and its mirror); {record:,} bytes each in {shards} shards"
    return [
        Stage("images", sizes, 0, 0, images, core_seconds=sizes * seconds),
        Stage("autoencoder", sets, trained, size * sets, kind, products),
        Stage(
            "latents",
            sets,
            2 * count * encode * sets,
            count * record * sets,
            latents,
            products,
            seconds * sets,
        ),
    ]


def _training(
    suite: Suite, first: Experiment, trained: list[Experiment], classes: int, shape: cost.Shape
) -> Stage:
    """Return the line of the train stage; `shape` is that of the first row."""
    rows, milestones, steps = len(trained) * len(suite.seeds), len(suite.milestones), suite.milestones[-1]
    flops = size = 0.0
    for experiment in trained:
        training, own = experiment.training, shape_of(experiment, classes)
        step = cost.training_flops(own, training.checkpoint_gradients) * training.batch_size
        flops += step * steps * len(suite.seeds)
        checkpoint = cost.checkpoint_bytes(own, len(training.decays))
        size += checkpoint * (milestones + 2) * len(suite.seeds)
    slowest = min((products_of(row.training) for row in trained), key=PRODUCTS.index, default="float32")
    forward = cost.forward_flops(shape)
    note = f"{rows} rows x {steps:,} steps x batch {first.training.batch_size} x 3 x {forward:.4g}"
    return Stage("train", rows * milestones, flops, size, note, slowest)


def _runs(suite: Suite, row: Experiment, milestones: int) -> int:
    """Return how often a row is sampled; a checkpoint that is taken as it is has one seed and one milestone."""
    return 1 if row.checkpoint else len(suite.seeds) * milestones


def _averaged(config: Config, suite_name: str) -> int:
    """Return how many held-out losses are of further averages, one for each row and decay that its sweep tries."""
    suite, rows = config.suites[suite_name], config.swept(suite_name)
    decays = {(row.like, config.sampling(suite_name, name).ema_decay) for name, row in rows.items()}
    known = {(row, config.sampling(suite_name, row).ema_decay) for row in suite.experiments}
    return len(decays - known) * len(suite.seeds) * len(suite.milestones)


def image_set(experiment: Experiment, said: tuple[int, int] | None) -> tuple[int, int]:
    """Return the training images and classes of an experiment: what was said, what is known, else ImageNet's."""
    images = experiment.images
    count, classes = said or KNOWN_IMAGES.get(images.source, IMAGENET)
    return round((1 - images.hold_out) * count) * images.copies[0], classes


def sampling_stage(options: Sampling, scored: int, shape: cost.Shape, experiment: Experiment) -> Stage:
    """Return the line of the sample stage; `shape`: of the network at the size of training."""
    trained = experiment.images.size
    height, width = options.size or (trained, trained)
    larger = height * width / trained**2
    shape = replace(shape, tokens=round(larger * shape.tokens), encoding_flops=larger * shape.encoding_flops)
    decode = autoencoder_cost(experiment.autoencoder, (height, width))[1]
    passes, images = cost.passes_of(options), scored * options.num_samples
    return Stage(
        "sample",
        scored,
        images * (passes * cost.forward_flops(shape) + decode),
        images * 2 * (height * width * 3 + 8),
        f"{scored} x {options.num_samples:,} images x ({passes:g} passes + decoder {decode:.3g})",
        products_of(options),
    )


def _held_out_loss(
    options: Loss, experiment: Experiment, scored: int, count: int, shape: cost.Shape
) -> Stage:
    """Return the line of the loss stage; `count`: images of training."""
    images = cost.held_out_images(options, experiment.images, count)
    encode, _, _ = autoencoder_cost(experiment.autoencoder, (experiment.images.size,) * 2)
    flops = 2 * options.timesteps * cost.forward_flops(shape) + encode
    note = f"{scored} x {images:,} held-out images x {options.timesteps} noise levels, with and without label"
    return Stage("loss", scored, scored * images * flops, scored * images * 200.0, note, products_of(options))


def _scoring(suite: Suite, experiment: Experiment, rows: Counter[tuple[int, int]], count: int) -> list[Stage]:
    """Return the lines of scorer and scores; `rows` by the size of their samples, `count` images of training."""
    options = suite.scorer
    width, side = options.network
    flops, judge, judge_width = inception_flops(width, side), 0.0, 0
    if options.judge:
        sizes = judge_sizes(options.judge)
        judge, judge_width = cost.judge_flops(*sizes), sizes[0]
    scorer = Stage("scorer", 1, 3 * flops * count * options.epochs, 4e6, f"{options.epochs} epochs")
    if options.weights:
        scorer = Stage("scorer", 1, 0, 95_628_359, "fetched once")
    scored = scored_images(suite, experiment, rows, count)
    seen = scored.whole + scored.crops
    note = f"{seen:,} images x {flops:.3g}"
    if judge:
        note += f" + {scored.whole:,} x {judge:.3g} by the second judge"
    jobs = rows.total() + len(rows)  # real against real images of each size, too
    kept, seconds = feature_bytes(scored, width, judge_width), metric_seconds(scored, width, judge_width)
    work = seen * flops + scored.whole * judge
    return [scorer, Stage("score", jobs, work, kept, note, core_seconds=seconds)]


def latent_sides(experiment: Experiment) -> tuple[int, int]:
    """Return the height and width of an experiment's latents."""
    side = experiment.images.size // experiment.autoencoder.downsampling
    return side, side


def shape_of(experiment: Experiment, classes: int) -> cost.Shape:
    """Return the sizes of an experiment's model, which must have a known name."""
    encoding = encoding_of(experiment)
    parameters = sum(parameter.numel() for parameter in encoding.parameters())
    shape = cost.shape_of(experiment, classes)
    return replace(shape, encoding=parameters, encoding_flops=encoding.operations())


def encoding_of(experiment: Experiment) -> PositionalEncoding:
    """Return an experiment's encoding on its grid, whose parameters and tables have shapes and no data.

    For a class of one's own, which a plan does not import, that is `gta`.
    """
    model, sizes = experiment.model, experiment.model.sizes
    name = "gta" if is_own(model.posenc) else model.posenc
    rows, columns = (side // sizes["patch"] for side in latent_sides(experiment))
    with torch.device("meta"):
        encoding = POSENCS[name](rows, columns, sizes["width"], sizes["heads"], sizes["depth"])
        encoding.keep_tables()
    return encoding


def hours_of(stages: list[Stage], machine: Machine) -> list[tuple[float, float]]:
    """Return the least and the most hours of each stage: its operations on all devices, and what only CPU cores do."""
    hours = []
    for stage in stages:
        beside = stage.core_seconds / machine.cores
        least, most = machine.seconds(stage.flops, stage.products)
        hours.append(((least + beside) / 3600, (most + beside) / 3600))
    return hours


def table(suite: str, machine: Machine, stages: list[Stage], notes: list[str]) -> str:
    """Return the plan's lines as text."""
    hours = hours_of(stages, machine)
    reached = " to ".join(f"{share:.0%}" for share in dict.fromkeys(machine.efficiency))
    rule = "-" * 100
    lines = [
        f"suite {suite} on {machine.devices} x {machine.name}, {reached} of the peak rate",
        f"{'stage':<12}{'jobs':>6}{'operations':>13}{'storage':>11}{'hours':>14}  how they are estimated",
        rule,
    ]
    total = Stage("total", 0, 0, 0, "")
    for stage, times in zip(stages, hours):
        lines.append(f"{_line(stage, times)}  {stage.note}")
        total += stage
    lines += [rule, _line(total, tuple(map(sum, zip(*hours))))]
    return "\n  ".join(["\n".join(lines), *notes])


def _line(stage: Stage, hours: tuple[float, ...]) -> str:
    shown = [f"{value:{'.2f' if value < 10 else '.0f'}}" for value in hours]
    span = " - ".join(dict.fromkeys(shown))
    return f"{stage.stage:<12}{stage.jobs:>6}{stage.flops:>13.3g}{as_size(stage.bytes):>11}{span:>14}"


def as_size(count: float) -> str:
    """Return bytes with a unit, three digits."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} PB"
