"""Train: from latent shards to a checkpoint at every milestone.

Guarantees: a run stopped anywhere goes on as if it had not been stopped, bit for bit on the same number of processes; every global
batch holds exactly `batch_size` images on any number of processes; a milestone is written once, whole, with all that is needed to
train on. Not done on purpose: learning-rate schedules (constant, so that training can always be extended).
"""

import contextlib
import os
import time
import warnings
from dataclasses import asdict
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs

from ditgta.config import Model, Sampling, Training
from ditgta.config.names import RESULTS_VERSION
from ditgta.data.autoencoder import load_autoencoder
from ditgta.data.batches import Batches
from ditgta.data.shards import LatentShards
from ditgta.diffusion.objectives import objective_of
from ditgta.kernels import choose, compiled
from ditgta.model.dit import DiT
from ditgta.runtime.addresses import readable
from ditgta.runtime.checkpoint_records import CheckpointHeader
from ditgta.runtime.checkpoints import AVERAGE, average_groups, checkpoint_name, read_checkpoint
from ditgta.runtime.errors import InputError, Stopped
from ditgta.runtime.lease import lease
from ditgta.runtime.memory import keep_freed_memory
from ditgta.runtime.processes import Processes, SideStream, StopSignal, processes
from ditgta.runtime.progress import Progress
from ditgta.runtime.recorder import RUN, Recorder, refuse_other
from ditgta.sampling import Sampler, image_label

QUICK = {"ddpm": "dpm-solver++", "flow": "heun"}  # samplers of what trackers show
DRAWN = {"flip", "posterior", "label_dropout", "timesteps", "time_density"}  # how batches are drawn
MOMENTS = ("exp_avg", "exp_avg_sq")  # that the optimizer keeps of each parameter


