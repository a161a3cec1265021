"""Options of scoring: which networks judge, and against which real images."""

from typing import Annotated

from pydantic import AfterValidator, Field

from ditgta.config.section import Added, Place, Section
from ditgta.runtime.addresses import address_fault, is_address


def _fetchable(weights: str) -> str:
    """Refuses an address from which nothing is downloaded."""
    if is_address(weights) and (fault := address_fault(weights)):
        raise ValueError(fault)
    return weights


class Scorer(Section):
    """Which network and which real images the scores come from."""

    weights: Annotated[str, Field(min_length=1), AfterValidator(_fetchable)] | None = Field(
        None,
        description="FID Inception weights: a file, or an https address, downloaded once; none: train a small one on the images",
    )
    reference: Place | None = Field(
        None,
        description="reference npz (statistics or images) in the format of ADM's suite; none: the experiment's images",
    )
    judge: Place | None = Added(
        None,
        "file of DINOv2's weights, for a second judge beside the scorer: fd_dinov2 and kid_dinov2; none: no second judge",
    )
    width: float = Field(
        0.0625, gt=0, le=1, description="width of a trained scorer as a fraction of Inception-V3"
    )
    input_size: int = Field(
        75, ge=75, le=2048, description="side in pixels to which a trained scorer resizes images"
    )
    epochs: int = Field(20, ge=1, description="training epochs of a trained scorer")
    batch_size: int = Field(64, ge=1, description="batch of a trained scorer")
    learning_rate: float = Field(2e-2, gt=0, description="peak learning rate of a trained scorer")
    holdout: float = Field(
        0.2,
        gt=0,
        lt=1,
        description="fraction of images on which a trained scorer's accuracy is measured, if `images` holds none out",
    )
    seed: int = Field(0, description="seed of a trained scorer")
