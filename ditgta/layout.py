"""Where results lie: a readable name and a short hash of what decides them. Rules and commands share it. Needs no torch."""

import itertools
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from ditgta.config import Config
from ditgta.config.names import HELD_OUT
from ditgta.data.contents import Sources
from ditgta.runtime.addresses import hash_in, size_name
from ditgta.specs import Size, Specs, address_of

# The folders of all results, as Snakemake's pathvars: <images> in a rule stands for the first of them.
FOLDERS = {
    "images": "<results>/images/{images}",
    "autoencoder": "<results>/autoencoder/{autoencoder}",
    "latents": "<results>/latents/{latents}",
    "train": "<results>/train/{train}/seed{seed}",
    "sample": "<results>/sample/{sample}/seed{seed}/{step}",
    "loss": "<results>/loss/{loss}/seed{seed}/{step}",
    "scorer": "<results>/scorer/{scorer}",
    "score": "<results>/score/{score}",
    "table": "<results>/table/{table}",
    "logs": "<results>/logs",
}
SOURCES = "sources.json"
BASELINE = "baseline"


class Row(NamedTuple):
    """One line of a table: an experiment at a milestone, trained with one seed."""

    experiment: str
    seed: int
    step: int

    @property
    def place(self) -> str:
        """Where the row lies below its experiment's folder, e.g. seed0/0003500."""
        return f"seed{self.seed}/{self.step:07d}"


class Sized(NamedTuple):
    """An experiment's images at another size than that of its training."""

    experiment: str
    size: Size


