"""Save and push: a checkpoint as a folder that the Hugging Face hub and `from_pretrained` know, with a model card."""

import contextlib
import os
import re
from pathlib import Path

import numpy as np
from PIL import Image

from ditgta.config import OBJECTIVES, Sampling
from ditgta.data.autoencoder import write_autoencoder
from ditgta.report.drawing import write_picture
from ditgta.report.evidence import Score, read_score, samples_folder
from ditgta.report.grid import pick
from ditgta.report.losses import read_loss_record, with_losses
from ditgta.report.model import CLASS_ACCURACY, CLASS_GAIN, DINOV2, LOSS, METRICS
from ditgta.report.origin import protocol
from ditgta.report.render import render
from ditgta.runtime.checkpoints import decays_of, further_decay, read_header, write_tensors
from ditgta.runtime.errors import InputError
from ditgta.runtime.files import (
    provenance,
    read_json,
    read_text,
    sha256_of,
    spec_hash,
    write_json,
    write_text,
)
from ditgta.runtime.finished import read_finished, refuse_other
from ditgta.runtime.pretrained import AUTOENCODER, CARD, CONFIG, SAMPLES, UPLOADED, WEIGHTS, push_pretrained
from ditgta.runtime.records import Record, part
from ditgta.sampling import Sampler

_LIBRARY = "ditgta"
CARD_SAMPLES = 8
_TRAINING = (
    *("objective", "batch_size", "learning_rate", "warmup", "betas", "weight_decay"),
    *("ema_decay", "gradient_clip", "label_dropout", "timesteps", "time_density"),
)
_METRICS = (LOSS, *METRICS, CLASS_ACCURACY, CLASS_GAIN, *DINOV2)
_SWITCHES = {
    "training": ("flip", "posterior", "precision", "tf32"),
    "sampling": (
        *("sampler", "steps", "cfg_scale", "cfg_channels", "labels"),
        *("precision", "tf32", "guidance_precision", "uint8"),
    ),
}


def run_save(
    checkpoint: Path,
    folder: Path,
    autoencoder: Path,
    scores: Path | None,
    table: Path | None,
    ema_decay: float | None = None,
    loss: Path | None = None,
    license: str | None = None,
) -> None:
    """Writes config.json, model.safetensors (EMA weights), README.md and the autoencoder in a folder of its own.

    `autoencoder` is the one whose latents the checkpoint was trained on. The card takes the score file of this very checkpoint, its
    first samples if they are still there, the record of the held-out losses, the folder of the table, and the licence. `ema_decay` is that of the average that is written, where the checkpoint has
    several; None: the first. Raises InputError for files that cannot be used, or do not belong together.
    """
    if loss and not scores:
        raise InputError("--loss stands in the card beside the scores; give --scores too")
    header = read_header(checkpoint)
    first = OBJECTIVES[header.model.objective][0]
    sampler = Sampler.from_files(checkpoint, autoencoder, Sampling(sampler=first, ema_decay=ema_decay), "cpu")
    further, decays = further_decay(header, ema_decay), decays_of(header)
    score = _score_of(checkpoint, scores, further) if scores else None
    if loss and score:
        score = _with_loss_of(checkpoint, loss, score, further)
    page = _table_of(table) if table else ""
    spec, model = header.spec, header.model.said()
    training = spec.get("training")
    if len(decays) > 1:
        training = {**spec["training"], "ema_decay": decays[0] if further is None else further}
    config = {
        "library": _LIBRARY,
        "versions": provenance()["versions"],
        "model": model,
        "classes": sampler.classes,
        "images": header.images,
        "image_size": header.image_size or 8 * model["latent_size"][0],
        "step": header.step,
        "seed": spec.get("seed"),
        "training": training,
        "spec_hash": spec_hash(spec),
    }
    _refuse_other(folder, config)
    samples = _first_samples(score) if score else None
    card = model_card(folder.absolute().name, config, spec, score, page, license, samples is not None)
    write_text(folder / CARD, card)  # first, it says whose the rest is
    if samples:
        write_picture(folder / SAMPLES, samples)
    else:
        (folder / SAMPLES).unlink(missing_ok=True)
    write_autoencoder(sampler.autoencoder, folder / AUTOENCODER)
    write_tensors(folder / WEIGHTS, sampler.network.state_dict())
    write_json(folder / CONFIG, config)  # last, it vouches for the rest
    print(f'{folder}: DiTPipeline.from_pretrained("{folder}"), or upload it with `python -m ditgta push`')


def _first_samples(score: Score) -> Image.Image | None:
    """Return the first samples of a score file side by side, None where they are no longer there."""
    folder = samples_folder(score)
    if folder is None:
        return None
    theirs = read_json(folder / "index.json").get("checkpoint_sha256")
    if theirs != part(score.content, "samples").get("checkpoint_sha256"):
        return None  # the folder holds other samples by now
    images = [image for image in pick(folder, range(CARD_SAMPLES)) if image is not None]
    return Image.fromarray(np.concatenate(images, axis=1)) if images else None


