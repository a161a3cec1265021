"""New experiment: a look at a folder of images, and experiments and a suite sized to it, to this machine and to the time there is."""

import itertools
import math
import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from ditgta.config import Config, load, merge, read
from ditgta.config.files import DEFAULT
from ditgta.config.names import named_sizes
from ditgta.data.scorer_files import PUBLISHED_URL
from ditgta.data.survey import Survey, survey
from ditgta.planning import estimate
from ditgta.planning.machine import HERE, Machine, machine_of
from ditgta.report.gaps import gap_text
from ditgta.runtime.errors import InputError
from ditgta.runtime.files import write_text
from ditgta.runtime.yaml_text import as_text, with_entries

POSENCS = ("abs", "rope", "gta")
DIFFERENCES = [["gta", "rope"], ["gta", "abs"], ["rope", "abs"]]
# What the plan, which counts operations, knows nothing of: how long a job takes to start, and how long a GPU is kept busy at
# least by starting the kernels of a block, in a training step and in a sampling step of one batch.
JOB_SECONDS = 10
BLOCK_SECONDS = {"train": 2e-3, "sample": 5e-4}
MOST_EPOCHS = 500  # the papers train for about as many
MOST_STEPS = 500_000
_MOST_HOURS = 1e6
LEAST_STEPS = 200
LEAST_SAMPLES = 300
SIZES = (256, 128, 64, 32)


class Means(NamedTuple):
    """What a kind of machine can do in a useful time."""

    largest_size: int
    most_samples: int
    sampling_steps: tuple[int, ...]  # to choose from
    batch_factor: int  # on a recipe's batch size
    side_tokens: int  # of a network's input
    tf32: dict


class Networks(NamedTuple):
    """The autoencoder and the scorer of a suite."""

    features: int  # of the scorer
    downsampling: int  # of the autoencoder
    autoencoder: dict
    scorer: dict


class Recipe(NamedTuple):
    """A size of model, the images and steps that make it worth its cost, and how it is trained for so many steps without GPUs."""

    model: str
    images: int
    steps: int
    needs_gpu: bool
    batch_size: int
    learning_rate: float


WITHOUT_GPU = Means(64, 2000, (50, 25), 1, 8, {})
WITH_GPU = Means(256, 50_000, (250, 100, 50, 25), 4, 16, {"tf32": True})
PUBLISHED = Networks(2048, 8, {"pretrained": "stabilityai/sd-vae-ft-ema"}, {"weights": PUBLISHED_URL})
TRAINED = Networks(128, 4, {}, {})  # small ones, on the images


# The first is the paper's, the last the default suite's.
RECIPES = (
    Recipe("DiT-B", 50_000, 50_000, True, 64, 1e-4),
    Recipe("DiT-S", 2_000, 20_000, True, 32, 5e-4),
    Recipe("DiT-Ti", 1, 3_000, False, 16, 3e-3),
)
LEAST_RATE = 1e-4
SEEDS = [0, 1, 2]  # before steps: one run earns no verdict
HOLD_OUT = 0.2


def run(images: Path, name: str | None, hours: float, files: Sequence[Path], write: bool) -> None:
    """Prints what is in a folder of images, a proposal as YAML and its plan; writes the proposal to a file only if told to.

    `name` is that of the suite and, with an encoding behind it, of its experiments; None takes the folder's. The whole suite may take
    so many hours on this machine. The proposal must go together with the configuration in `files`; `write` adds it to the last of them,
    which need not exist yet, and without any to a file of its own, NAME.yaml. Raises InputError for an unusable folder, a name that is
    taken, or a file to which nothing can be added safely.
    """
    if not 0 < hours < _MOST_HOURS:
        raise InputError(f"--hours must be more than 0 and less than {_MOST_HOURS:g}, got {hours:g}")
    name = name or re.sub("[^A-Za-z0-9]+", "-", images.absolute().name).strip("-") or "images"
    file = files[-1] if files else Path(f"{name}.yaml")
    raw = read([*files[:-1], file] if file.exists() else files[:-1])
    _check_names(name, raw)
    summary = survey(images)
    machine, gpus = machine_of(HERE), torch.cuda.device_count()

    def planned(proposal: dict) -> tuple[Config, list[estimate.Stage], list[str]]:
        merged: dict = {}
        for part in (raw, proposal):
            merge(merged, part)
        config = load(merged)
        return config, *estimate.plan(config, name, (summary.count, summary.classes))

    def hours_of(proposal: dict) -> dict[str, float]:
        config, stages, _ = planned(proposal)
        return hours_of_stages(config, name, stages, machine, gpus)

    proposal, notes = propose(str(images), name, summary, hours, gpus, hours_of)
    _, stages, explanations = planned(proposal)
    spent = sum(hours_of(proposal).values())
    print(f"{summary.text()}\n\nproposed for {hours:g} h on {machine.devices} x {machine.name}:\n")
    print(as_text(proposal))
    print(estimate.table(name, machine, stages, explanations))
    print(f"with the start-up of jobs and the waiting time of GPUs: {spent:.2f} h")
    print("\n".join(f"note: {note}" for note in notes))
    command = f"snakemake --cores all {shlex.quote(name)}"
    if file != Path(DEFAULT):
        command += f" {shlex.join(['--configfile', *map(str, [*files[:-1], file])])}"
    if not write:
        print(f"nothing was written; --write adds this to {file}; then run: {command}")
        return
    path, text = file.resolve(), as_text(proposal)
    if path.exists() and (before := path.read_bytes().decode()).strip():
        text = with_entries(before, proposal)
    write_text(path, text)
    print(f"written to {file}; start it with: {command}")


