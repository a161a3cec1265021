"""Where the numbers of a table come from: protocol, the options of every row, checksums, versions and commands."""

import json
from collections.abc import Sequence

from ditgta.report.alike import sampled_alike, shares_noise
from ditgta.report.evidence import Score, judge_text, last_scores, sample_counts
from ditgta.report.findings import CHOSEN, COMPARED, Option
from ditgta.report.view import DASH, count_name, plain_list
from ditgta.runtime.finished import flat
from ditgta.runtime.records import part

# Options that move scores between programs which otherwise do the same; shown first.
SWITCHES = (
    *("model.posenc", "model.qk_norm"),
    *("training.flip", "training.posterior", "training.precision", "training.tf32", "training.compile"),
    *("sampling.sampler", "sampling.steps", "sampling.cfg_scale", "sampling.cfg_channels"),
    *("sampling.guidance_precision", "sampling.labels", "sampling.num_samples", "sampling.precision"),
    *("sampling.compile", "sampling.seed", "sampling.tf32", "sampling.uint8"),
)


def options_of(scores: Sequence[Score]) -> list[Option]:
    """Return every recorded option of training and sampling, the switches first, then by name; the training seed is no option."""
    rows, values = last_scores(scores), {}
    for score in rows:
        sampling = dict(score.sampling or part(score.content, "samples", "spec", "sampling"))
        for key in ("training_seed", *score.choices):
            sampling.pop(key, None)
        given = flat({**score.training, "sampling": sampling, CHOSEN: score.chosen})
        given.pop("seed", None)
        for name, value in given.items():
            of_rows = values.setdefault(name, {row.experiment: DASH for row in rows})
            of_rows[score.experiment] = _text(value)
    order = [name for name in SWITCHES if name in values] + sorted(values.keys() - set(SWITCHES))
    return [Option(name, values[name]) for name in order]


def fairness(options: Sequence[Option]) -> tuple[bool, str]:
    """Return whether rows differ in their positional encoding alone, and what they differ in as a sentence."""
    if not options:
        words = "The score files do not record how their samples were made, so it is unknown whether rows differ in other options."
        return False, words
    others = []
    for option in options:
        if option.differs and not option.is_each_rows:
            others.append(f"{option.name} ({option.text.replace('; ', ', ')})")
    if not others:
        return True, f"Of {len(options)} recorded options, the rows differ only in {COMPARED}."
    if len(others) > 6:
        others[6:] = [f"and {len(others) - 6} more"]
    words = f"Rows also differ in options other than the positional encoding, which affects their differences: {'; '.join(others)}."
    return False, words


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value).replace("null", "none")


def protocol(scores: Sequence[Score]) -> list[tuple[str, str]]:
    """Return (term, description) pairs that say how all rows were sampled and scored."""
    content, sampling = scores[0].content, scores[0].sampling
    seeds = sorted({score.seed for score in scores})
    counts = plain_list(list(map(count_name, sample_counts(scores))))
    lines = [("Scorer", _scorer(part(content, "scorer")))]
    if "judge" in content:
        lines.append(("Second judge", judge_text(content["judge"])))
    samples = [f"{counts} per row" if counts else "number unknown"]
    if sampling:
        samples.append(f"{sampling.get('sampler', 'unknown')} sampler, {sampling.get('steps', '?')} steps")
        samples.append(_guidance(sampling, scores[0].choices.get("cfg_scale")))
        samples += _average(scores)
        samples.append(f"{sampling.get('labels', 'unknown')} labels")
        samples.append(f"sampling seed {sampling.get('seed', '?')}")
        same = "noise and label of sample i are the same in every row"
        if shares_noise(scores):
            samples.append(same)
        elif sampled_alike(scores):
            samples.append(f"{same}, and new for each training seed")
    lines.append(("Samples", "; ".join(samples)))
    reference, number = part(content, "reference"), content.get("num_reference")
    described = [f"{number:,} real images" if number else "number of real images unknown"]
    if "training" in content:
        described.append("held out of training")
    if reference.get("sha256"):
        described.append(f"sha256 {str(reference['sha256'])[:12]}")
    lines.append(("Reference", "; ".join(described)))
    lines.append(("Training seeds", f"{len(seeds)} ({plain_list(seeds)})"))
    return lines


def _guidance(sampling: dict, choices: Sequence[float] | None) -> str:
    """Return guidance in words; `choices`: the scales that it was chosen from."""
    scale = sampling.get("cfg_scale")
    if scale is None:
        return "guidance unknown"
    if scale == 1 and not choices:
        return "no guidance"
    channels = sampling.get("cfg_channels", "all")
    which = "all noise channels" if channels == "all" else f"the first {channels} noise channels"
    if choices:
        return f"classifier-free guidance on {which}, its scale chosen for each row of {_numbers(choices)} by FID on another noise"
    return f"classifier-free guidance {scale:g} on {which}"


def _average(scores: Sequence[Score]) -> list[str]:
    """Return which average of the weights was sampled, in words; nothing where there is one alone."""
    lists = dict.fromkeys(filter(None, (score.choices.get("ema_decay") for score in scores)))
    if lists:
        listed = " or of ".join(map(_numbers, lists))
        return [f"the EMA decay of the weights chosen for each row of {listed} by FID on another noise"]
    decays = sorted({score.sampling["ema_decay"] for score in scores if "ema_decay" in score.sampling})
    return [f"EMA decay {_numbers(decays)}"] if decays else []


def _numbers(values: Sequence[float]) -> str:
    return plain_list([f"{value:g}" for value in values])


def is_trained(scorer: dict) -> bool:
    """Return whether a scorer was trained by the scorer stage, which writes down what it learnt; unlike other weights."""
    return not scorer.get("published") and not {"accuracy", "num_classes"}.isdisjoint(scorer)


def _scorer(scorer: dict) -> str:
    """Return name, origin, size, accuracy and checksum of the network that gives the features."""
    words = [str(scorer.get("name") or "unknown network")]
    if scorer.get("published"):
        words.append("published weights")
    elif is_trained(scorer) and "trained" not in words[0]:
        words.append("trained for this table")
    if scorer.get("width") is not None:
        words.append("full width" if scorer["width"] == 1 else f"width {scorer['width']:g} of Inception-V3")
    if scorer.get("input_size"):
        words.append(f"input {scorer['input_size']} × {scorer['input_size']} pixels")
    if scorer.get("accuracy") is not None:
        words.append(f"held-out accuracy {100 * scorer['accuracy']:.1f} %")
    if scorer.get("sha256"):
        words.append(f"sha256 {scorer['sha256'][:12]}")
    return "; ".join(words)


def provenance_of(score: Score) -> dict:
    """Return what stands behind the numbers of one score file."""
    content = score.content
    samples, made = part(content, "samples"), content.get("provenance") or content
    return {
        "name": score.name,
        "file": score.path.name,
        "num_samples": content.get("num_samples"),
        "samples_sha256": samples.get("sha256") or DASH,
        "checkpoint_sha256": samples.get("checkpoint_sha256") or DASH,
        "reference": part(content, "reference"),
        "scorer": part(content, "scorer"),
        "settings": part(content, "settings"),
        "versions": part(made, "versions"),
        "revision": made.get("revision"),
        "started": made.get("started"),
        "command": made.get("command"),
        "spec": score.spec,
        "samples": part(samples, "spec"),
    }
