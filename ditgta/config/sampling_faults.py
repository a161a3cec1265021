"""Why rows of a suite cannot be sampled as it says: samplers of another objective, sizes and places that do not suit a network."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator

from pydantic import ValidationError

from ditgta.config.choices import name_of
from ditgta.config.names import resizing_fault, sampler_fault
from ditgta.config.schema import Config, Experiment, Suite
from ditgta.config.sizes import Size
from ditgta.runtime.addresses import size_name


def sampling_faults(name: str, suite: Suite, config: Config) -> Iterator[str]:
    """Yield why rows of a suite cannot be sampled as it says, a line for each reason."""

    def misfits(row: str, experiment: Experiment) -> Iterator[str]:
        try:
            options = config.sampling(name, row)
        except ValidationError as error:
            yield error.errors()[0]["msg"].removeprefix("Value error, ")
            return
        yield sampler_fault(options.sampler, experiment.training.objective)
        yield _average_fault(options.ema_decay, experiment)
        if options.size != suite.sampling.size:
            yield "all rows of a table have the same size; put other sizes into `sizes` of the suite"
        if options.size and set(options.size) != {experiment.images.size}:
            yield resizing_fault(experiment.model.posenc, options.positions)

    rows = config.rows(name).items()
    yield from _by_reason(f"suites.{name}.sampling", ((row, misfits(row, one)) for row, one in rows))


def size_faults(name: str, suite: Suite, config: Config) -> Iterator[str]:
    """Yield what is wrong with the other sizes of a suite, a line for each reason."""
    if suite.sizes and suite.sampling.size:
        yield f"suites.{name}: give either sampling.size or sizes, not both"
        return
    rows, names = config.rows(name), Counter()
    for place, size in enumerate(suite.sizes):
        misfits = ((row, _misfits(size, experiment)) for row, experiment in rows.items())
        yield from _by_reason(f"suites.{name}.sizes.{place}", misfits)
        for row, experiment in rows.items():
            names.update(named for named, _ in size.rows(row, experiment.model.posenc))
    for row, count in names.items():
        if count > 1:
            yield f"suites.{name}.sizes: {row} is listed twice; leave one out"
    yield from _namesakes(f"suites.{name}.sizes", names, config)


def sweep_faults(name: str, suite: Suite, config: Config) -> Iterator[str]:
    """Yield what is wrong with the sweep of a suite, a line for each reason."""
    yield from _namesakes(f"suites.{name}", config.swept(name), config)
    if suite.sampling.scales and not all(size.cfg_scale for size in suite.sizes):
        yield f"suites.{name}.sizes: sampling.cfg_scale is a list, which other sizes cannot use; give each size its own cfg_scale"
    if suite.loss.ema_decay is not None:
        yield f"suites.{name}.loss.ema_decay: the loss uses the average that is sampled; set sampling.ema_decay instead"


def _by_reason(place: str, misfits: Iterable[tuple[str, Iterable[str]]]) -> Iterator[str]:
    """Yield a line for each reason, with the rows that have it; `misfits`: rows and their reasons, some of which are ""."""
    reasons = defaultdict(list)
    for row, own in misfits:
        for reason in filter(None, own):
            reasons[reason].append(row)
    for reason, names in reasons.items():
        yield f"{place}: {reason} (rows: {', '.join(names)})"


def _namesakes(place: str, rows: Iterable[str], config: Config) -> Iterator[str]:
    """Yield a line for each row beside the table that is called like an experiment."""
    for row in rows:
        if row in config.experiments:
            yield f"{place}: its row {row} has the same name as an experiment; rename the experiment"


def _average_fault(decay: float | None, experiment: Experiment) -> str:
    """Return why an average cannot be sampled from an experiment's checkpoints, or ""."""
    if decay is None or decay in experiment.decays:
        return ""
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