def hours_of_stages(
    config: Config, suite: str, stages: list[estimate.Stage], machine: Machine, gpus: int
) -> dict[str, float]:
    """Return the hours of each stage, with what operations do not tell: starting jobs and, on GPUs, kernels."""
    hours = {stage.stage: most for stage, (_, most) in zip(stages, estimate.hours_of(stages, machine))}
    hours["starts"] = sum(stage.jobs for stage in stages) * JOB_SECONDS / 3600 / machine.devices
    if gpus:
        options = config.suites[suite]
        rows, sampling = len(options.experiments), options.sampling
        depth = named_sizes(config.experiments[options.experiments[0]].model.name)["depth"]
        batches = rows * len(options.milestones) * math.ceil(sampling.num_samples / sampling.batch_size)
        busy = {
            "train": math.ceil(rows / gpus) * options.milestones[-1],
            "sample": math.ceil(batches / gpus) * sampling.steps,
        }
        for stage, count in busy.items():
            hours[stage] = max(hours[stage], count * depth * BLOCK_SECONDS[stage] / 3600)
    return hours


def _check_names(name: str, raw: dict) -> None:
    for kind, names in (("experiment", [name, *rows_of(name)]), ("suite", [name])):
        for one in names:
            if one in (raw.get(f"{kind}s") or {}):
                raise InputError(f"{kind} {one} is already in the configuration; choose another --name")


def rows_of(name: str) -> list[str]:
    """Return the names of the experiments that are rows."""
    return [f"{name}-{posenc}" for posenc in POSENCS]


def propose(
    source: str,
    name: str,
    summary: Survey,
    hours: float,
    gpus: int,
    hours_of: Callable[[dict], dict[str, float]],
) -> tuple[dict, list[str]]:
    """Return {experiments, suites} as they stand in a configuration, and notes on what was chosen.

    The largest images and then the largest model are taken with which a useful number of steps fits into the time; then
    samples get up to a third of it, and training what is left. `hours_of` returns the hours of each stage of a proposal here.
    """
    notes: list[str] = []
    means = WITH_GPU if gpus else WITHOUT_GPU
    # At most a quarter of the images must be enlarged.
    most = min(np.percentile(summary.short_sides, 25), means.largest_size)
    sizes = [size for size in SIZES if size <= most] or SIZES[-1:]
    recipes = [r for r in RECIPES if summary.count >= r.images and (gpus or not r.needs_gpu)]

    def spent(draft: Draft, *numbers: int) -> float:
        return sum(hours_of(draft.proposal(*numbers)).values())

    for size, recipe in itertools.product(sizes, recipes):
        draft = Draft(source, name, summary, size, recipe, means)
        if fits := spent(draft, recipe.steps, LEAST_SAMPLES, 25) <= hours:
            break
    samples, sampling_steps = _sampling(draft, hours, hours_of)
    first, second = (spent(draft, steps, samples, sampling_steps) for steps in (1000, 2000))
    affordable = (hours - first) / (second - first) * 1000 + 1000
    epochs = MOST_EPOCHS * draft.trained_on // draft.batch_size
    steps = nice(max(LEAST_STEPS, min(affordable, epochs, MOST_STEPS)))
    if not fits:
        notes.append(
            f"{hours:g} hours are too short: {steps:,} steps hardly show a difference between encodings; give more --hours"
        )
    return draft.proposal(steps, samples, sampling_steps), notes + draft.notes(steps, samples)


def _sampling(draft: "Draft", hours: float, hours_of: Callable) -> tuple[int, int]:
    """Return number of samples and sampling steps: as many as there are images where a third of the time allows it."""
    wanted = nice(min(max(draft.summary.count, LEAST_SAMPLES), draft.means.most_samples))
    counts = {LEAST_SAMPLES, *(nice(wanted * share) for share in (1, 0.5, 0.2, 0.1))}
    for samples, steps in itertools.product(sorted(counts, reverse=True), draft.means.sampling_steps):
        spent = hours_of(draft.proposal(LEAST_STEPS, samples, steps))
        if spent["sample"] + spent["score"] <= hours / 3:
            return samples, steps
    return LEAST_SAMPLES, 25


def nice(number: float) -> int:
    """Return the largest of 1, 1.5, 2, 3, 5, 7, 10, ... that is no larger."""
    power = 10 ** (len(str(int(number))) - 1)
    return max(int(digit * power) for digit in (1, 1.5, 2, 3, 5, 7) if digit * power <= number)


