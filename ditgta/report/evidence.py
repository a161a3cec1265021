"""The files that a table rests on: scores with their influence values, and the loss curves of training."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ditgta.data.npz import load_members
from ditgta.report.checks import STRATA, check_arrays, is_whole
from ditgta.report.findings import Curve
from ditgta.report.model import Metric, grouped
from ditgta.report.view import step_name
from ditgta.runtime.checkpoint_records import CheckpointRecord
from ditgta.runtime.errors import InputError
from ditgta.runtime.files import is_file, read_json
from ditgta.runtime.records import ScoreRecord, checked, part
from ditgta.scoring.statistics import Estimate

BASELINE = "real against real"
NETWORKS = ("scorer", "judge")  # by whose features images are compared


@dataclass(frozen=True)
class HeldOut:
    """The losses of one checkpoint on held-out images."""

    path: Path
    key: tuple  # of what it was measured and how; losses of different keys compare with none
    losses: np.ndarray  # (images, bands), with each image's label
    attention: dict | None = None  # an AttentionRecord; None in records that do not say it


@dataclass(frozen=True)
class Score:
    """One score file: an experiment, trained with one seed, at one step."""

    path: Path
    content: dict  # the JSON
    experiment: str
    seed: int
    step: int | None
    # influence values by metric, and with the ending ".groups" those of groups of samples
    influence: dict[str, np.ndarray]
    # what is known image by image (see `metrics.look_closer`), {} in files without it
    findings: dict[str, np.ndarray] = field(default_factory=dict)
    # of "samples", "reference images" and "held-out images", where the counts of their classes are fixed
    strata: dict[str, np.ndarray] = field(default_factory=dict)
    held_out: HeldOut | None = None  # the losses of its checkpoint on held-out images, None without
    # options of sampling whose values were chosen for this row, and the values that they were chosen from
    choices: dict[str, tuple[float, ...]] = field(default_factory=dict)
    chosen: dict[str, float | None] = field(default_factory=dict)  # these options and what was chosen

    @property
    def place(self) -> tuple[str, int, int | None]:
        """Experiment, training seed and step, which no other score file of a table has."""
        return self.experiment, self.seed, self.step

    @property
    def spec(self) -> dict:
        """What was asked for; empty for samples that another program made."""
        return part(self.content, "spec")

    @property
    def sampling(self) -> dict:
        """How the samples were made; empty if unknown."""
        return part(self.spec, "sampling")

    @property
    def training(self) -> dict:
        """How the network of the samples was trained: the spec of its checkpoint; empty if unknown."""
        return part(self.content, "samples", "spec", "checkpoint", "spec")

    @property
    def way(self) -> dict:
        """How the samples were made, but for what was chosen for this row: rows of one way are compared fairly."""
        return {key: value for key, value in self.sampling.items() if key not in self.choices}

    @property
    def num_samples(self) -> int | None:
        """The number of samples, None if unknown."""
        return self.content.get("num_samples")

    def count(self, metric: Metric) -> int | None:
        """Return the number of samples, or of held-out images, that a metric was measured on; None if unknown."""
        if not metric.on_held_out:
            return self.num_samples
        return None if self.held_out is None else len(self.held_out.losses)

    @property
    def name(self) -> str:
        """The row and training seed in words."""
        if self.experiment == BASELINE:
            return BASELINE
        return f"{self.experiment} at {step_name(self.step)}, training seed {self.seed}"

    def value(self, metric: Metric) -> float | None:
        """Return the metric's value, None if absent or not finite."""
        return self._finite(metric, "value")

    def se(self, metric: Metric) -> float | None:
        """Return the metric's standard error, None if absent or not finite."""
        return self._finite(metric, "se")

    def _finite(self, metric: Metric, name: str) -> float | None:
        number = self.content["metrics"].get(metric.key, {}).get(name)
        return number if number is not None and math.isfinite(number) else None

    def estimate(self, metric: Metric, relative: bool = False) -> Estimate | None:
        """Return the metric with its influence values, None without them; `relative`: those of its logarithm, where it is positive."""
        value, influence = self.value(metric), self.influence.get(metric.key)
        if value is None or influence is None:
            return None
        resampled = self.content["metrics"][metric.key].get("resampled", "samples")
        groups = self.influence.get(f"{metric.key}.groups")
        if relative:
            influence = influence / value
            groups = None if groups is None else groups / value
            value = math.log(value)
        return Estimate(
            value, influence, resampled=resampled, strata=self.strata.get(resampled), groups=groups
        )

    def reason(self, metric: Metric) -> str:
        """Return why the value or its standard error is absent, "" if neither is."""
        if self.value(metric) is not None and self.se(metric) is not None:
            return ""
        entry = self.content["metrics"].get(metric.key)
        if entry is None and metric.on_held_out:
            return "real images have no loss: only networks have one"
        if entry is None:
            return "not among the scores"
        absent = "value" if self.value(metric) is None else "standard error"
        return entry.get("reason") or f"no {absent} given"

    def named(self, experiment: str, seed: int, step: int | None) -> "Score":
        """Return the same scores under the name that their row has in a table."""
        return replace(self, experiment=experiment, seed=seed, step=step)


