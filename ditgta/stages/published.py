"""Published checkpoints in and out: import-checkpoint and export-checkpoint."""

import argparse
import contextlib
import re
from dataclasses import asdict, replace
from pathlib import Path

import torch

from ditgta.data.published import Published, from_sit, read_published
from ditgta.model.dit import DiT, DiTConfig
from ditgta.model.positional import POSENCS, encoding_class
from ditgta.runtime.checkpoints import (
    AVERAGE,
    average_of,
    read_checkpoint,
    read_header,
    write_checkpoint,
    write_tensors,
)
from ditgta.runtime.errors import InputError
from ditgta.runtime.files import atomic_path, sha256_of
from ditgta.runtime.finished import refuse_other
from ditgta.runtime.modules import is_own


def run_import(
    source: Path, out: Path, given: dict, image_size: int | None, objective: str | None = None
) -> None:
    """Writes a published checkpoint as one of this project; its step is the file name's number, or 0.

    Raises InputError where the file cannot be used, something must be said that it does not say, or what was said contradicts it.

    Args:
        source: .pt or .safetensors file, or diffusers folder.
        given: what the user said of the model: name, posenc, qk_norm, depth, width, heads; only what was said.
        image_size: side in pixels, where the file does not say it.
        objective: "ddpm", "flow", or "sit" for flow with the conventions of SiT, where the file does not say it; by default "ddpm".
    """
    if out.suffix != ".safetensors":
        raise InputError(f"{out} must end in .safetensors")
    published = read_published(source)
    if objective == "sit":
        ema, weights = (group and from_sit(group) for group in (published.ema, published.model))
        published, objective = replace(published, ema=ema, model=weights), "flow"
    model = _build(source, published, given, image_size, objective)
    config, groups = model.config, {}
    for group, weights in ((AVERAGE, published.ema), ("model", published.model)):
        if weights is not None:
            _check_weights(source, model, weights)
            model.load_state_dict(weights)
            groups[group] = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    identity = {"file": source.name}
    if source.is_file():
        identity["sha256"] = sha256_of(source)
    step = int(source.stem) if source.stem.isdigit() else 0
    spec = {"imported": identity, "model": asdict(config)}
    header = {"spec": spec, "step": step, "model": asdict(config), "pending": False}
    _refuse_other(out, header)
    record = write_checkpoint(out, header, groups, losses=[])
    print(
        f"{out}: {config.depth} blocks of width {config.width}, posenc {config.posenc}, "
        f"qk_norm {config.qk_norm}, {config.num_classes} classes, sha256 {record['sha256'][:12]}"
    )


def _refuse_other(out: Path, header: dict) -> None:
    """Raise InputError where a checkpoint of another file, or one that was trained, is there."""
    try:
        record = read_header(out)
    except InputError:  # what is missing or damaged is no finished result
        return
    theirs = {"spec": record.spec, "step": record.step}
    ours = {"spec": header["spec"], "step": header["step"]}
    refuse_other(out, "a checkpoint", theirs, ours, {"spec.imported.file"}, "name another file to write to")


def _agree(source: Path, what: str, option: object, record: object) -> object:
    """Return what the user said or the file says; both must agree where both speak."""
    flag = f"--{re.sub('[_ ]', '-', what)}"
    if option is not None and record is not None and option != record:
        raise InputError(
            f"{source} says {what} {record}, {flag} says {option}; leave {flag} out, or give the other file"
        )
    return record if option is None else option


def _encoding(source: Path, published: Published, given: dict) -> tuple[str, bool]:
    """Return the encoding and whether the table of abs is added to it, from user, file and the names of the weights."""
    options = published.options
    table = bool(_agree(source, "absolute_table", given.get("absolute_table"), options.absolute_table))
    names = _names_of_encoding(published.ema)
    if published.sizes:  # a diffusers folder, which leaves the table of abs out
        names.add("pos_embed")
    kinds, named = dict(POSENCS), given.get("posenc") or options.posenc or ""
    if is_own(named):
        kinds[named] = encoding_class(named)
    fitting = []
    for name, kind in kinds.items():
        if kind.rotated or not table:
            smallest = DiT(DiTConfig((1, 1), 1, 0, 8, 1, 1, name, absolute_table=table))
            if names == _names_of_encoding(smallest.state_dict()):
                fitting.append(name)
    choice = options.posenc or (fitting[0] if len(fitting) == 1 else None)
    posenc = _agree(source, "posenc", given.get("posenc"), choice)
    fits = f"its weights fit {', '.join(fitting) or 'no encoding'}"
    fix = "--posenc or --absolute-table" if "pos_embed" in names and not table else "--posenc"
    if posenc is None:
        raise InputError(f"{source} does not say its positional encoding, and {fits}; give {fix}")
    if posenc not in kinds:
        raise InputError(
            f"{source} has the positional encoding {posenc!r}, which is unknown; known: {', '.join(POSENCS)}"
        )
    if posenc not in fitting:
        raise InputError(f"{source} cannot be posenc {posenc}: {fits}; give another {fix}")
    return posenc, table


def _names_of_encoding(weights: dict) -> set[str]:
    """Return those names of a model's weights that its positional encoding brings."""
    return {name for name in weights if name == "pos_embed" or name.startswith("encoding.")}