class Trainer:
    """Network, its moving averages and optimizer: all that a training step changes."""

    def __init__(self, network: DiT, options: Training, accelerator: Accelerator, group: Processes):
        self.options, self.accelerator, self.group = options, accelerator, group
        self.network = network.to(group.device).train()
        self.network.checkpoint_gradients = options.checkpoint_gradients
        if group.device.type == "cpu" and options.checkpoint_gradients:
            # Kept blocks of several MB have held up to three times what a pass needs. Measured, clearing pages again
            # costs 30 % of such a step's processor time; users who recompute activations are short of memory.
            keep_freed_memory(2**20)
        self.parameters = dict(self.network.named_parameters())
        self.averages = {}
        for name in average_groups(len(options.decays)):
            self.averages[name] = {key: value.clone() for key, value in self.network.state_dict().items()}
        self.optimizer = torch.optim.AdamW(
            self.parameters.values(),
            lr=options.learning_rate,
            betas=options.betas,
            weight_decay=options.weight_decay,
            fused=True,
        )
        self.objective = objective_of(options.objective, group.device)
        self.numerics = choose(self.network, options.kernels, options.compile)
        self.add_noise = compiled(self.objective.add_noise, self.numerics["compile"])
        self.losses = compiled(self.objective.losses, self.numerics["compile"])
        self.forward = accelerator.prepare(self.network)
        self.side = SideStream(group.device)  # of what reads the weights between two updates
        self.pending: list[torch.Tensor] = []  # the objective's terms at the steps since the last logged one
        self.made = 0  # steps
        # Where the processor keeps the last copied state, by group and name.
        self.copies: dict[str, dict[str, torch.Tensor]] = {}

    def settle(self, count: int) -> None:
        """Make one pass of no effect over `count` images, after which gradients are averaged in the same order at every step.

        DistributedDataParallel regroups gradients by the order in which its first pass made them. With three processes or more the
        grouping decides the order of the sums: a resumed training would round its first step otherwise than one that ran through.
        The pass has the shape of a step's, for which alone a compiled network is compiled.
        """
        if self.group.count == 1:
            return
        count = min(self.options.micro_batch or count, count)
        shape = (count, self.network.config.latent_channels, *self.network.config.latent_size)
        label = torch.zeros(count, dtype=torch.int64, device=self.group.device)
        output = self.forward(torch.zeros(shape, device=self.group.device), label, label)
        self.accelerator.backward(output.float().sum())
        self.optimizer.zero_grad(set_to_none=True)

    def learning_rate(self, step: int) -> float:
        """Return the learning rate of step 1, 2, ...: it rises during warm-up, and then is constant."""
        return self.options.learning_rate * min(1.0, step / max(self.options.warmup, 1))

    def step(self, batch: dict[str, torch.Tensor], measured: bool = False) -> torch.Tensor | None:
        """Makes one training step on this process's share of the global batch; returns the gradient's norm where it is measured."""
        batch = {name: tensor.to(self.group.device, non_blocking=True) for name, tensor in batch.items()}
        times = self.objective.times(batch.pop("u"))
        count = len(times)
        sums = torch.zeros(len(self.objective.terms), device=self.group.device)
        micro = min(self.options.micro_batch or count, count)
        chunks = range(0, count, micro)
        for begin in chunks:
            # Evaluate loss and accumulate gradients.
            t = times[begin : begin + micro]
            x0, y, noise = (batch[name][begin : begin + micro] for name in ("x0", "y", "noise"))
            last = begin == chunks[-1]
            with contextlib.nullcontext() if last else self.accelerator.no_sync(self.forward):
                output = self.forward(self.add_noise(x0, t, noise), t, y)
                losses = self.losses(output, x0, t, noise)
                # Processes average their gradients; shares may differ in size, so each weighs its sum over the global batch.
                self.accelerator.backward(losses["loss"].sum() * (self.group.count / self.options.batch_size))
            sums += torch.stack([losses[term].detach().sum() for term in self.objective.terms])
        self.pending.append(sums / self.options.batch_size)

        # Run optimizer and update weights.
        norm = None
        if self.options.gradient_clip:
            norm = self.accelerator.clip_grad_norm_(self.network.parameters(), self.options.gradient_clip)
        elif measured:
            norm = torch.nn.utils.get_total_norm([p.grad for p in self.parameters.values()])
        self.side.join()
        self.made += 1
        self.optimizer.param_groups[0]["lr"] = self.learning_rate(self.made)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

        # Update the averages while the next step begins.
        with self.side.run(), torch.no_grad():
            for average, decay in zip(self.averages.values(), self.options.decays):
                averages = [average[name] for name in self.parameters]
                torch._foreach_lerp_(averages, list(self.parameters.values()), 1 - decay)
        return norm

    def reduce_pending(self) -> torch.Tensor:
        """Return the global losses of the steps since the last logged one, (n, terms), and keep them on the first process alone."""
        if not self.pending:
            return torch.zeros(0, len(self.objective.terms), device=self.group.device)
        total = self.group.sum(torch.stack(self.pending))
        self._keep(total)
        return total

    def groups(self) -> dict[str, dict[str, torch.Tensor]]:
        """Return every tensor that training resumes from, as it will be copied to the CPU while training goes on.

        The copies are complete when `side.finish` returns. They stand where the last ones stood, which must have been written by
        then: new memory would double the pause.
        """
        optimizer = {}
        for name, parameter in self.parameters.items():
            for moment in MOMENTS:
                optimizer[f"{moment}.{name}"] = self.optimizer.state[parameter][moment]
        groups = {**self.averages, "model": self.network.state_dict(), "optimizer": optimizer}
        with self.side.run():
            for group, tensors in groups.items():
                copies = self.copies.setdefault(group, {})
                for name, tensor in tensors.items():
                    if name not in copies:
                        copies[name] = torch.empty_like(tensor, device="cpu", pin_memory=tensor.is_cuda)
                    copies[name].copy_(tensor.detach(), non_blocking=True)
        copied = dict(self.copies)
        if self.pending:
            copied["pending"] = {"losses": torch.stack(self.pending).cpu()}
        return copied

    @torch.no_grad()
    def load(self, path: Path) -> CheckpointHeader:
        """Takes over everything from a snapshot or milestone, and returns its header."""
        header, groups = read_checkpoint(path, [*self.averages, "model", "optimizer"], verify=False)
        self.network.load_state_dict(groups["model"])
        self.made = header.step
        for group, average in self.averages.items():
            for name, tensor in groups[group].items():
                average[name].copy_(tensor)
        moments = groups["optimizer"]
        for name, parameter in self.parameters.items():
            state = {"step": torch.tensor(float(header.step), device=parameter.device)}
            for moment in MOMENTS:
                value = moments.get(f"{moment}.{name}")
                if value is None or value.shape != parameter.shape:
                    raise InputError(
                        f"{path} lacks {moment} of {name}, or has it in another shape; delete the file and train again"
                    )
                state[moment] = value.to(parameter.device)
            self.optimizer.state[parameter] = state
        if header.pending:
            _, extra = read_checkpoint(path, ["pending"], verify=False)
            self._keep(extra["pending"]["losses"].to(self.group.device))
        return header

    def _keep(self, losses: torch.Tensor) -> None:
        """Keep global losses (n, terms) on the first process alone, because they are summed over all."""
        self.pending = list(losses if self.group.is_first else torch.zeros_like(losses))