def read_score(path: Path) -> Score:
    """Reads a score file and the influence values beside it.

    Raises InputError if the file is missing or is not a score file, or the influence values are damaged.
    """
    path = Path(path)
    content = read_json(path)
    fix = "give the JSON files that the score stage writes"
    metrics = checked(ScoreRecord, content, f"{path} is not a score file", fix)["metrics"]
    spec = content.get("spec") or {}
    beside = path.with_suffix(".npz")
    arrays = load_members(beside) if is_file(beside) else {}
    check_arrays(beside, arrays)
    influence, findings, strata = {}, {}, {}
    for name, array in arrays.items():
        if name.removesuffix(".groups") not in metrics:
            findings[name] = array
        elif np.isfinite(array).all():
            influence[name] = array
        if name.startswith(STRATA):
            strata[name.removeprefix(STRATA)] = array
    return Score(
        path=path,
        content=content,
        experiment=str(spec.get("experiment") or path.stem),
        seed=spec.get("seed") or 0,
        step=spec.get("step"),
        influence=influence,
        findings=findings,
        strata=strata,
    )


def score_text(content: dict) -> str:
    """Return a score file's content as lines of text."""
    scorer, counted = content["scorer"], content["num_reference"] or "unknown number of"
    lines = [f"{content['num_samples']} samples, {counted} reference images"]
    for name, entry in content["metrics"].items():
        value = "absent" if entry["value"] is None else f"{entry['value']:.5g}"
        se = "" if entry["se"] is None else f"+- {entry['se']:.2g}"
        reason = f"({entry['reason']})" if entry["reason"] else ""
        lines.append(f"{name.replace('_', ' '):28}{value:>10} {se:12}{reason}".rstrip())
    lines.append(f"scorer: {scorer['name']}, published: {str(scorer['published']).lower()}")
    lines.append(f"second judge: {judge_text(content.get('judge'))}")
    return "\n".join(lines + [f"warning: {warning}" for warning in content["warnings"]])


def judge_text(judge: dict | None) -> str:
    """Return name and checksum of the second network that gives features, or why there is none."""
    if not judge:
        return "none: no weights of DINOv2 were given (scorer.judge of the suite, or --judge)"
    return f"{judge['name']}, class token, input 224 x 224 pixels; sha256 {judge['sha256'][:12]}"


def sample_counts(scores: Iterable[Score]) -> list[int]:
    """Return the different numbers of samples that are known, ascending."""
    return sorted({score.num_samples for score in scores} - {None})


def last_scores(scores: Sequence[Score]) -> list[Score]:
    """Return each experiment's score at its last milestone and first training seed."""
    rows = grouped(scores, "experiment").values()
    return [max(own, key=lambda score: (score.step or 0, -score.seed)) for own in rows]