@dataclass(frozen=True)
class Draft:
    """Everything of a proposal but its numbers of steps and samples."""

    source: str
    name: str
    summary: Survey
    size: int
    recipe: Recipe
    means: Means

    @property
    def networks(self) -> Networks:
        """The published autoencoder and FID network, or for small images those that are trained on them."""
        return PUBLISHED if self.size >= 128 else TRAINED

    @property
    def holds_out(self) -> bool:
        """Whether each class has images enough to hold some out, with a margin for equal and faulty ones."""
        per_class = self.summary.index.per_class
        return bool(per_class[per_class > 0].min() * HOLD_OUT >= 2)

    @property
    def held_out(self) -> int:
        """How many images are held out."""
        if not self.holds_out:
            return 0
        return sum(round(HOLD_OUT * count) for count in self.summary.index.per_class.tolist())

    @property
    def trained_on(self) -> int:
        """How many images training sees."""
        return self.summary.count - self.held_out

    @property
    def reference(self) -> tuple[int, str]:
        """The number of real images that samples are compared with, and what they are: the published network takes those of training."""
        if self.holds_out and self.networks is TRAINED:
            return self.held_out, "held-out images"
        return self.trained_on, "images"

    def primary(self, samples: int) -> str:
        """The metric of the verdicts: the held-out loss, else FID where images and both halves of the samples exceed the features, else KID."""
        if self.holds_out:
            return "loss"
        features = self.networks.features
        return "fid" if self.reference[0] > features and samples // 2 > features else "kid"

    @property
    def batch_size(self) -> int:
        """Images per step."""
        return max(1, min(self.recipe.batch_size * self.means.batch_factor, self.summary.count // 2))

    def proposal(self, steps: int, samples: int, sampling_steps: int) -> dict:
        """Return {experiments, suites}."""
        name, tf32, networks = self.name, self.means.tf32, self.networks
        images = {"source": self.source, "size": self.size}
        if self.summary.faults:
            images["on_error"] = "skip"
        if self.holds_out:
            images["hold_out"] = HOLD_OUT
        patch = max(1, self.size // networks.downsampling // self.means.side_tokens)
        # The longer a training at a constant rate is, the smaller the rate at which it ends well.
        rate = self.recipe.learning_rate * min(1, math.sqrt(self.recipe.steps / steps))
        rate = max(LEAST_RATE, float(f"{rate:.1e}"))
        training = {
            "batch_size": self.batch_size,
            "learning_rate": rate,
            **({"gradient_clip": 1.0} if rate > LEAST_RATE else {}),
            "ema_decay": max(0.5, min(0.9999, round(1 - 17.5 / steps, 4))),  # averages over a twentieth
            **tf32,
            "log_every": nice(max(1, min(100, steps / 50))),
            "snapshot_every": nice(max(10, min(5000, steps / 10))),
        }
        base = {
            "images": images,
            "autoencoder": dict(networks.autoencoder),
            "model": {"name": f"{self.recipe.model}/{patch}"},
            "training": training,
        }
        if networks is PUBLISHED:
            base["autoencoder"] |= tf32
        rows = {row: {"like": name, "model": {"posenc": kind}} for row, kind in zip(rows_of(name), POSENCS)}
        suite = {
            "experiments": list(rows),
            "differences": [[f"{name}-{posenc}" for posenc in pair] for pair in DIFFERENCES],
            "milestones": sorted({nice(0.4 * steps), steps}),
            "seeds": SEEDS,
            "primary": self.primary(samples),
            "sampling": {
                "num_samples": samples,
                "steps": sampling_steps,
                "cfg_scale": 1.5 if self.summary.classes > 1 else 1.0,
                **tf32,
            },
            "scorer": dict(networks.scorer),
        }
        return {"experiments": {name: base, **rows}, "suites": {name: suite}}

    def notes(self, steps: int, samples: int) -> list[str]:
        """Return what a reader of the proposal should know."""
        summary, features = self.summary, self.networks.features
        counts = (self.reference, (samples, "samples"))
        few = [f"{count:,} {what}" for count, what in counts if count <= features]
        small = int((summary.short_sides < self.size).sum())
        notes = []
        if few:
            notes.append(
                f"{' and '.join(few)} against {features:,} features: use KID, because FID is too high"
            )
        notes += [
            f"each image is seen {steps * self.batch_size / self.trained_on:,.0f} times in {steps:,} steps",
            gap_text(len(POSENCS), len(SEEDS), len(DIFFERENCES), self.primary(samples), features),
            "images are mirrored at random; training: {flip: none} if a mirrored image is another thing, as with letters",
        ]
        if small:
            notes.append(
                f"{small / len(summary.short_sides):.0%} of the images are smaller than {self.size} pixels and are enlarged"
            )
        if self.networks is PUBLISHED:
            notes.append(
                "the pretrained autoencoder and the FID network are downloaded once, or given as paths"
            )
        return notes