class Layout:
    """The files of a configuration's experiments and suites.

    A folder is called NAME-HASH. The hash alone decides: where a folder of that hash exists it is taken whatever its name, so
    that a renamed experiment, or moved images, find what was made before. Every path begins with `root`, the folder of all results;
    `sources` are what the configuration's paths hold, by default as kept in, or read beside, the results.

    owners: {stage: {folder: the experiment, the suite, or (suite, experiment) that it belongs to first}}; images of another
        size belong to a Sized, real scored against real images to (suite, their size or None).
    trained, imported: the experiments that are trained here, and those that take a checkpoint as it is.
    """

    def __init__(self, config: Config, root: str = "results", sources: Sources | None = None):
        self.config, self.root = config, root
        self.sources = sources or Sources(Path(root, SOURCES))
        self.specs = Specs(config, self.sources)
        self.imported = [name for name, options in config.experiments.items() if options.checkpoint]
        self.trained = [name for name in config.experiments if name not in self.imported]
        self.owners: dict[str, dict[str, object]] = {stage: {} for stage in FOLDERS}
        self._names: dict[tuple, str] = {}
        self._there = {stage: _addressed(Path(root, stage)) for stage in FOLDERS}
        in_suites = [name for suite in config.suites for name in self._row_names(suite)]
        for name in dict.fromkeys([*in_suites, *config.experiments]):
            autoencoder, latents = config.experiments[name].autoencoder, self.specs.latents(name)
            word = "pixels" if autoencoder.pixels else slug(autoencoder.pretrained or "trained")
            pictures = self._place_images(name, None)
            self._place("autoencoder", word, latents, name)
            self._place("latents", pictures, latents, name)
            self._place("train", name, self.specs.checkpoint(name), name)
        for suite in config.suites:
            self._place_suite(suite)

    def _place_images(self, name: str, size: Size | None) -> str:
        """Gives an experiment's list of images its folder, and returns the folder's name."""
        source, specs = self.config.experiments[name].images.source, self.specs
        # The path is in the address of the list of images, which says where they are, and of nothing else.
        listed = {"source": source, **(specs.held_out(name, size) or specs.images(name, size))}
        side = self.config.experiments[name].images.size
        pictures = f"{slug(source)}-{size_name(size or (side, side))}"
        self._place("images", pictures, listed, Sized(name, size) if size else name)
        return pictures

    def _place_suite(self, suite: str) -> None:
        options, specs = self.config.suites[suite], self.specs
        self._place("scorer", slug(options.scorer.weights or "trained"), specs.scorer(suite), suite)
        for size in self.sizes(suite):
            if size:
                self._place_images(specs.first(suite), size)
            self._place("score", BASELINE, specs.baseline(suite, size), (suite, size))
        measured = {*options.experiments, *specs.averaged(suite)}
        for name in self._row_names(suite):
            self._place("sample", name, specs.samples(suite, name), (suite, name))
            self._place("score", name, specs.scores(suite, name), (suite, name))
            if specs.held_out(name) and name in measured:
                self._place("loss", name, specs.losses(suite, name), (suite, name))
        self._place("table", suite, specs.table(suite), suite)

    def _place(self, stage: str, name: str, spec: dict, owner: object) -> None:
        """Gives a result its folder: the one of its hash that is there, or that of the first that has this spec."""
        address = address_of(spec)
        there = self._there[stage].setdefault(address, [f"{name}-{address}"])
        folder = f"{name}-{address}" if f"{name}-{address}" in there else there[0]
        self._names[stage, owner] = folder
        self.owners[stage].setdefault(folder, owner)

    def path(self, stage: str, owner: object, row: Row | None = None) -> str:
        """Return a stage's folder of an experiment (images, autoencoder, latents, train), of a suite (scorer, table), or of
        (suite, experiment) (sample, score); of a row, that in which its files lie."""
        folder, parts = FOLDERS[stage].partition("/seed")[0], {}
        if row:
            folder, parts = FOLDERS[stage], {"seed": row.seed, "step": f"{row.step:07d}"}
        return folder.format(**{stage: self._names[stage, owner]}, **parts).replace("<results>", self.root)

    def decoder(self, experiment: str) -> str:
        """Return the folder of the autoencoder that an experiment's samples are decoded with."""
        if self.specs.is_adapted(experiment):
            return f"{self.path('latents', experiment)}/autoencoder"
        return self.path("autoencoder", experiment)

    def run(self, experiment: str, seed: int) -> str:
        """Return the folder of a training's snapshots, losses, log and lease."""
        return f"{self.path('train', experiment)}/seed{seed}/run"

    def checkpoint(self, row: Row) -> str:
        """Return a row's checkpoint."""
        return f"{self.path('train', row.experiment, row)}/{row.step:07d}.safetensors"

    def samples(self, suite: str, row: Row) -> str:
        """Return the folder of a row's samples."""
        return self.path("sample", (suite, row.experiment), row)

    def scores(self, suite: str, row: Row) -> str:
        """Return a row's score file."""
        return f"{self.path('score', (suite, row.experiment))}/{row.place}.json"

    def has_losses(self, suite: str) -> bool:
        """Return whether a suite's images are held out, so that its rows have losses on them."""
        return self.specs.held_out(self.specs.first(suite)) is not None

    def losses(self, suite: str, row: Row) -> str:
        """Return a row's held-out losses."""
        return f"{self.path('loss', (suite, row.experiment), row)}.json"

    def held_out(self, experiment: str) -> str:
        """Return the folder of the index of an experiment's held-out images."""
        return f"{self.path('images', experiment)}/{HELD_OUT}"

    def reference(self, suite: str, size: Size | None = None) -> str:
        """Return what a suite's samples are compared with: a file, or the folder of an index; at another size, of that size."""
        first, given = self.specs.first(suite), self.config.suites[suite].scorer.reference
        if given and size is None:
            return given
        folder = self.images(first, size)
        return f"{folder}/{HELD_OUT}" if self.specs.is_scored_on_held_out(suite) else folder

    def images(self, experiment: str, size: Size | None = None) -> str:
        """Return the folder of the index of an experiment's images, at the size of training or at another one."""
        return self.path("images", Sized(experiment, size) if size else experiment)

    def baseline(self, suite: str, size: Size | None = None) -> str:
        """Return the scores of real images against real ones, of the table's size or of another one."""
        return f"{self.path('score', (suite, size or self.sizes(suite)[0]))}.json"

    def sizes(self, suite: str) -> list[Size | None]:
        """Return the sizes of a suite's samples, that of its table first; None is that of training."""
        rows = [self.specs.first(suite), *self.config.sized(suite)]
        return list(dict.fromkeys(self.specs.size(suite, name) for name in rows))

    def _row_names(self, suite: str) -> list[str]:
        return [*self.config.suites[suite].experiments, *self.config.beside(suite)]

    def rows(self, suite: str) -> list[Row]:
        """Return the rows of a suite; an imported checkpoint stands at the last milestone alone."""
        options = self.config.suites[suite]
        return self._rows(suite, options.experiments, options.milestones)

    def sized_rows(self, suite: str) -> list[Row]:
        """Return the rows of a suite at its other sizes, which stand at the last milestone alone."""
        return self._rows(suite, self.config.sized(suite), self.config.suites[suite].milestones[-1:])

    def swept_rows(self, suite: str) -> list[Row]:
        """Return the rows of a suite at the further points of its sweep."""
        return self._rows(suite, self.config.swept(suite), self.config.suites[suite].milestones)

    def averaged_rows(self, suite: str) -> list[Row]:
        """Return the rows of a suite's sweep that have held-out losses of their own: one for each further average."""
        names = self.specs.averaged(suite) if self.has_losses(suite) else []
        return self._rows(suite, names, self.config.suites[suite].milestones)

    def rows_beside(self, suite: str) -> list[Row]:
        """Return the rows that are sampled and scored beside those of the table, from the same checkpoints."""
        return [*self.sized_rows(suite), *self.swept_rows(suite)]

    def _rows(self, suite: str, names: Iterable[str], milestones: Sequence[int]) -> list[Row]:
        seeds, rows = self.config.suites[suite].seeds, []
        for name in names:
            places = itertools.product(seeds, milestones)
            if name in self.imported:
                places = itertools.product(seeds[:1], milestones[-1:])
            rows += [Row(name, *place) for place in places]
        return rows

    def chain(self, experiment: str) -> list[int]:
        """Return the milestones of a training: those of every suite that holds it, under whatever name."""
        folder, steps = self._names["train", experiment], set()
        for suite in self.config.suites.values():
            if folder in [self._names["train", name] for name in suite.experiments]:
                steps |= set(suite.milestones)
        return sorted(steps)

    def files(self, noun: str, suite: str) -> list[str]:
        """Return the files that say that something of a suite is done; `noun` is one of ditgta.config.names.NOUNS."""
        names, rows = self.config.suites[suite].experiments, self.rows(suite)
        sampled, sizes = [*rows, *self.rows_beside(suite)], self.sizes(suite)
        measured = [*rows, *self.averaged_rows(suite)]
        pictures = dict.fromkeys([*map(self.images, names), *(self.images(names[0], size) for size in sizes)])
        files = {
            "images": [f"{folder}/index.json" for folder in pictures],
            "autoencoder": [f"{self.path('autoencoder', name)}/autoencoder.json" for name in names],
            "latents": [f"{self.path('latents', name)}/index.json" for name in names if name in self.trained],
            "checkpoints": [record_of(self.checkpoint(row)) for row in rows],
            "samples": [f"{self.samples(suite, row)}/index.json" for row in sampled],
            "losses": [self.losses(suite, row) for row in measured] if self.has_losses(suite) else [],
            "scorer": [f"{self.path('scorer', suite)}/scorer.json"],
            "scores": [
                *(self.scores(suite, row) for row in sampled),
                *(self.baseline(suite, size) for size in sizes),
            ],
            "table": [f"{self.path('table', suite)}/table.html"],
        }
        return list(dict.fromkeys(files[noun]))