def samples_folder(score: Score, whole: bool = True) -> Path | None:
    """Return the folder of a score file's samples if it is still there and, if asked for, whole."""
    named = part(score.content, "samples").get("folder")
    for folder in (Path(named), score.path.parent / named) if named else ():
        if (folder / "index.json").is_file() and (not whole or is_whole(str(folder))):
            return folder
    return None


def check_comparable(scores: Sequence[Score], baseline: Score | None) -> None:
    """Raise InputError where two score files are of one row, or of different scorers or reference images."""
    seen: dict[tuple, Score] = {}
    for score in scores:
        other = seen.setdefault(score.place, score)
        if other is not score:
            raise InputError(
                f"{other.path} and {score.path} are both {score.experiment}, seed {score.seed}, step {score.step}; "
                "give only one of them"
            )
    check_same([*scores, *filter(None, [baseline])], *NETWORKS)
    check_same(scores, "reference")


def check_same(scores: Sequence[Score], *kinds: str) -> None:
    """Raise InputError where score files tell that they were not made with the same "scorer", "judge" or "reference"."""
    for kind in kinds:
        for other in scores:
            ours, theirs = (part(score.content, kind).get("sha256") for score in (scores[0], other))
            if ours and theirs and ours != theirs:
                raise InputError(
                    f"{scores[0].path} and {other.path} were scored with different {kind}s "
                    f"({ours[:12]} and {theirs[:12]}); score both with the same one"
                )


@dataclass(frozen=True)
class Run:
    """The record of a checkpoint, with the experiment and training seed that it belongs to."""

    path: Path
    record: dict
    experiment: str
    seed: int


def read_runs(paths: Sequence[Path], names: Sequence[tuple[str, int]] | None = None) -> list[Run]:
    """Return the records of checkpoints; `names`: experiment and seed of each, where it is not for the record to say."""
    runs = []
    for path, name in zip(map(Path, paths), names or [None] * len(paths)):
        what = f"{path} is not the record of a checkpoint"
        record = checked(CheckpointRecord, read_json(path), what, "give the JSON file beside one")
        runs.append(Run(path, record, *(name or run_of(path, record))))
    return runs


def curves_of(runs: Sequence[Run]) -> list[Curve]:
    """Return one loss curve per experiment and seed; where records overlap, that of the higher step counts."""
    curves = []
    for (experiment, seed), own in grouped(runs, "experiment", "seed").items():
        records = sorted((run.record for run in own), key=lambda record: record.get("step") or 0)
        points: dict[int, dict] = {}
        for record in records:
            losses = {point["step"]: point for point in record.get("losses") or []}
            begin = min(losses, default=math.inf)
            points = {step: point for step, point in points.items() if step < begin} | losses
        steps = sorted(points)
        common = set.intersection(*map(set, points.values())) if points else set()
        kinds = [kind for kind in ("loss", "mse", "vb") if kind in common]
        curves.append(
            Curve(
                experiment=experiment,
                seed=seed,
                steps=steps,
                losses={kind: [float(points[step][kind]) for step in steps] for kind in kinds},
                images_per_second=records[-1].get("images_per_second"),
            )
        )
    return curves


def run_of(path: Path, record: dict) -> tuple[str, int]:
    """Return the experiment and training seed that a checkpoint's record belongs to."""
    folder = path.parent.parent.name if path.parent.name.startswith("seed") else path.parent.name
    name = record.get("experiment") or folder or part(record, "spec", "model").get("posenc") or path.stem
    return str(name), int(part(record, "spec").get("seed") or 0)


def epochs_of(scores: Sequence[Score], images: int | None) -> dict[int, float]:
    """Return the passes over the training images at each milestone whose rows share a batch size; {} where images are not counted."""
    epochs = {}
    for step, own in grouped(scores, "step").items():
        sizes = {part(score.training, "training").get("batch_size") for score in own}
        if images and step is not None and len(sizes) == 1 and None not in sizes:
            epochs[step] = step * sizes.pop() / images
    return epochs