def _refuse_other(folder: Path, config: dict) -> None:
    """Raise InputError where a folder holds a model of another checkpoint, or files of something else."""
    record = read_finished(Record, folder / CONFIG)
    if record:
        names = ("step", "seed", "training", "model", "spec_hash")
        theirs, ours = ({name: one.get(name) for name in names} for one in (record.said(), config))
        refuse_other(folder, "a pretrained model", theirs, ours, fix="name another folder")
        return
    with contextlib.suppress(InputError):
        if f"library_name: {_LIBRARY}" in read_text(folder / CARD):
            return  # of a save that was cut off
    for name in (CARD, *UPLOADED):
        if os.path.lexists(folder / name):
            raise InputError(
                f"{folder} holds {name}, which save-pretrained did not write and would replace; name another folder"
            )


def run_push(folder: Path, repository: str, private: bool) -> None:
    """Uploads a folder that `run_save` wrote to the Hugging Face hub; raises InputError if it holds no model, or that fails."""
    print(f"{folder}: uploaded to {push_pretrained(folder, repository, private)}")


def _score_of(checkpoint: Path, scores: Path, ema_decay: float | None) -> Score:
    """Return a checkpoint's own scores, of the average of a decay; None: of the first."""
    score, ours = read_score(scores), sha256_of(checkpoint)
    theirs = part(score.content, "samples").get("checkpoint_sha256")
    if theirs != ours:
        raise InputError(
            f"{scores} scores samples of another checkpoint (sha256 {str(theirs)[:12]}) than {checkpoint} "
            f"({ours[:12]}); give the scores of that one"
        )
    own = score.sampling.get("ema_decay")
    if own != ema_decay:
        fix = "leave --ema-decay out" if own is None else f"give --ema-decay {own:g}"
        raise InputError(f"{scores} scores samples of another average of the weights; {fix}")
    return score


def _with_loss_of(checkpoint: Path, loss: Path, score: Score, ema_decay: float | None) -> Score:
    """Return a checkpoint's scores with its own held-out losses, of the average of a decay; None: of the first."""
    spec, ours = read_loss_record(loss)["spec"], sha256_of(checkpoint)
    theirs = part(spec, "checkpoint").get("sha256")
    if theirs != ours:
        raise InputError(
            f"{loss} holds losses of another checkpoint (sha256 {str(theirs)[:12]}) than {checkpoint} ({ours[:12]}); "
            "give the losses of that one"
        )
    if spec["loss"].get("ema_decay") != ema_decay:
        raise InputError(
            f"{loss} holds losses of another average of the weights; give those of the one that is saved"
        )
    return with_losses(score, loss)


def _table_of(folder: Path) -> str:
    """Return a table's Markdown with its headings two levels down."""
    try:
        text = read_text(folder / "table.md")
    except InputError as error:
        raise InputError(f"{folder} holds no table.md ({error}); run the table stage") from None
    return re.sub("^#", "###", text.removesuffix("\n"), flags=re.MULTILINE)


def model_card(
    name: str,
    config: dict,
    spec: dict,
    score: Score | None,
    table: str,
    license: str | None = None,
    has_samples: bool = False,
) -> str:
    """Return README.md: front matter, use, samples, scores with error bars, training, switches, citation."""
    model, posenc = config["model"], config["model"]["posenc"].partition("@")[0]
    source = config.get("images") or "images"
    size = f"DiT, {model['depth']} blocks of width {model['width']}"
    return render(
        "model_card.md",
        front_matter=_front_matter(name, posenc, source, score, license),
        samples=SAMPLES if has_samples else "",
        name=name,
        posenc=posenc,
        size=part(spec, "model").get("name") or size,
        source=source,
        config=config,
        sampling=score.sampling if score else {},
        score=score,
        metrics=_METRICS,
        protocol=protocol([score]) if score else [],
        table=table,
        training_options=_TRAINING,
        label_std=part(spec, "model").get("label_std"),
        switches=_SWITCHES,
    )


def _front_matter(name: str, posenc: str, source: str, score: Score | None, license: str | None) -> str:
    """Return the YAML block that the hub reads, with the scores in its model index."""
    from huggingface_hub import EvalResult, ModelCardData

    caveat, results = " by the table's own scorer, comparable only within the table", []
    if score and part(score.content, "scorer").get("published"):
        caveat = ""
    for metric in _METRICS:
        value = score and score.value(metric)
        if value is not None:
            results.append(
                EvalResult(
                    task_type="unconditional-image-generation",
                    task_name="class-conditional image generation",
                    dataset_type=source,
                    dataset_name=source,
                    metric_type=metric.key,
                    metric_name=metric.name if metric.on_held_out else metric.name + caveat,
                    metric_value=value,
                )
            )
    data = ModelCardData(
        library_name=_LIBRARY,
        license=license,
        tags=["diffusion", "dit", "class-conditional", f"posenc-{posenc}"],
        **({"model_name": name, "eval_results": results} if results else {}),
    )
    return f"---\n{data.to_yaml()}\n---"
