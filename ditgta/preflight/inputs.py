"""What a suite reads from outside: images, latents, autoencoder, scorer, second judge, reference, checkpoints."""

import functools
import os
import socket
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from ditgta.config.names import DIGITS, HELD_OUT, PUBLISHED_SCORER
from ditgta.data.autoencoder import WEIGHTS
from ditgta.data.digits import Digits
from ditgta.data.image_index import index_of
from ditgta.data.image_sets import open_image_set
from ditgta.data.order import spread
from ditgta.data.sources.find import list_source
from ditgta.data.sources.listing import Options
from ditgta.layout import Layout
from ditgta.planning.estimate import IMAGENET
from ditgta.preflight.line import MISSING, OK, WARNING, Line, setting
from ditgta.runtime.addresses import is_address, is_hub_name
from ditgta.runtime.errors import InputError, one_line
from ditgta.runtime.file_records import FileRecord
from ditgta.runtime.files import expanded, read_as, sha256_of
from ditgta.runtime.pretrained import huggingface_hub
from ditgta.runtime.records import ImageIndexRecord

TRIED = 8  # images that are decoded, evenly spread
REACH_SECONDS = 4
HUB = "huggingface.co"
BY_A_JOB = "will be downloaded by a job; it is unknown whether the job's node has a network"
REFERENCES = "https://openaipublic.blob.core.windows.net/diffusion/jul-2021/ref_batches/imagenet/256"


@functools.cache
def is_reachable(host: str) -> bool:
    """Return whether a host answers on the port of https, or a proxy is named that may; False where the hub is to be left alone."""
    if os.environ.get("HF_HUB_OFFLINE", "0").upper() in ("1", "ON", "YES", "TRUE"):
        return False
    if urllib.request.getproxies().get("https"):
        return True
    try:
        with socket.create_connection((host, 443), timeout=REACH_SECONDS):
            return True
    except OSError:
        return False


