"""From YAML to a validated configuration: inheritance by `like`, and checks across sections."""

import copy
import itertools
from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from ditgta.config.differences import rows_of
from ditgta.config.messages import did_you_mean, fault, listing
from ditgta.config.names import RULES, TARGETS
from ditgta.config.sampling_faults import sampling_faults, size_faults, sweep_faults
from ditgta.config.schema import Config, Suite
from ditgta.runtime.errors import InputError

_LONGEST_CHAIN = 32  # of experiments that start from each other
_LONGEST_NAME = 100  # of what becomes a part of file names


def load(raw: dict) -> Config:
    """Validates a configuration as read from YAML.

    Raises:
        InputError: with ALL faults, one line each: "path: what is wrong (got ...); did you mean ...?".
    """
    raw = copy.deepcopy(dict(raw))
    if faults := list(_unquoted(raw)):
        raise InputError(listing(faults))
    own = raw.get("experiments")
    if isinstance(own, dict):
        raw["experiments"] = {name: _inherited(name, own, faults) for name in own}
    try:
        config = Config.model_validate(raw)
    except ValidationError as error:
        raise InputError(listing([*faults, *_invalid(error, own)])) from None
    for name, suite in config.suites.items():
        faults += _suite_faults(name, suite, config)
    if config.suite not in config.suites:
        faults.append(f"suite: {config.suite} is not a suite{did_you_mean(config.suite, config.suites)}")
    faults += _name_faults(config)
    if faults:
        raise InputError(listing(faults))
    suites = {name: _with_sampler(suite, config) for name, suite in config.suites.items()}
    experiments = dict(config.experiments)
    for name in suites:
        experiments |= config.beside(name)
    return config.model_copy(update={"suites": suites, "experiments": experiments})


def _invalid(error: ValidationError, own: Any) -> Iterator[str]:
    """Yield pydantic's errors, but those that follow from another, or that an experiment has by inheritance; `own`: experiments."""
    places = [item["loc"] for item in error.errors()]
    for item in error.errors():
        place = item["loc"]
        if any(len(other) > len(place) and other[: len(place)] == place for other in places):
            continue  # what is wrong inside is said; without it nothing is left here
        inherited = place[:1] == ("experiments",) and isinstance(own, dict) and not _holds(own, place[1:])
        if not inherited or item["type"] == "missing":
            yield fault(".".join(map(str, place)), item)


def _suite_faults(name: str, suite: Suite, config: Config) -> Iterator[str]:
    """Yield what is wrong with a suite whose options are right one by one."""
    place = f"suites.{name}"
    for word in itertools.chain(suite.experiments, *map(rows_of, suite.differences)):
        if word not in config.experiments:
            yield f"{place}: {word} is not an experiment{did_you_mean(word, config.experiments)}"
        elif word not in suite.experiments:
            yield f"{place}: {word} is not a row of this suite{did_you_mean(word, suite.experiments)}"
    for row in suite.published:
        if row not in config.experiments:
            yield f"{place}.published: {row} is not an experiment{did_you_mean(row, config.experiments)}"
    rows = list(config.rows(name).values())
    if any(row.images != rows[0].images for row in rows):
        yield f"{place}: its experiments have different images, so their scores cannot be in one table; make one suite for each"
    for row in rows:
        unit = int(row.model.name[-1]) * row.autoencoder.downsampling
        if not row.autoencoder.pretrained and not row.checkpoint and row.images.size % unit:
            yield (
                f"{place}: {row.model.name} with this autoencoder needs an images.size that is a multiple of {unit}"
                f" (got {row.images.size}); change it, the patch or autoencoder.widths"
            )
    if suite.primary == "loss" and rows and not rows[0].images.holds_out:
        yield f"{place}: primary loss is measured on images that training never sees; set images.hold_out, e.g. 0.2"
    yield from _loss_faults(name, suite, config)
    weights = suite.scorer.weights
    if suite.primary == "class_accuracy" and weights and not weights.endswith(".safetensors"):
        yield (
            f"{place}: primary class_accuracy needs a scorer that has learnt the images' classes; leave scorer.weights out, "
            "so that one is trained, or choose another primary"
        )
    if (suite.primary or "").endswith("_dinov2") and not suite.scorer.judge:
        yield f"{place}: primary {suite.primary} needs a second judge; name its weights in scorer.judge"
    yield from sampling_faults(name, suite, config)
    yield from size_faults(name, suite, config)
    yield from sweep_faults(name, suite, config)


