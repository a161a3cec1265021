"""Names that configuration, command line and model share; nothing heavy is imported for them."""

from typing import NamedTuple

# What the same options give has changed with this number: results of another are other results, and lie elsewhere.
RESULTS_VERSION = 2

HELD_OUT = "held-out"  # folder, in that of the images' index, of the index of those that training never sees
DIGITS = "digits"  # the images that need no folder: scikit-learn's handwritten digits

PUBLISHED_SCORER = {  # the FID network of 2015, which everybody's FID is measured with
    "url": "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth",
    "sha256": "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
}

STAGES = ("images", "autoencoder", "latents", "train", "sample", "loss", "scorer", "score", "table")

# What `snakemake` is asked for: nouns collect what a stage has made, for the suite; the words of rules stand behind -R.
NOUNS = ("images", "autoencoder", "latents", "checkpoints", "samples", "losses", "scorer", "scores", "table")
RULES = (
    "list_images",
    "fit_autoencoder",
    "encode",
    "encode_part",
    "train",
    "import_checkpoint",
    "sample",
    "sample_part",
    "measure_loss",
    "fit_scorer",
    "score",
    "tabulate",
)
TARGETS = ("all", "paper_table", "plan", *NOUNS)

# The positional encodings of ditgta.model.positional; a test holds both lists to each other.
WITHOUT_BASE = ("rope-golden", "gta-golden", "liere")  # rotations whose frequencies have no base to choose
ROTATIONS = (
    *("rope", "vo", "gta", "rope-mixed", "gta-mixed", "rope-spiral", "gta-spiral", "rope-harope"),
    *WITHOUT_BASE,
)
POSENCS = ("abs", "abs-learned", "none", "none-conv", "alibi", "bias", *ROTATIONS)

# How positions are given to a network that is sampled at another size, and the encodings that lack some of these ways.
POSITIONS = ("extrapolate", "interpolate", "ntk", "parts")
RESIZINGS = {
    "abs-learned": ("interpolate",),
    "bias": ("interpolate",),
    "none-conv": ("extrapolate",),
    **dict.fromkeys(("none", "alibi", "liere"), ("extrapolate", "interpolate")),
    **dict.fromkeys(
        ("rope-mixed", "gta-mixed", "rope-spiral", "gta-spiral", "rope-golden", "gta-golden"),
        ("extrapolate", "interpolate", "parts"),
    ),
}

# Channels of latents that are pixels.
PIXEL_CHANNELS = {"grey": 1, "rgb": 3}

# The training objectives, and the samplers that belong to each.
OBJECTIVES = {"ddpm": ("ancestral", "ddim", "dpm-solver++"), "flow": ("euler", "heun", "euler-ancestral")}
SAMPLERS = tuple(sampler for samplers in OBJECTIVES.values() for sampler in samplers)
STOCHASTIC_SAMPLERS = ("ancestral", "euler-ancestral")  # draw noise at every step but the last


class LatentFormat(NamedTuple):
    """What a format of latents holds: moments of each posterior (or one draw of it), mirrored images, normalised channels."""

    moments: bool
    flips: bool
    normalised: bool = False


# The formats of ditgta.data.ready; a test holds both lists to each other.
LATENT_FORMATS = {
    "fast-dit": LatentFormat(moments=False, flips=False),
    "lightningdit": LatentFormat(moments=False, flips=True, normalised=True),
    "edm2": LatentFormat(moments=True, flips=False, normalised=True),
    "repa": LatentFormat(moments=True, flips=False),
}

# The metrics of which a suite can declare one as its primary; ditgta.report.model has their names and columns.
PRIMARY = (
    "loss",
    "fid",
    "sfid",
    "kid",
    "inception_score",
    "precision",
    "recall",
    "density",
    "coverage",
    "fid_infinity",
    "class_accuracy",
    "fd_dinov2",
    "kid_dinov2",
)

# Named sizes: depth, width, heads. Pi and Ti are this project's own, for a laptop; the others are those of the DiT paper (Table 1).
SIZES = {
    "Pi": (4, 64, 2),
    "Ti": (4, 96, 3),
    "S": (12, 384, 6),
    "B": (12, 768, 12),
    "L": (24, 1024, 16),
    "XL": (28, 1152, 16),
}
PATCHES = (1, 2, 4, 8)


def rotation_fault(posenc: str, has_base: bool, has_table: bool) -> str:
    """Return why an encoding takes no base of its own, or no table of `abs` beside it, or ""; of unknown ones, nothing is known."""
    if posenc in POSENCS and posenc not in ROTATIONS and (has_base or has_table):
        return (
            f"posenc {posenc} does not rotate, so it takes neither rotary_base nor absolute_table; "
            f"leave them out, or use one of {', '.join(ROTATIONS)}"
        )
    if posenc in WITHOUT_BASE and has_base:
        return f"posenc {posenc} has no base, so it takes no rotary_base; leave it out"
    return ""


def resizing_fault(posenc: str, positions: str) -> str:
    """Return why an encoding has no positions at another size in one way, or ""."""
    own = RESIZINGS.get(posenc, POSITIONS)
    if positions in own:
        return ""
    return f"posenc {posenc} cannot be sampled at another size with positions {positions}; use {' or '.join(own)}"


def sampler_fault(sampler: str | None, objective: str) -> str:
    """Return why a network of an objective cannot be sampled with a sampler, or ""; None is the objective's first."""
    own = OBJECTIVES[objective]
    if sampler in (None, *own):
        return ""
    return f"sampler {sampler} does not belong to objective {objective}; use {' or '.join(own)}"


def named_sizes(name: str) -> dict[str, int]:
    """Return patch, depth, width and heads of a named model such as DiT-B/2; raise ValueError for an unknown name."""
    size, _, patch = name.removeprefix("DiT-").partition("/")
    if not name.startswith("DiT-") or size not in SIZES or not patch.isdigit() or int(patch) not in PATCHES:
        raise ValueError(
            f"model {name!r} is unknown; write DiT-SIZE/PATCH with SIZE in {', '.join(SIZES)} "
            f"and PATCH in {', '.join(map(str, PATCHES))}"
        )
    depth, width, heads = SIZES[size]
    return {"patch": int(patch), "depth": depth, "width": width, "heads": heads}