class Inputs:
    """The checks of one suite's inputs; of jobs elsewhere, on other machines, the network is not known here."""

    def __init__(self, layout: Layout, suite: str, jobs_elsewhere: bool = False):
        self.layout, self.config, self.suite = layout, layout.config, suite
        self.options = self.config.suites[suite]
        self.first = self.options.experiments[0]
        self.jobs_elsewhere = jobs_elsewhere
        # (images for training and held out together, classes), once they have been counted
        self.counted: tuple[int, int] | None = None

    def lines(self) -> Iterator[Line]:
        """Yield the lines of all inputs."""
        yield from self.images()
        for name in self._distinct("latents"):
            yield from self.latents(name)
        for name in self._distinct("autoencoder"):
            yield self.autoencoder(name)
        yield self.scorer()
        yield from self.judge()
        yield from self.reference()
        yield from self.checkpoints()
        answer = "answers"
        if not is_reachable(HUB):
            answer = "does not answer: missing files must be copied to this machine"
        yield Line(OK, "network", f"{HUB} {answer}")

    def _distinct(self, stage: str) -> list[str]:
        """Return one row for each folder of a stage."""
        folders = {self.layout.path(stage, name): name for name in reversed(self.options.experiments)}
        return list(folders.values())[::-1]

    def images(self) -> Iterator[Line]:
        """Yield whether the images are there, of how many classes, and can be decoded."""
        images = self.config.experiments[self.first].images
        yield self._source("images", "source", "")
        if images.held_out:
            yield self._held_out()
        if not self.counted:
            return
        count, classes = self.counted
        trained = self.config.trained(self.suite)
        largest = max((row.training.batch_size for row in trained.values()), default=0)
        if largest > count:
            row = next(iter(trained))
            fix = f"set {setting(self.config, row, 'training', 'batch_size', str(count // 2))}"
            yield Line(MISSING, "batch", f"batch_size {largest} is more than the {count:,} images", fix)
        if self.options.published and self.counted != IMAGENET:
            said = f"the published values beside the table are for ImageNet's {IMAGENET[0]:,} images of 1,000 classes"
            said += f", not for these {count:,} images of {classes:,} classes"
            yield Line(WARNING, "published", said, "compare only rows with each other")

    def _held_out(self) -> Line:
        """Return whether there are images to hold out, and others than those of training."""
        images = self.config.experiments[self.first].images
        line = self._source("held-out", "held_out", HELD_OUT)
        held = self.layout.specs.held
        if line.state == OK and held(images.held_out) == held(images.source):
            named = setting(self.config, self.first, "images", "held_out", "PATH")
            said = f"{images.held_out} holds the training images themselves"
            return Line(MISSING, "held-out", said, f"give other images: set {named}")
        return line

    def _source(self, what: str, key: str, folder: str) -> Line:
        images = self.config.experiments[self.first].images
        source = getattr(images, key)
        if source == DIGITS:
            self.counted = (len(Digits().labels), 10)
            return Line(OK, what, f"{self.counted[0]:,} digits of 10 classes, which come with scikit-learn")
        listed = self._listed(folder)
        if listed and not expanded(source).exists():
            if key == "source":
                self.counted = listed
            fix = f"bring {source} back, unless every stage that reads images is done"
            return Line(WARNING, what, f"{source} is listed in the results, but is no longer there", fix)
        try:
            options = Options(images.label_column, images.class_names, images.class_order)
            index = index_of(list_source(expanded(source), options), images.size)
            for i in spread(index.count, TRIED):
                index.image(i)
        except InputError as error:
            named = setting(self.config, self.first, "images", key, "PATH")
            fix = "correct the source"
            if not expanded(source).exists():
                fix = "put the images there, one folder per class"
                if "imagenet" in source:
                    fix += " (ImageNet's: 1,281,167 for training, 50,000 for validation)"
            return Line(MISSING, what, str(error).splitlines()[0], f"{fix}, or set {named}")
        if key == "source":
            self.counted = (index.count, len(index.classes))
        said = f"{index.count:,} images of {len(index.classes):,} classes in {source}; {min(TRIED, index.count)} decoded"
        return Line(OK, what, said)

    def _listed(self, part: str) -> tuple[int, int] | None:
        """Return images and classes of the index in the results, None where there is none."""
        try:
            folder = Path(self.layout.path("images", self.first), part)
            index = read_as(ImageIndexRecord, folder / "index.json")
            return index.count, len(index.classes)
        except InputError:
            return None

    def latents(self, name: str) -> Iterator[Line]:
        """Yield whether latents made elsewhere are there."""
        source = getattr(self.config.experiments[name].latents, "from")
        is_taken = Path(self.layout.path("latents", name), "index.json").is_file()
        if source and not expanded(source).exists() and not is_taken:
            fix = f"put them there, or set {setting(self.config, name, 'latents', 'from', 'PATH')}"
            yield Line(MISSING, "latents", f"{source} does not exist", fix)
        elif source:
            yield Line(OK, "latents", f"taken from {source}")

    def autoencoder(self, name: str) -> Line:
        """Return whether an autoencoder is there whole, will be trained, or can be fetched."""
        options = self.config.experiments[name].autoencoder
        record = Path(self.layout.path("autoencoder", name), "autoencoder.json")
        if options.pixels:
            return Line(OK, "autoencoder", "none: latents are pixels")
        if record.is_file():
            return self._checksum("autoencoder", record.with_name(WEIGHTS), record)
        if not options.pretrained:
            return Line(OK, "autoencoder", "will be trained on the images")
        local = expanded(options.pretrained)
        if not local.is_dir():
            return self._hub(name, options.pretrained, options.revision)
        lacking = [file for file in ("config.json", WEIGHTS) if not (local / file).is_file()]
        if lacking:
            said = f"{local} lacks {' and '.join(lacking)}"
            return Line(MISSING, "autoencoder", said, self._fetch(name, local))
        return Line(OK, "autoencoder", f"{local}, sha256 {sha256_of(local / WEIGHTS)[:12]}...")

    def _hub(self, name: str, repository: str, revision: str | None) -> Line:
        fix = self._fetch(name, Path("vae"))
        if not is_hub_name(repository):
            return Line(MISSING, "autoencoder", f"the folder {repository} does not exist", fix)
        find = huggingface_hub().try_to_load_from_cache
        cached = [find(repository, file, revision=revision) for file in ("config.json", WEIGHTS)]
        if all(isinstance(file, str) for file in cached):
            return Line(OK, "autoencoder", f"{repository} is in the Hugging Face cache")
        return self._download("autoencoder", repository, HUB, "is not in the Hugging Face cache, and", fix)

    def _download(self, what: str, name: str, host: str, need: str, fix: str) -> Line:
        """Return whether a job can download what is not there; `need` says that it must."""
        if not is_reachable(host):
            return Line(MISSING, what, f"{name} {need} {host} does not answer", fix)
        if self.jobs_elsewhere:
            return Line(WARNING, what, f"{name} {BY_A_JOB}", fix)
        return Line(OK, what, f"{name} will be downloaded from {host}, which answers")

    def _fetch(self, name: str, folder: Path) -> str:
        pretrained = self.config.experiments[name].autoencoder.pretrained
        if not is_hub_name(str(pretrained)) or Path(str(pretrained)).exists():
            pretrained = "OWNER/NAME"
        named = setting(self.config, name, "autoencoder", "pretrained", str(folder))
        return (
            f"on a machine with network `hf download {pretrained} config.json {WEIGHTS} --local-dir {folder}`, "
            f"copy {folder} here and set {named}"
        )

    def _set_scorer(self, key: str, value: str) -> str:
        """Return the line of a configuration file that sets an option of the suite's scorer."""
        return f"`suites: {{{self.suite}: {{scorer: {{{key}: {value}}}}}}}` in a --configfile"

    def scorer(self) -> Line:
        """Return whether the scorer's weights are there whole, will be trained, or can be fetched."""
        options = self.options.scorer
        file = Path(self.layout.path("scorer", self.suite), "scorer.safetensors")
        if file.with_suffix(".json").is_file():
            return self._checksum("scorer", file, file.with_suffix(".json"))
        if not options.weights:
            return Line(OK, "scorer", "will be trained on the images")
        name = options.weights.rpartition("/")[2]
        fix = (
            f"on a machine with network `curl -L --create-dirs -o weights/{name} {PUBLISHED_SCORER['url']}`, copy it here "
            f"and set {self._set_scorer('weights', f'weights/{name}')}"
        )
        if not is_address(options.weights):
            return self._weights(expanded(options.weights), fix)
        host = options.weights.split("/")[2]
        return self._download("scorer", name, host, "must be downloaded, but", fix)

    def judge(self) -> Iterator[Line]:
        """Yield whether the file of a second judge's weights is there, nothing where none is named."""
        if not self.options.scorer.judge:
            return
        path = expanded(self.options.scorer.judge)
        if path.is_file():
            said = f"{path}, {path.stat().st_size / 1e6:.0f} MB, sha256 {sha256_of(path)[:12]}..."
            yield Line(OK, "judge", said)
        else:
            fix = (
                f"copy the weights of DINOv2 there, or name another file: {self._set_scorer('judge', 'PATH')}"
            )
            yield Line(MISSING, "judge", f"{path} does not exist", fix)

    def _weights(self, path: Path, fix: str) -> Line:
        if not path.is_file():
            return Line(MISSING, "scorer", f"{path} does not exist", fix)
        sha256, published = sha256_of(path), PUBLISHED_SCORER["sha256"]
        if sha256 == published:
            return Line(OK, "scorer", f"{path}: the published FID weights, sha256 {sha256[:12]}...")
        if path.name == PUBLISHED_SCORER["url"].rpartition("/")[2]:
            said = f"{path} has sha256 {sha256[:12]}..., the published file {published[:12]}..."
            return Line(MISSING, "scorer", said, fix)
        return Line(OK, "scorer", f"{path}: not the published FID weights, sha256 {sha256[:12]}...")

    def _checksum(self, what: str, file: Path, record: Path) -> Line:
        """Return whether a file among the results is the one that its record vouches for."""
        try:
            expected = read_as(FileRecord, record).sha256
            if file.is_file() and sha256_of(file) == expected:
                return Line(OK, what, f"{file}, sha256 {expected[:12]}... as its record says")
            said = f"{file} is missing or damaged: its record says sha256 {str(expected)[:12]}..."
        except InputError as error:
            said = one_line(error)
        return Line(MISSING, what, said, f"delete {file.parent}; the next run makes it again")

    def reference(self) -> Iterator[Line]:
        """Yield whether the real images or statistics that samples are compared with can be read."""
        given = self.options.scorer.reference
        if not given:
            return
        path = expanded(given)
        fix = f"set {self._set_scorer('reference', 'PATH')}"
        if "VIRTUAL_imagenet256" in path.name:
            fix = f"on a machine with network `curl -L -o {given} {REFERENCES}/{path.name}`, or {fix}"
        if not path.exists():
            yield Line(MISSING, "reference", f"{given} does not exist", fix)
            return
        try:
            images = open_image_set(path)
        except InputError as error:
            yield Line(MISSING, "reference", one_line(error), fix)
            return
        held = f"{images.count:,} images" if images.count else "statistics"
        checksum = f", sha256 {sha256_of(path)[:12]}..." if path.is_file() else ""
        yield Line(OK, "reference", f"{given}: {held}{checksum}")

    def checkpoints(self) -> Iterator[Line]:
        """Yield whether the checkpoints of rows that are not trained here are there."""
        for name in self.options.experiments:
            checkpoint = self.config.experiments[name].checkpoint
            if checkpoint and expanded(checkpoint).exists():
                yield Line(OK, "checkpoint", f"{name}: {checkpoint}")
            elif checkpoint:
                fix = (
                    f"put it there, or set `experiments: {{{name}: {{checkpoint: PATH}}}}` in a --configfile"
                )
                yield Line(MISSING, "checkpoint", f"{name}: {checkpoint} does not exist", fix)
