"""Where results lie: the names of folders and files, which the rules and `status` share. Needs no torch."""

import re
from pathlib import Path

from ditgta.config import Config
from ditgta.runtime.files import spec_hash


def slug(name: str, spec: dict) -> str:
    """Returns a folder name: the last part of a source's name and six digits of its spec's hash."""
    word = re.sub("[^a-z0-9]+", "-", Path(name).name.lower()).strip("-")
    return f"{word}-{spec_hash(spec)[:6]}"


class Layout:
    """The files of a configuration's experiments and suites.

    Args:
        config: the configuration.
        root: folder of all results; every path that is returned begins with it.

    Attributes:
        trained, imported: the experiments that are trained here, and those that take a checkpoint as it is.
    """

    def __init__(self, config: Config, root: str = "results"):
        self.config, self.root = config, root
        self.trained = [name for name, options in config.experiments.items() if not options.checkpoint]
        self.imported = [name for name, options in config.experiments.items() if options.checkpoint]

    def images_of(self, experiment: str) -> str:
        """Returns the folder name of an experiment's images."""
        options = self.config.experiments[experiment].images
        return slug(f"{options.source}-{options.size}", self.config.images_spec(experiment))

    def autoencoder_of(self, experiment: str) -> str:
        """Returns the folder name of an experiment's autoencoder; a pretrained one is checked on each set of images."""
        options = self.config.experiments[experiment].autoencoder
        return slug(options.pretrained or "trained", self.config.latents_spec(experiment))

    def latents_of(self, experiment: str) -> str:
        """Returns the folder name of an experiment's latents."""
        return slug(self.images_of(experiment), self.config.latents_spec(experiment))

    def training(self, experiment: str, seed: int) -> str:
        """Returns the folder of a training's checkpoints."""
        return f"{self.root}/train/{experiment}/seed{seed}"

    def run(self, experiment: str, seed: int) -> str:
        """Returns the folder of a training's snapshots, losses, log and lease."""
        spec = self.config.train_spec(experiment, seed)
        return f"{self.training(experiment, seed)}/run-{spec_hash(spec)}"

    def rows_of(self, suite: str) -> list[tuple[str, int, str]]:
        """Returns (experiment, seed, step) of every row; an imported checkpoint stands at the last milestone alone."""
        options = self.config.suites[suite]
        return [
            (name, seed, f"{step:07d}")
            for name in options.experiments
            for seed in (options.seeds[:1] if name in self.imported else options.seeds)
            for step in (options.milestones[-1:] if name in self.imported else options.milestones)
        ]

    def stage_files(self, stage: str, suite: str) -> list[str]:
        """Returns the files that say a stage of a suite is done."""
        root, names, rows = self.root, self.config.suites[suite].experiments, self.rows_of(suite)
        trained = [name for name in names if name in self.trained]
        files = {
            "images": [f"{root}/images/{self.images_of(name)}/index.json" for name in names],
            "autoencoder": [
                f"{root}/autoencoder/{self.autoencoder_of(name)}/autoencoder.json" for name in names
            ],
            "latents": [f"{root}/latents/{self.latents_of(name)}/index.json" for name in trained],
            "train": [f"{self.training(name, seed)}/{step}.json" for name, seed, step in rows],
            "sample": [
                f"{root}/sample/{suite}/{name}/seed{seed}/{step}/index.json" for name, seed, step in rows
            ],
            "scorer": [f"{root}/scorer/{suite}/scorer.json"],
            "score": [
                *(f"{root}/score/{suite}/{name}/seed{seed}/{step}.json" for name, seed, step in rows),
                f"{root}/score/{suite}/floor.json",
            ],
            "table": [f"{root}/table/{suite}/table.html"],
        }
        return list(dict.fromkeys(files[stage]))
