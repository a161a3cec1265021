"""How much work each part of a suite is, from its options alone: what progress in % is weighed by. Needs no torch.

`ditgta plan` counts operations; here formulas stand for the counts, right within a factor of two, so that `status` answers at once.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

from ditgta.config import Autoencoder, Config
from ditgta.planning import cost
from ditgta.planning.scoring import Scored, metric_seconds

STARTUP_SECONDS = 3.5  # of a job, until it has imported what it needs; measured
RATE = 2e10  # operations per second of a job, until one has been measured
SD_ENCODE, SD_DECODE = 4.2e6, 9.5e6  # operations per pixel of Stable Diffusion's autoencoder
SMALL_ENCODE, SMALL_DECODE = 100.0, 270.0  # of a small one per pixel and squared width of its first layer
NARROW = 10  # times as slow, per operation, are the convolutions of small autoencoders and scorers; measured
INCEPTION, INCEPTION_SIDE = 11.4e9, 299  # of one image, at this side
INCEPTION_EDGE = 23  # pixels that its convolutions lose
CHECK_SECONDS = 1.5e-3  # of a core to decode and check one image
TABLE_SECONDS = 10.0
UNKNOWN_IMAGES = 1_000_000


class Work(NamedTuple):
    """What a part takes: operations of networks, and seconds beside them."""

    flops: float
    seconds: float = 0.0
    jobs: int = 1

    def at(self, rate: float) -> float:
        """Return the seconds of one job at a time, at a rate in operations per second."""
        return self.jobs * STARTUP_SECONDS + self.seconds + self.flops / rate


@dataclass(frozen=True)
class SuiteWork:
    """The work of a suite's parts.

    count: training images, None where they have not been counted yet.
    """

    config: Config
    suite: str
    count: int | None = None

    @property
    def images(self) -> int:
        """Training images, counted or taken for many."""
        return self.count or UNKNOWN_IMAGES

    def shape(self, experiment: str) -> cost.Shape:
        """Return the sizes of an experiment's network, but those of its encoding."""
        return cost.shape_of(self.config.experiments[experiment])

    def forward(self, experiment: str) -> float:
        """Return the operations of one forward pass of one image."""
        return cost.forward_flops(self.shape(experiment))

    def per_image(self, experiment: str) -> float:
        """Return the operations of one training step for one image."""
        recomputed = self.config.experiments[experiment].training.checkpoint_gradients
        return cost.training_flops(self.shape(experiment), recomputed)

    def train(self, experiment: str) -> Work:
        """Return the training of one row and seed to the last milestone."""
        milestones = self.config.suites[self.suite].milestones
        batch = self.config.experiments[experiment].training.batch_size
        return Work(self.per_image(experiment) * batch * milestones[-1], jobs=len(milestones))

    def sample(self, experiment: str) -> Work:
        """Return the sampling of one row at one milestone."""
        options = self.config.sampling(self.suite, experiment)
        images = self.config.experiments[experiment].images.size
        height, width = options.size or (images, images)
        larger = height * width / images**2
        shape = self.shape(experiment)
        forward = cost.forward_flops(replace(shape, tokens=round(larger * shape.tokens)))
        decode = larger * _coder(self.config.experiments[experiment].autoencoder, images)[1]
        return Work(options.num_samples * (cost.passes_of(options) * forward + decode))

    def loss(self, experiment: str) -> Work:
        """Return the held-out loss of one row at one milestone."""
        options = self.config.suites[self.suite].loss
        images = cost.held_out_images(options, self.config.experiments[experiment].images, self.images)
        return Work(2 * images * options.timesteps * self.forward(experiment))

    def score(self, experiment: str) -> Work:
        """Return the scoring of one row at one milestone."""
        options = self.config.sampling(self.suite, experiment)
        side = self.config.experiments[experiment].images.size
        other = options.size not in (None, (side, side)) and min(options.size) >= side
        return self._scored(options.num_samples, crops=options.num_samples if other else 0)

    def _scored(self, images: int, crops: int = 0) -> Work:
        """Return the scoring of whole images and of crops, which the second judge does not see."""
        options = self.config.suites[self.suite].scorer
        width, side = options.network
        judge, judge_width = 0.0, 0
        if options.judge:
            sizes = cost.judge_sizes(options.judge)
            judge, judge_width = cost.judge_flops(*sizes), sizes[0]
        seconds = metric_seconds(Scored(images, crops, images, crops), width, judge_width)
        return Work((images + crops) * _inception(width, side) + images * judge, seconds)

    def stage(self, name: str) -> Work:
        """Return a part that the rows share: images, autoencoder, latents, scorer, baseline or table."""
        suite = self.config.suites[self.suite]
        first = self.config.first(self.suite)
        encode, decode = _coder(first.autoencoder, first.images.size)
        if name == "images":
            return Work(0, self.images * CHECK_SECONDS)
        if name == "autoencoder":
            options = first.autoencoder
            if options.pretrained or options.pixels:
                return Work(0)
            return Work(3 * options.steps * options.batch_size * (encode + decode))
        if name == "latents":
            return Work(2 * self.images * encode, self.images * CHECK_SECONDS)
        if name == "scorer":
            options = suite.scorer
            if options.weights:
                return Work(0)
            return Work(3 * self.images * options.epochs * _inception(options.width, options.input_size))
        if name == "baseline":
            return self._scored(0 if suite.scorer.reference else self.images)
        return Work(0, TABLE_SECONDS)


def _coder(options: Autoencoder, size: int) -> tuple[float, float]:
    """Return the operations of encoding and of decoding one image, as many as take a transformer as long."""
    if options.pixels:
        return 0.0, 0.0
    if options.pretrained:
        return SD_ENCODE * size**2, SD_DECODE * size**2
    each = (size * options.widths[0]) ** 2
    return NARROW * SMALL_ENCODE * each, NARROW * SMALL_DECODE * each


def _inception(width: float, side: int) -> float:
    """Return the operations of one image in an Inception network of a width, as many as take a transformer as long."""
    lost = (side - INCEPTION_EDGE) / (INCEPTION_SIDE - INCEPTION_EDGE)
    return (1 if width == 1 else NARROW) * INCEPTION * (width * lost) ** 2