def run(
    latents: Path,
    out: Path,
    milestones: list[int],
    model: Model,
    training: Training,
    seed: int,
    autoencoder: Path | None = None,
) -> None:
    """Trains until the last milestone, from the newest state found, and writes out/STEP.safetensors at each.

    With the folder of the autoencoder a tracker gets samples at each snapshot. Raises InputError for unusable latents, options that do
    not fit, a live trainer on the same run, or a loss that is not finite, and Stopped when a signal has asked to stop and a snapshot
    has been written.
    """
    milestones = sorted(set(milestones))
    if milestones[0] < 1:
        raise InputError(f"milestones must be at least 1, got {milestones[0]}")
    with processes(training.tf32) as group, contextlib.ExitStack() as stack:
        shards = LatentShards(latents)
        spec = {
            "version": RESULTS_VERSION,
            "latents": shards.content.spec,
            "model": model.spec(),
            "training": training.spec(),
            "seed": seed,
        }
        folder = out / RUN
        refuse_other(out, spec)
        _check_batch_size(training.batch_size, group.count, shards.count)
        network = _build(shards, model, training.objective, seed)
        header = _header(spec, network, shards)
        row = out.parent if out.name.startswith("seed") else out
        recorder = Recorder(out, header, readable(row.name))
        held, states = None, None
        if group.is_first:
            held = stack.enter_context(lease(folder, "another trainer"))
            states = recorder.unfinished(milestones)
        missing, latest = group.gather(states)[0]
        if not missing:
            if group.is_first:
                recorder.say(f"nothing to do: {out / checkpoint_name(milestones[-1])} is there")
            return
        with group.own_errors():  # every shard is checked before it is used; the processes share the work
            shards.verify(group.share(range(shards.shard_count)))
        start, state = latest or (0, None)
        accelerator = accelerator_of(training, folder, group)
        if group.is_first:
            recorder.begin(start, state)
        trainer = Trainer(network, training, accelerator, group)
        recorder.header["numerics"] = trainer.numerics
        _resume(trainer, recorder, state)
        part = group.batch_slice(training.batch_size)
        drawn = training.model_dump(include=DRAWN)
        batches = Batches(shards, seed, training.batch_size, part, **drawn)
        trainer.settle(part.stop - part.start)
        with StopSignal(group) as stop:
            _train(trainer, recorder, batches, start, missing, stop, held, autoencoder)


def _resume(trainer: Trainer, recorder: Recorder, state: Path | None) -> None:
    """Take over the state of a run, None at its beginning, and say what its user should know."""
    before = None
    if state is not None:
        before = trainer.load(state).numerics
        recorder.last_good = str(state)
    if trainer.group.is_first:
        for line in _remarks(trainer.options, trainer.numerics, before):
            recorder.say(line)


