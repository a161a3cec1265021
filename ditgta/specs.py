"""What decides each result: options and the checksums of what paths hold, and nothing of machines, places or names. Needs no torch."""

import hashlib
from collections.abc import Callable, Iterable

from ditgta.config import Config
from ditgta.config.names import DIGITS, LATENT_FORMATS, PUBLISHED_SCORER, RESULTS_VERSION
from ditgta.data.contents import Sources, spec_of_images, spec_of_latents
from ditgta.runtime.addresses import DIGITS as ADDRESS_DIGITS
from ditgta.runtime.addresses import is_address, is_hub_name
from ditgta.runtime.files import spec_text

Size = tuple[int, int]  # height and width in pixels


def address_of(spec: dict) -> str:
    """Return the short hash by which a result is found."""
    text = spec_text({"results": RESULTS_VERSION, "spec": spec})
    return hashlib.sha256(text.encode()).hexdigest()[:ADDRESS_DIGITS]


class Specs:
    """What decides the results of a configuration, whose paths hold `sources`; each spec holds those of what it is made of."""

    def __init__(self, config: Config, sources: Sources):
        self.config, self.sources = config, sources

    def held(self, path: str | None, hub: bool = False) -> str | None:
        """Return the checksum of what a path holds; None of nothing, the digits, an address or, with `hub`, OWNER/NAME of no folder here."""
        if path in (None, DIGITS) or is_address(path):
            return None
        if hub and is_hub_name(path) and not self.sources.has(path):
            return None
        return self.sources.sha256(path)

    def images(self, experiment: str, size: Size | None = None) -> dict:
        """Return what decides which images there are for training, in which order, and their size; `size` is another one."""
        return spec_of_images({**self.listed(experiment, size), "held_out": None}, self.held)

    def held_out(self, experiment: str, size: Size | None = None) -> dict | None:
        """Return what decides which images training never sees, None where there are none; `size` is another one."""
        if not self.config.experiments[experiment].images.holds_out:
            return None
        return spec_of_images(self.listed(experiment, size), self.held)

    def listed(self, experiment: str, size: Size | None = None) -> dict:
        """Return what is asked of the images stage, at the size of training or at another one: [height, width]."""
        asked = self.config.experiments[experiment].images.spec()
        return asked if size is None else {**asked, "size": list(size)}

    def size(self, suite: str, experiment: str) -> Size | None:
        """Return (height, width) of a row's samples where that is not the size of training."""
        side = self.config.experiments[experiment].images.size
        size = self.config.sampling(suite, experiment).size
        return None if size == (side, side) else size

    def autoencoder(self, experiment: str) -> dict:
        """Return what decides the weights of an autoencoder: its training and the images, or whence it is fetched."""
        options = self.config.experiments[experiment].autoencoder
        if options.pixels:
            return {"pixels": options.pixels}
        if not options.pretrained:
            return {**options.spec(), "images": self.images(experiment)}
        if held := self.held(options.pretrained, hub=True):
            return {"pretrained": held, "tf32": options.tf32}
        return {"pretrained": options.pretrained, "revision": options.revision, "tf32": options.tf32}

    def measured(self, experiment: str) -> dict:
        """Return what decides the folder of an autoencoder, whose error is measured on each set of images."""
        return {"images": self.images(experiment), "autoencoder": self.autoencoder(experiment)}

    def latents(self, experiment: str) -> dict:
        """Return what decides latents, encoded here or made elsewhere."""
        made = self.measured(experiment)
        imported = self.config.experiments[experiment].latents
        if not imported.format:
            return made
        return {**made, "latents": spec_of_latents(imported.spec(), self.held(getattr(imported, "from")))}

    def is_adapted(self, experiment: str) -> bool:
        """Return whether an experiment's latents came normalised, and with them an autoencoder that undoes it."""
        kind = LATENT_FORMATS.get(self.config.experiments[experiment].latents.format)
        return bool(kind and kind.normalised)

    def training(self, experiment: str, seed: int | None = None) -> dict:
        """Return what decides the weights of a training at every step; without a seed, of all seeds."""
        options = self.config.experiments[experiment]
        spec = {
            "version": RESULTS_VERSION,
            "latents": self.latents(experiment),
            "model": options.model.spec(),
            "training": options.training.spec(),
        }
        return spec if seed is None else {**spec, "seed": seed}

    def checkpoint(self, experiment: str) -> dict:
        """Return what decides an experiment's checkpoints: a training, or a file that is taken as it is."""
        options = self.config.experiments[experiment]
        if not options.checkpoint:
            return self.training(experiment)
        return {
            "imported": self.held(options.checkpoint),
            "model": options.model.spec(),
            "objective": options.training.objective,
            "image_size": options.images.size,
        }

    def samples(self, suite: str, experiment: str) -> dict:
        """Return what decides the samples of an experiment's checkpoints."""
        return {**self._decoded(experiment), "sampling": self.config.sampling(suite, experiment).spec()}

    def _decoded(self, experiment: str) -> dict:
        decoder = self.latents if self.is_adapted(experiment) else self.autoencoder
        return {"checkpoint": self.checkpoint(experiment), "autoencoder": decoder(experiment)}

    def scorer(self, suite: str) -> dict:
        """Return what decides a suite's scorer: given weights, or the small network's training and its images."""
        options = self.config.suites[suite].scorer
        if not options.weights:
            spec = {**options.spec(), "images": self.images(self.first(suite))}
            for given in ("weights", "reference", "judge"):
                spec.pop(given, None)
            if kept_back := self.held_out(self.first(suite)):
                spec["held_out"] = kept_back
            return spec
        if options.weights == PUBLISHED_SCORER["url"]:
            return {"weights": PUBLISHED_SCORER["sha256"]}
        return {"weights": self.held(options.weights) or options.weights}

    def reference(self, suite: str, size: Size | None = None) -> dict:
        """Return what decides the real images that a suite is scored against; samples of another size have them at that size."""
        held = self.held(self.config.suites[suite].scorer.reference)
        if held and size is None:
            return {"file": held}
        if self.is_scored_on_held_out(suite):
            return {"held_out": self.held_out(self.first(suite), size)}
        return {"images": self.images(self.first(suite), size)}

    def is_scored_on_held_out(self, suite: str) -> bool:
        """Return whether samples are compared with held-out images; the published network keeps the field's custom, which are those of training."""
        options = self.config.suites[suite].scorer
        given = options.weights or options.reference
        return not given and self.held_out(self.first(suite)) is not None

    def losses(self, suite: str, experiment: str) -> dict:
        """Return what decides the held-out losses of an experiment's checkpoints."""
        loss = self.config.loss(suite, experiment).spec()
        return {**self._decoded(experiment), "held_out": self.held_out(experiment), "loss": loss}

    def compared(self, suite: str, size: Size | None = None) -> dict:
        """Return what samples are compared with and by; at another size their crops of the size of training are compared too."""
        spec = {"scorer": self.scorer(suite), "reference": self.reference(suite, size)}
        if judge := self.config.suites[suite].scorer.judge:
            spec["judge"] = self.held(judge)
        if size is not None:
            spec["crops"] = self.config.experiments[self.first(suite)].images.size
        return spec

    def baseline(self, suite: str, size: Size | None = None) -> dict:
        """Return what decides the scores of real images against real ones."""
        return {**self.compared(suite, size), "num_samples": self.config.suites[suite].sampling.num_samples}

    def scores(self, suite: str, experiment: str) -> dict:
        """Return what decides the scores of an experiment's samples."""
        compared = self.compared(suite, self.size(suite, experiment))
        return {"samples": self.samples(suite, experiment), **compared}

    def table(self, suite: str) -> dict:
        """Return what decides a suite's table: its rows' scores, and how they are shown."""
        shown = self.config.suites[suite].model_dump(mode="json", exclude={"sampling", "scorer", "loss"})
        if not shown["published"]:
            del shown["published"], shown["published_source"]

        def addresses(spec: Callable[[str, str], dict], names: Iterable[str]) -> dict[str, str]:
            return {name: address_of(spec(suite, name)) for name in names}

        if shown.pop("sizes"):
            shown["sized"] = addresses(self.scores, self.config.sized(suite))
        if swept := self.config.swept(suite):
            shown["swept"] = addresses(self.scores, swept)
        shown |= {"suite": suite, "scores": addresses(self.scores, shown["experiments"])}
        if self.held_out(self.first(suite)) is not None:
            shown["losses"] = addresses(self.losses, [*shown["scores"], *self.averaged(suite)])
        return shown

    def averaged(self, suite: str) -> list[str]:
        """Return the rows of a suite's sweep whose losses are not those of a row of the table: one for each further average."""
        names: dict[tuple, str] = {}
        for name, row in self.config.swept(suite).items():
            decay = self.config.sampling(suite, name).ema_decay
            if decay != self.config.sampling(suite, row.like).ema_decay:
                names.setdefault((row.like, decay), name)
        return list(names.values())

    def configuration(self, suite: str) -> dict:
        """Return the configuration of a suite and its experiments alone, without `like` and defaults; it gives the same results."""
        plain = {"mode": "json", "exclude_defaults": True}
        chosen = self.config.suites[suite]
        rows = {name: self.config.experiments[name] for name in chosen.experiments}
        return {
            "suite": suite,
            "experiments": {name: row.model_dump(**plain, exclude={"like"}) for name, row in rows.items()},
            "suites": {suite: chosen.model_dump(**plain)},
        }

    def first(self, suite: str) -> str:
        """Return the experiment whose images are those of all rows of a suite."""
        return self.config.suites[suite].experiments[0]