def _objective(source: Path, published: Published, option: str | None) -> str:
    """Return what the network predicts, from user and file; the number of channels must be that."""
    objective = _agree(source, "objective", option, published.options.objective) or "ddpm"
    weights = published.ema
    channels, patch = weights["x_embedder.proj.weight"].shape[1:3]
    outputs = len(weights["final_layer.linear.weight"]) // patch**2
    expected = 2 * channels if objective == "ddpm" else channels  # noise and its variance, or a velocity
    if outputs != expected:
        raise InputError(
            f"{source} predicts {outputs} channels for {channels} of the latent, objective {objective} needs {expected}; give --objective"
        )
    return objective


def _build(
    source: Path, published: Published, given: dict, image_size: int | None, objective: str | None
) -> DiT:
    weights, options = published.ema, published.options
    objective = _objective(source, published, objective)
    posenc, table = _encoding(source, published, given)
    base = _agree(source, "rotary_base", given.get("rotary_base"), options.rotary_base)
    normed = "blocks.0.attn.q_norm.scale" in weights
    qk_norm = _agree(source, "qk_norm", given.get("qk_norm"), normed)
    side = _agree(source, "image size", image_size, options.image_size)
    name = _agree(source, "model", given.get("name"), options.model)
    if side is None:
        raise InputError(f"{source} does not say its image size; give --image-size")
    patch = weights["x_embedder.proj.weight"].shape[-1]
    sizes = {key: given.get(key) or published.sizes.get(key) for key in ("depth", "width", "heads")}
    if name is None:
        if sizes["heads"] is None:
            raise InputError(f"{source} does not say which model it is; give --model, e.g. DiT-B/2")
        name = f"DiT-XL/{patch}"
    try:
        return DiT.from_name(
            name,
            image_size=side,
            posenc=posenc,
            num_classes=len(weights["y_embedder.embedding_table.weight"]) - 1,
            qk_norm=qk_norm,
            downsampling=side // (options.latent_size or side // 8),
            latent_channels=weights["x_embedder.proj.weight"].shape[1],
            rotary_base=base,
            absolute_table=table,
            objective=objective,
            **sizes,
        )
    except ValueError as error:
        raise InputError(f"{source}: {error}") from None


def _check_weights(source: Path, model: DiT, weights: dict[str, torch.Tensor]) -> None:
    """Compares names and shapes with the model's; names the first that differs."""
    expected = model.state_dict()
    if "pos_embed" in expected and "pos_embed" not in weights:
        weights["pos_embed"] = expected["pos_embed"]
    for name, tensor in expected.items():
        if name not in weights:
            raise InputError(
                f"{source} lacks {name}, which the model has; give the --model and --qk-norm of the file"
            )
        if weights[name].shape != tensor.shape:
            raise InputError(
                f"{source}: {name} is {list(weights[name].shape)}, the model's is {list(tensor.shape)}; "
                "give the --model and --image-size of the file"
            )
        if not torch.isfinite(weights[name]).all():
            raise InputError(f"{source}: {name} holds values that are not finite; download the file again")
    surplus = sorted(set(weights) - set(expected))
    if surplus:
        raise InputError(
            f"{source} has {surplus[0]}, which the model does not have; give the --model of the file"
        )


def run_export(checkpoint: Path, out: Path, ema_decay: float | None = None) -> None:
    """Writes a checkpoint's weights in the reference's key layout: OUT.pt (model, ema, args) or OUT.safetensors (EMA alone).

    `ema_decay`: of the average that is written, where the checkpoint has several; None: the first. Raises InputError for an unusable
    checkpoint, one without such an average, or another suffix.
    """
    if out.suffix not in (".pt", ".pth", ".safetensors"):
        raise InputError(f"{out} must end in .pt or .safetensors")
    group = average_of(checkpoint, read_header(checkpoint), ema_decay)
    header, groups = read_checkpoint(checkpoint, [group])
    average, options = groups[group], header.model.said()
    if out.is_file():
        weights = {}
        with contextlib.suppress(InputError):  # another thing than a network's weights
            weights = read_published(out).ema
        same = weights.keys() == average.keys()
        if not same or not all(torch.equal(weights[name], average[name]) for name in average):
            raise InputError(
                f"{out} holds something other than these weights and would be replaced; name another file"
            )
    if out.suffix == ".safetensors":
        write_tensors(out, average)
        return
    try:
        model = read_checkpoint(checkpoint, ["model"], verify=False)[1]["model"]
    except InputError:
        model = average
    arguments = argparse.Namespace(
        **{key: options.get(key) for key in ("posenc", "rotary_base", "absolute_table", "objective")},
        num_classes=options["num_classes"],
        image_size=header.image_size or 8 * options["latent_size"][0],
        latent_size=options["latent_size"][0],
        train_steps=header.step,
    )
    # The reference's tools read pickles; this one holds tensors, plain values and a Namespace, as theirs do.
    with atomic_path(out) as temporary, open(temporary, "wb") as file:  # whose errors tell of a full disk
        torch.save({"model": model, "ema": average, "args": arguments}, file)
