"""Options of what comes from outside: images, and latents that others have made."""

import json
import os
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, create_model, model_validator

from ditgta.config.names import DIGITS, LATENT_FORMATS
from ditgta.config.section import Added, Free, Option, Place, Section


class Placement(Section):
    """Where digits stand on a canvas that is larger than they are: place and scale are random, and independent of the class."""

    scales: tuple[Annotated[int, Field(ge=4)], ...] = Option(
        (8,),
        "sides of a digit in pixels, from which one is drawn; 8 is scikit-learn's own size",
        min_length=1,
    )
    grid: int = Option(1, "grid of a digit's corner, in pixels", ge=1)
    copies: int = Option(4, "images of each digit, each at another place", ge=1, le=10_000)
    held_out_copies: int = Option(1, "images of each digit that is held out", ge=1, le=10_000)


def _object(value: Any) -> Any:
    """Reads a placement that is typed on the command line as JSON."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        raise ValueError('write JSON, e.g. {"scales": [8], "grid": 1, "copies": 4}') from None


class Images(Section):
    """Which images."""

    source: Annotated[Place, AfterValidator(os.path.normpath)] = Option(
        DIGITS,
        '"digits" (1,797 handwritten digits, no download), a folder that holds one folder of images per class, or '
        "a tar, folder of tars, zip, Parquet, or CSV of files and labels",
    )
    size: int = Option(256, "side in pixels to which images are scaled and centre-cropped", ge=8, le=8192)
    on_error: Literal["stop", "skip"] = Option(
        "stop",
        "what to do with unreadable files and empty classes: stop and list them, or skip and record them",
    )
    label_column: str | None = Option(
        None, "column of labels in a table or in Parquet, if several columns could be the labels"
    )
    class_names: Place | None = Option(
        None, "text file of class names, one per line, for a source with numbered classes"
    )
    class_order: Literal["natural", "alphabetic"] = Option(
        "natural",
        "order of classes that are named by folders: natural (2 before 10), or alphabetic (10 before 2, as torchvision's ImageFolder)",
    )
    hold_out: float = Added(
        0.0,
        "share of the images of each class that training never sees, for the held-out loss; of small sets they are also the "
        "reference of FID and KID",
        ge=0,
        lt=1,
    )
    held_out: Place | None = Added(
        None, "another source with the same classes, held out of training, instead of a share"
    )
    placement: Annotated[Placement | None, BeforeValidator(_object)] = Added(
        None,
        "digits at random places of a canvas of `size` pixels (as JSON: scales, grid, copies, held_out_copies)",
    )
    repack: bool = Free(
        False, "copy the images once into one file of the results, if reading single images is slow (Parquet)"
    )

    @property
    def copies(self) -> tuple[int, int]:
        """Images of each original: of those for training, and of those that are held out."""
        if self.placement is None:
            return 1, 1
        return self.placement.copies, self.placement.held_out_copies

    @property
    def holds_out(self) -> bool:
        """Whether there are images that training never sees."""
        return bool(self.hold_out or self.held_out)

    @model_validator(mode="after")
    def _one_way_to_hold_out(self) -> "Images":
        if self.hold_out and self.held_out:
            raise ValueError(
                "hold_out takes a share of the images, held_out takes another source; give one of them"
            )
        if self.held_out and self.source == DIGITS:
            raise ValueError("the digits have no other source to hold out; give hold_out, a share of them")
        return self

    @model_validator(mode="after")
    def _canvas(self) -> "Images":
        if self.placement is None:
            return self
        if self.source != DIGITS:
            raise ValueError(f"placement is for source {DIGITS}; set placement: null")
        if max(self.placement.scales) > self.size:
            raise ValueError(
                f"a digit of {max(self.placement.scales)} pixels does not fit a canvas of size {self.size}; "
                "raise size or lower placement.scales"
            )
        return self


_From = create_model(  # "from" is a word of Python's, so no class can spell it
    "_From",
    __base__=Section,
    **{
        "from": (
            Place | None,
            Option(None, "folder or file of latents made elsewhere; none: encode the images"),
        )
    },
)


class Latents(_From):
    """Latents that others have made, instead of encoding the images."""

    format: Literal[tuple(LATENT_FORMATS)] | None = Option(
        None, "layout of the latents: fast-dit, lightningdit, edm2 or repa"
    )
    std: float | None = Option(
        None,
        "standard deviation of the latents, for formats that normalise (edm2, lightningdit); none: 1",
        gt=0,
    )
    image_size: int | None = Option(
        None, "side in pixels of the images, if there are no images; none: from the latents' side", ge=8
    )

    @model_validator(mode="after")
    def _whole(self) -> "Latents":
        if (getattr(self, "from") is None) != (self.format is None):
            raise ValueError("from and format belong together; give both or neither")
        return self