def _check_batch_size(batch_size: int, processes: int, images: int) -> None:
    if not processes <= batch_size <= images:
        raise InputError(
            f"batch_size {batch_size} does not fit {processes} processes and {images} images; "
            "each process needs an image, and no image may be in a batch twice; change batch_size or the number of processes"
        )


def _header(spec: dict, network: DiT, shards: LatentShards) -> dict:
    """Return what every checkpoint of a run says of itself."""
    return {
        "spec": spec,
        "model": asdict(network.config),
        "classes": shards.classes,
        "images": shards.content.images,
        "image_size": shards.image_size,
        "autoencoder_sha256": shards.content.autoencoder_sha256,
    }


def _remarks(options: Training, numerics: dict, before: dict | None) -> list[str]:
    """Return what a user should know before a training begins, or resumes with the numerics of `before`, a line each."""
    lines = []
    if before and before != numerics:
        changes = []
        for name in sorted(before.keys() | numerics.keys()):
            if before.get(name) != numerics.get(name):
                changes.append(f"{name} {before.get(name)} -> {numerics.get(name)}")
        lines.append(
            f"resumes a training with other numerics ({', '.join(changes)}): results are equal to rounding, not bit for bit"
        )
    if not numerics["device"].startswith("CPU") and options.precision == "float32" and not options.tf32:
        lines.append(
            "float32 without TF32 is slow on a GPU; set training.tf32: true or training.precision: bf16"
        )
    if numerics["compile"]:
        name = "TORCHINDUCTOR_CACHE_DIR"
        cache = os.environ.get(name, f"the temporary folder; keep it with {name}")
        lines.append(f"compiling: the first step takes up to a minute; compiled code is cached in {cache}")
    return lines


def _build(shards: LatentShards, model: Model, objective: str, seed: int) -> DiT:
    try:
        return DiT.from_name(
            **model.model_dump(),
            image_size=shards.image_size,
            num_classes=len(shards.classes),
            downsampling=shards.image_size // shards.latent_shape[1],
            latent_channels=shards.latent_shape[0],
            objective=objective,
            seed=seed,
        )
    except ValueError as error:
        raise InputError(f"{error} (set model and posenc in the experiment's `model`)") from None


def accelerator_of(training: Training, folder: Path, group: Processes) -> Accelerator:
    asked = os.environ.get("ACCELERATE_MIXED_PRECISION") or "no"
    precision = "bf16" if training.precision == "bf16" else "no"
    if asked not in ("no", precision):
        raise InputError(
            f"accelerate launch asks for mixed precision {asked}, --precision is {training.precision}; "
            "give --precision bf16, or leave --mixed_precision out"
        )
    averaging = DistributedDataParallelKwargs(broadcast_buffers=False, gradient_as_bucket_view=True)
    warnings.filterwarnings("ignore", "`log_with=")  # a tracker that is not installed: said below
    AcceleratorState._reset_state()  # it keeps the precision of the process's first training for all later ones
    try:
        accelerator = Accelerator(
            cpu=group.device.type == "cpu",
            mixed_precision=precision,
            log_with=training.tracker,
            project_dir=folder,
            kwargs_handlers=[averaging],
        )
    except ValueError as error:  # accelerate's answer to a tracker that it does not know
        if not training.tracker:
            raise
        raise InputError(f"tracker {training.tracker}: {' '.join(str(error).split())}") from None
    if training.tracker and not accelerator.log_with:
        raise InputError(
            f"tracker {training.tracker} is not installed; install it with pip, or leave `tracker` out"
        )
    assert accelerator.num_processes == group.count, "accelerate does not see the launched process group"
    if training.tracker:
        accelerator.init_trackers("ditgta")
    return accelerator


