"""Why rows of a suite cannot be sampled as it says: samplers of another objective, sizes and places that do not suit a network."""

from collections.abc import Iterator

from pydantic import ValidationError

from ditgta.config.choices import name_of
from ditgta.config.names import resizing_fault, sampler_fault
from ditgta.config.schema import Config, Experiment, Suite
from ditgta.config.sizes import Size
from ditgta.runtime.addresses import size_name


def sampling_faults(name: str, suite: Suite, config: Config) -> list[str]:
    """Return why rows of a suite cannot be sampled as it says, a line for each reason."""
    reasons: dict[str, list[str]] = {}
    for row in suite.experiments:
        if row not in config.experiments:
            continue
        experiment = config.experiments[row]
        try:
            options = config.sampling(name, row)
        except ValidationError as error:
            reasons.setdefault(error.errors()[0]["msg"].removeprefix("Value error, "), []).append(row)
            continue
        misfits = [sampler_fault(options.sampler, experiment.training.objective)]
        misfits.append(_average_fault(options.ema_decay, experiment))
        if options.size != suite.sampling.size:
            misfits.append(
                "all rows of a table have the same size; put other sizes into `sizes` of the suite"
            )
        if options.size and set(options.size) != {experiment.images.size}:
            misfits.append(resizing_fault(experiment.model.posenc, options.positions))
        for misfit in filter(None, misfits):
            reasons.setdefault(misfit, []).append(row)
    return [f"suites.{name}.sampling: {reason} (rows: {', '.join(rows)})" for reason, rows in reasons.items()]


def size_faults(name: str, suite: Suite, config: Config) -> list[str]:
    """Return what is wrong with the other sizes of a suite, a line for each reason."""
    if suite.sizes and suite.sampling.size:
        return [f"suites.{name}: give either sampling.size or sizes, not both"]
    faults = []
    for place, size in enumerate(suite.sizes):
        reasons: dict[str, list[str]] = {}
        for row in suite.experiments:
            if row in config.experiments:
                for reason in _misfits(size, config.experiments[row]):
                    reasons.setdefault(reason, []).append(row)
        faults += [
            f"suites.{name}.sizes.{place}: {reason} (rows: {', '.join(rows)})"
            for reason, rows in reasons.items()
        ]
    names = [
        row
        for size in suite.sizes
        for experiment in suite.experiments
        if experiment in config.experiments
        for row, _ in size.rows(experiment, config.experiments[experiment].model.posenc)
    ]
    faults += [
        f"suites.{name}.sizes: {row} is listed twice; leave one out"
        for row in dict.fromkeys(names)
        if names.count(row) > 1
    ]
    faults += [
        f"suites.{name}.sizes: its row {row} has the same name as an experiment; rename the experiment"
        for row in dict.fromkeys(names)
        if row in config.experiments
    ]
    return faults


def sweep_faults(name: str, suite: Suite, config: Config) -> list[str]:
    """Return what is wrong with the sweep of a suite, a line for each reason."""
    faults = [
        f"suites.{name}: its row {row} has the same name as an experiment; rename the experiment"
        for row in config.swept(name)
        if row in config.experiments
    ]
    if suite.sampling.scales and any(not size.cfg_scale for size in suite.sizes):
        faults.append(
            f"suites.{name}.sizes: sampling.cfg_scale is a list, which other sizes cannot use; give each size its own cfg_scale"
        )
    if suite.loss.ema_decay is not None:
        faults.append(
            f"suites.{name}.loss.ema_decay: the loss uses the average that is sampled; set sampling.ema_decay instead"
        )
    return faults


def _average_fault(decay: float | None, experiment: Experiment) -> str | None:
    """Return why an average cannot be sampled from an experiment's checkpoints, None where it can."""
    if decay is None or decay in experiment.decays:
        return None
    if experiment.checkpoint:
        return "the decay of an imported checkpoint is unknown; leave ema_decay out"
    kept = ", ".join(map(name_of, experiment.decays))
    return f"training keeps no average with decay {name_of(decay)}; add it to training.ema_decay ({kept})"


def _misfits(size: Size, experiment: Experiment) -> Iterator[str]:
    """Yield why an experiment cannot be sampled at a size."""
    trained = experiment.images.size
    if set(size.size) == {trained}:
        yield f"{trained} is the training size, which the table already has; leave it out"
        return
    autoencoder, patch = experiment.autoencoder, experiment.model.sizes["patch"]
    unit = autoencoder.downsampling * patch
    if any(side % unit for side in size.size):
        yield (
            f"{size_name(size.size)} does not suit the network: sides must be multiples of {unit} "
            f"(autoencoder {autoencoder.downsampling} x patch {patch})"
        )
    faults = [resizing_fault(experiment.model.posenc, way) for way in size.positions]
    if all(faults):
        yield faults[0]
    placement = experiment.images.placement
    if placement and min(size.size) < max(placement.scales):
        yield f"a digit of {max(placement.scales)} pixels does not fit images of {size_name(size.size)}; use a larger size"
