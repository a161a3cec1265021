"""Options of scoring: which networks judge, and against which real images."""

from typing import Annotated

from pydantic import AfterValidator, Field

from ditgta.config.section import Added, Option, Place, Section
from ditgta.runtime.addresses import address_fault, is_address


def _fetchable(weights: str) -> str:
    """Refuses an address from which nothing is downloaded."""
    if is_address(weights) and (fault := address_fault(weights)):
        raise ValueError(fault)
    return weights


class Scorer(Section):
    """Which network and which real images the scores come from."""

    weights: Annotated[str, Field(min_length=1), AfterValidator(_fetchable)] | None = Option(
        None,
        "FID Inception weights: a file, or an https address, downloaded once; none: train a small one on the images",
    )
    reference: Place | None = Option(
        None,
        "reference npz (statistics or images) in the format of ADM's suite; none: the experiment's images",
    )
    judge: Place | None = Added(
        None,
        "file of DINOv2's weights, for a second judge beside the scorer: fd_dinov2 and kid_dinov2; none: no second judge",
    )
    width: float = Option(0.0625, "width of a trained scorer as a fraction of Inception-V3", gt=0, le=1)
    input_size: int = Option(75, "side in pixels to which a trained scorer resizes images", ge=75, le=2048)
    epochs: int = Option(20, "training epochs of a trained scorer", ge=1)
    batch_size: int = Option(64, "batch of a trained scorer", ge=1)
    learning_rate: float = Option(2e-2, "peak learning rate of a trained scorer", gt=0)
    holdout: float = Option(
        0.2,
        "fraction of images on which a trained scorer's accuracy is measured, if `images` holds none out",
        gt=0,
        lt=1,
    )
    seed: int = Option(0, "seed of a trained scorer")

    @property
    def network(self) -> tuple[float, int]:
        """Width and input side of the network: Inception-V3's own, or those of one that is trained."""
        return (1.0, 299) if self.weights else (self.width, self.input_size)