def record_of(checkpoint: str) -> str:
    """Return the JSON record beside a checkpoint."""
    return checkpoint.removesuffix(".safetensors") + ".json"


def slug(name: str) -> str:
    """Return the last part of a path or address as a name for a folder."""
    return re.sub("[^a-z0-9]+", "-", Path(name).name.lower()).strip("-") or "images"


def _addressed(folder: Path) -> dict[str, list[str]]:
    """Return the names of what lies in a stage's folder, by their hash."""
    names: dict[str, list[str]] = {}
    for name in map(_without_suffix, _names_in(folder)):
        if address := hash_in(name):
            names.setdefault(address, []).append(name)
    return names


def unaddressed(root: str | Path) -> list[Path]:
    """Return what lies among the results without a hash in its name: version 0.1 wrote it, and nothing uses it."""
    paths: list[Path] = []
    for stage in FOLDERS:
        if stage != "logs":
            names = _names_in(Path(root, stage))
            paths += [Path(root, stage, name) for name in names if not hash_in(_without_suffix(name))]
    return paths


def old_results(root: str | Path) -> str | None:
    """Return one line that names results of version 0.1, None where there are none."""
    if not (paths := unaddressed(root)):
        return None
    shown = ", ".join(map(str, paths[:3])) + (f" and {len(paths) - 3} more" if len(paths) > 3 else "")
    return f"{shown}: results of version 0.1, which are not used; `ditgta clean` lists them"


def _names_in(folder: Path) -> list[str]:
    try:
        return sorted(name for name in os.listdir(folder) if not name.startswith("."))
    except OSError:
        return []


def _without_suffix(name: str) -> str:
    """Return a name without what stands behind it of score files and of folders of features."""
    return re.sub(r"\.(json|npz|features)$", "", name)
