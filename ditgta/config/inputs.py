"""Options of what comes from outside: images, and latents that others have made."""

import os
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, create_model, model_validator

from ditgta.config.names import DIGITS, LATENT_FORMATS
from ditgta.config.section import Free, Section


class Images(Section):
    """Which images."""

    source: Annotated[str, AfterValidator(lambda path: os.path.normpath(path) if path else path)] = Field(
        DIGITS,
        description='"digits" (1,797 handwritten digits, no download), a folder that holds one folder of images per class, or '
        "a tar, folder of tars, zip, Parquet, or CSV of files and labels",
    )
    size: int = Field(
        256, ge=8, le=8192, description="side in pixels to which images are scaled and centre-cropped"
    )
    on_error: Literal["stop", "skip"] = Field(
        "stop",
        description="what to do with unreadable files and empty classes: stop and list them, or skip and record them",
    )
    label_column: str | None = Field(
        None, description="column of labels in a table or in Parquet, where it cannot be told from the others"
    )
    class_names: str | None = Field(
        None, description="text file of class names, one a line, where the source numbers its classes"
    )
    class_order: Literal["natural", "alphabetic"] = Field(
        "natural",
        description="order of classes that are named by folders: 2 before 10, or behind it as in torchvision's ImageFolder",
    )
    repack: bool = Free(
        False,
        "copy the images once into one file of the results, where reading them singly is slow (Parquet)",
    )


_From = create_model(  # "from" is a word of Python's, so no class can spell it
    "_From",
    __base__=Section,
    **{
        "from": (
            str | None,
            Field(None, description="folder or file of latents made elsewhere; none: encode the images"),
        )
    },
)


class Latents(_From):
    """Latents that others have made, instead of encoding the images."""

    format: Literal[tuple(LATENT_FORMATS)] | None = Field(
        None, description="whose layout they are in: fast-dit, lightningdit, edm2 or repa"
    )
    std: float | None = Field(
        None,
        gt=0,
        description="standard deviation to which the formats that normalise (edm2, lightningdit) are scaled; none: 1",
    )
    image_size: int | None = Field(
        None,
        ge=8,
        description="side in pixels of the images, where these are not at hand; none: from the latents' side",
    )

    @model_validator(mode="after")
    def _whole(self) -> "Latents":
        if (getattr(self, "from") is None) != (self.format is None):
            raise ValueError("from and format belong together; give both or neither")
        return self