def _train(
    trainer, recorder, batches, start: int, milestones: list[int], stop: StopSignal, held, autoencoder
) -> None:
    """The training loop."""
    options, group = trainer.options, trainer.group
    last = milestones[-1]
    silent, log = not group.is_first, recorder.folder / "train.log"
    progress = Progress("train", last, start, "steps", options.batch_size, silent, log)
    if start in milestones:  # a snapshot stands at this very step
        _save(trainer, recorder, start, True, held)
    begun, latest, paused = time.monotonic(), {}, 0.0
    batch_iterator = batches.ahead(start, last, pin=group.device.type == "cuda")
    with progress, contextlib.closing(batch_iterator):
        for step, batch in enumerate(batch_iterator, start + 1):
            is_logged = step % options.log_every == 0
            norm = trainer.step(batch, measured=is_logged)
            if step == start + 1 and trainer.numerics["compile"] and group.is_first:
                recorder.say(f"compiled: the first step took {time.monotonic() - begun:.0f} s")
            stopping = stop.agreed(step) if step < last else 0
            is_milestone, is_snapshot = step in milestones, step % options.snapshot_every == 0 or stopping > 0
            if is_logged or is_milestone or is_snapshot:
                losses = trainer.reduce_pending().double().cpu()
                _check_finite(losses, step, recorder)
                rate = round((step - start) * options.batch_size / (time.monotonic() - begun), 2)
                if is_logged:
                    trainer.pending = []
                    means = dict(zip(trainer.objective.terms, losses.mean(0).tolist()))
                    means |= {"gradient_norm": float(norm), "images_per_second": rate}
                    latest = {"loss": means["loss"]}
                    if group.is_first:
                        recorder.log({"step": step, **means})
                    if options.tracker:
                        trainer.accelerator.log(means, step=step)
                if is_milestone or is_snapshot:
                    paused += _save(trainer, recorder, step, is_milestone, held, images_per_second=rate)
                    if options.tracker and autoencoder and group.is_first:
                        _show_samples(trainer, autoencoder, step)
            progress.advance(1, **latest)
            if stopping:
                recorder.wait()
                text = f"stopped by a signal at step {step}; snapshot written; run the same command to resume"
                raise Stopped(text, stopping)
    recorder.wait()
    if options.tracker:
        trainer.accelerator.end_training()
    if group.is_first:
        elapsed = max(time.monotonic() - begun, 1e-9)
        share = f"({paused / elapsed:.1%})"
        recorder.say(f"snapshots paused training for {paused:.2f}s of {elapsed:.1f}s {share}")


def _show_samples(trainer: Trainer, autoencoder: Path, step: int) -> None:
    """Gives the trackers a few images of the averaged weights, from the same noise and labels at every snapshot."""
    device = trainer.group.device
    trainer.side.join()
    network = DiT(trainer.network.config).to(device)
    network.load_state_dict(trainer.averages[AVERAGE])
    options = Sampling(num_samples=16, sampler=QUICK[network.config.objective], steps=20, cfg_scale=2.0)
    sampler = Sampler(network, load_autoencoder(autoencoder, device), options)
    indices = list(range(options.num_samples))
    labels = [image_label(options.labels, options.seed, index, network.num_classes) for index in indices]
    images = sampler(indices, labels)
    for tracker in trainer.accelerator.trackers:
        if hasattr(tracker, "log_images"):
            order = {"dataformats": "NHWC"} if tracker.name == "tensorboard" else {}
            tracker.log_images({"samples": images}, step=step, **order)


def _save(trainer: Trainer, recorder: Recorder, step: int, milestone: bool, held, **record) -> float:
    """Copies the state for the recorder to write meanwhile; returns the seconds that training paused for it."""
    begin = time.monotonic()
    if trainer.group.is_first:
        held.check()
        recorder.wait()
        record["processes"] = trainer.group.count
        recorder.save(trainer.groups(), step, milestone, ready=trainer.side.finish, **record)
    return time.monotonic() - begin


def _check_finite(losses: torch.Tensor, step: int, recorder: Recorder) -> None:
    bad = (~torch.isfinite(losses).all(1)).nonzero()
    if len(bad):
        first = step - len(losses) + int(bad[0]) + 1
        with contextlib.suppress(Exception):
            recorder.wait()
        raise InputError(
            f"the loss of {recorder.experiment} is not finite at step {first}; the last good state is {recorder.last_good}; "
            "lower the learning rate or set gradient_clip"
        )