def _loss_faults(name: str, suite: Suite, config: Config) -> Iterator[str]:
    """Yield which declared differences can have no verdict because rows of two objectives have losses of two kinds."""
    if suite.primary != "loss":
        return
    for difference in suite.differences:
        rows = [row for row in rows_of(difference) if row in config.experiments]
        if len({config.experiments[row].training.objective for row in rows}) > 1:
            yield (
                f"suites.{name}: primary loss cannot compare {', '.join(rows)}: their objectives differ, so their losses measure "
                "different things; choose another primary, or leave the difference out"
            )


def _name_faults(config: Config) -> Iterator[str]:
    """Yield which names cannot be those of folders, or of suites."""
    for kind in ("experiments", "suites"):
        for name in getattr(config, kind):
            plain = name.replace("-", "").replace("_", "").replace(".", "")
            if not plain.isalnum() or name.startswith((".", "-")):
                fix = "use letters, digits, '-', '_' and '.', the first of them a letter, digit or '_'"
                yield f"{kind}.{name}: names become folders; {fix}"
            if len(name) > _LONGEST_NAME:
                yield f"{kind}.{name}: names become folders; use at most {_LONGEST_NAME} letters"
    for name in config.suites:
        if name in (*RULES, *TARGETS):
            yield f"suites.{name}: {name} is a reserved word of the workflow; choose another name"


def _with_sampler(suite: Suite, config: Config) -> Suite:
    """Return a suite whose sampler is chosen, where its rows are of one objective."""
    objectives = {config.experiments[row].training.objective for row in suite.experiments}
    if len(objectives) > 1:
        return suite
    return suite.model_copy(update={"sampling": suite.sampling.for_objective(objectives.pop())})


_KINDS = {int: "number", float: "number", bool: "yes or no", type(None): "nothing"}


def _unquoted(raw: dict) -> Iterator[str]:
    """Yield a fault for each name that YAML has read as a number, a date or a truth value."""
    for kind in ("experiments", "suites"):
        names = raw.get(kind)
        for name in names if isinstance(names, dict) else ():
            if not isinstance(name, str):
                read = _KINDS.get(type(name), "date")
                yield f"{kind}.{name}: YAML reads this name as a {read}; put it in quotes"


def _inherited(name: str, experiments: dict, faults: list[str]) -> Any:
    """Return an experiment's options merged over those of the experiments it is like."""
    own = experiments[name]
    if not isinstance(own, dict):
        return {} if own is None else own
    merged: dict = {}
    for options in reversed(_chain(name, experiments, faults)):
        merge(merged, options)
    merged.pop("like", None)
    if "like" in own:
        merged["like"] = own["like"]
    return merged


def _chain(name: str, experiments: dict, faults: list[str]) -> list[dict]:
    """Return the options of an experiment and of those it is like, one after the other; what ends the chain too early is a fault."""
    names, chain = [name], []
    while isinstance(options := experiments[names[-1]], dict):
        chain.append(options)
        parent = options.get("like")
        if not isinstance(parent, str):
            break
        place = f"experiments.{name}.like"
        if parent not in experiments:
            known = did_you_mean(parent, experiments)
            faults.append(f"experiments.{names[-1]}.like: {parent} is not an experiment{known}")
            break
        if parent in names:
            cycle = " -> ".join([*names, parent])
            faults.append(f"{place}: {cycle} is a cycle; remove `like` from one of them")
            break
        names.append(parent)
        if len(names) > _LONGEST_CHAIN:
            faults.append(
                f"{place}: a chain of more than {_LONGEST_CHAIN} experiments; start from a nearer one"
            )
            break
    return chain


def merge(base: dict, over: dict) -> None:
    """Merges nested options over others, in place; lists are replaced."""
    for key, value in over.items():
        if isinstance(value, dict) and isinstance(base.get(key), dict):
            merge(base[key], value)
        else:
            base[key] = copy.deepcopy(value)


def _holds(tree: Any, path: tuple) -> bool:
    """Return whether nested options have a key, or end before it."""
    for key in path:
        if not isinstance(tree, dict):
            return True
        if key not in tree:
            return False
        tree = tree[key]
    return True
