"""From YAML to a validated configuration: inheritance by `like`, and checks across sections."""

import copy
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
    if faults := _unquoted(raw):
        raise InputError(listing(faults))
    own = raw.get("experiments")
    if isinstance(own, dict):
        raw["experiments"] = {name: _inherited(name, own, faults) for name in own}
    try:
        config = Config.model_validate(raw)
    except ValidationError as error:
        places = [item["loc"] for item in error.errors()]
        for item in error.errors():
            location = item["loc"]
            if any(len(place) > len(location) and place[: len(location)] == location for place in places):
                continue  # what is wrong inside is said; without it nothing is left here
            inherited = (
                location[:1] == ("experiments",) and isinstance(own, dict) and not _holds(own, location[1:])
            )
            if not inherited or item["type"] == "missing":
                faults.append(fault(".".join(map(str, location)), item))
        raise InputError(listing(faults)) from None
    for name, suite in config.suites.items():
        for word in [*suite.experiments, *(row for one in suite.differences for row in rows_of(one))]:
            known = suite.experiments if word in config.experiments else config.experiments
            if word not in known:
                place = "is not a row of this suite" if word in config.experiments else "is not an experiment"
                faults.append(f"suites.{name}: {word} {place}{did_you_mean(word, known)}")
        faults += [
            f"suites.{name}.published: {row} is not an experiment{did_you_mean(row, config.experiments)}"
            for row in suite.published
            if row not in config.experiments
        ]
        rows = [config.experiments[row] for row in suite.experiments if row in config.experiments]
        if any(row.images != rows[0].images for row in rows):
            faults.append(
                f"suites.{name}: its experiments have different images, so their scores cannot be in one table; make one suite for each"
            )
        for row in rows:
            unit = int(row.model.name[-1]) * row.autoencoder.downsampling
            if not row.autoencoder.pretrained and not row.checkpoint and row.images.size % unit:
                faults.append(
                    f"suites.{name}: {row.model.name} with this autoencoder needs an images.size that is a multiple of {unit}"
                    f" (got {row.images.size}); change it, the patch or autoencoder.widths"
                )
        if suite.primary == "loss" and rows and not (rows[0].images.hold_out or rows[0].images.held_out):
            faults.append(
                f"suites.{name}: primary loss is measured on images that training never sees; set images.hold_out, e.g. 0.2"
            )
        if (suite.primary or "").endswith("_dinov2") and not suite.scorer.judge:
            faults.append(
                f"suites.{name}: primary {suite.primary} needs a second judge; name its weights in scorer.judge"
            )
        faults += sampling_faults(name, suite, config) + size_faults(name, suite, config)
        faults += sweep_faults(name, suite, config)
    if config.suite not in config.suites:
        faults.append(f"suite: {config.suite} is not a suite{did_you_mean(config.suite, config.suites)}")
    for kind in ("experiments", "suites"):
        for name in getattr(config, kind):
            if not name.replace("-", "").replace("_", "").replace(".", "").isalnum() or name.startswith(
                (".", "-")
            ):
                fix = "use letters, digits, '-', '_' and '.', the first of them a letter, digit or '_'"
                faults.append(f"{kind}.{name}: names become folders; {fix}")
            if len(name) > _LONGEST_NAME:
                faults.append(f"{kind}.{name}: names become folders; use at most {_LONGEST_NAME} letters")
    faults += [
        f"suites.{name}: {name} is a reserved word of the workflow; choose another name"
        for name in config.suites
        if name in (*RULES, *TARGETS)
    ]
    if faults:
        raise InputError(listing(faults))
    suites = {name: _with_sampler(suite, config) for name, suite in config.suites.items()}
    beside = {name: row for suite in suites for name, row in config.beside(suite).items()}
    return config.model_copy(update={"suites": suites, "experiments": {**config.experiments, **beside}})


def _with_sampler(suite: Suite, config: Config) -> Suite:
    """Return a suite whose sampler is chosen, where its rows are of one objective."""
    objectives = {config.experiments[row].training.objective for row in suite.experiments}
    if len(objectives) > 1:
        return suite
    return suite.model_copy(update={"sampling": suite.sampling.for_objective(objectives.pop())})


_KINDS = {int: "number", float: "number", bool: "yes or no", type(None): "nothing"}


def _unquoted(raw: dict) -> list[str]:
    """Returns a fault for each name that YAML has read as a number, a date or a truth value."""
    return [
        f"{kind}.{name}: YAML reads this name as a {_KINDS.get(type(name), 'date')}; put it in quotes"
        for kind in ("experiments", "suites")
        if isinstance(raw.get(kind), dict)
        for name in raw[kind]
        if not isinstance(name, str)
    ]


def _inherited(name: str, experiments: dict, faults: list[str]) -> Any:
    """Returns an experiment's options merged over those of the experiments it is like."""
    chain, merged = [name], {}
    while isinstance(experiments[chain[-1]], dict) and isinstance(
        parent := experiments[chain[-1]].get("like"), str
    ):
        if parent not in experiments:
            faults.append(
                f"experiments.{chain[-1]}.like: {parent} is not an experiment{did_you_mean(str(parent), experiments)}"
            )
            break
        if parent in chain:
            faults.append(
                f"experiments.{name}.like: {' -> '.join([*chain, parent])} is a cycle; remove `like` from one of them"
            )
            break
        chain.append(parent)
        if len(chain) > _LONGEST_CHAIN:
            faults.append(
                f"experiments.{name}.like: a chain of more than {_LONGEST_CHAIN} experiments; start from a nearer one"
            )
            break
    if not isinstance(experiments[name], dict):
        return experiments[name] if experiments[name] is not None else {}
    for ancestor in reversed(chain):
        if isinstance(experiments[ancestor], dict):
            merge(merged, experiments[ancestor])
    if "like" not in experiments[name]:
        merged.pop("like", None)
    else:
        merged["like"] = experiments[name]["like"]
    return merged


def merge(base: dict, over: dict) -> None:
    """Merges nested options over others, in place; lists are replaced."""
    for key, value in over.items():
        if isinstance(value, dict) and isinstance(base.get(key), dict):
            merge(base[key], value)
        else:
            base[key] = copy.deepcopy(value)


def _holds(tree: Any, path: tuple) -> bool:
    for key in path:
        if isinstance(tree, dict) and key in tree:
            tree = tree[key]
        elif not isinstance(tree, dict):
            return True
        else:
            return False
    return True
