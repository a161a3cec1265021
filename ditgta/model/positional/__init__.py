"""Positional encodings: how a token's place on the grid enters the transformer.

Shapes: T tokens (row by row), H heads, E head width, P = E/2 channel pairs. A token at row i, column j has the integer
coordinates (i, j), counted from 0 and not normalised.

Geometric Transform Attention (Miyato et al., "GTA", ICLR 2024, Section 3) gives token t an orthogonal matrix R_t that
stands for its place. For places on a grid R_t is block-diagonal: one 2-D rotation per pair of channels, by i or j times a
frequency (Equation 9). With queries, keys, values and output all expressed in the token's own frame,

    o_t = R_t^T sum_s softmax_s(<R_t q_t, R_s k_s>) R_s v_s,

what flows from s to t depends on where s lies as seen from t, in the values as well as in the weights. RoPE (Su et al., 2021)
is the half of this that rotates queries and keys; `vo` is the other half; `none` is neither; `abs` adds a table to the tokens
instead, `bias` and `alibi` one to the logits.
Pair p turns by i f_p0 + j f_p1: the frequencies f are all there is to a rotation. They are fixed and lie along the axes,
along more directions, or, in `rope-mixed` and `gta-mixed`, are learned and lie anywhere.

`encoding` says what an encoding may do; `tokens`, `rotations`, `directions`, `matrices` and
`biases` are the encodings; `rotating` turns channels.

To add an encoding: subclass `PositionalEncoding` or `Rotation`, override what it does, and give it a name in `POSENCS`.
docs/adding-an-encoding.md shows two, and the tests that it gets for free.
"""

from ditgta.model.positional.biases import LinearBiases, RelativeBiases
from ditgta.model.positional.directions import GeometricGolden, GeometricSpiral, RotaryGolden, RotarySpiral
from ditgta.model.positional.encoding import PositionalEncoding, Tables
from ditgta.model.positional.matrices import HeadwiseRotary, LieRotations
from ditgta.model.positional.rotating import per_channel, rotate, rotate_back, swapped
from ditgta.model.positional.rotations import (
    GeometricMixed,
    GeometricTransform,
    RotaryEncoding,
    RotaryMixed,
    Rotation,
    ValueRotation,
)
from ditgta.model.positional.tokens import (
    AbsoluteEncoding,
    ConvolutionalEncoding,
    LearnedAbsoluteEncoding,
    NoEncoding,
)
from ditgta.runtime import modules
from ditgta.runtime.errors import InputError

__all__ = [
    "POSENCS",
    "AbsoluteEncoding",
    "GeometricTransform",
    "PositionalEncoding",
    "RotaryEncoding",
    "Rotation",
    "Tables",
    "encoding_class",
    "per_channel",
    "rotate",
    "rotate_back",
    "swapped",
]

POSENCS: dict[str, type[PositionalEncoding]] = {
    "abs": AbsoluteEncoding,
    "abs-learned": LearnedAbsoluteEncoding,
    "none": NoEncoding,
    "none-conv": ConvolutionalEncoding,
    "alibi": LinearBiases,
    "bias": RelativeBiases,
    "rope": RotaryEncoding,
    "vo": ValueRotation,
    "gta": GeometricTransform,
    "rope-mixed": RotaryMixed,
    "gta-mixed": GeometricMixed,
    "rope-spiral": RotarySpiral,
    "gta-spiral": GeometricSpiral,
    "rope-golden": RotaryGolden,
    "gta-golden": GeometricGolden,
    "liere": LieRotations,
    "rope-harope": HeadwiseRotary,
}


def encoding_class(name: str) -> type[PositionalEncoding]:
    """Return the class of a name in POSENCS, or of one's own: MODULE:CLASS@SHA256, which is imported.

    Raises:
        ValueError: an unknown name; a module that is missing or not the one that the checksum says; a class that is no encoding.
    """
    if name in POSENCS:
        return POSENCS[name]
    if not modules.is_own(name):
        raise ValueError(
            f"posenc {name!r} is unknown; known: {', '.join(POSENCS)}, or your own class as MODULE:CLASS"
        )
    kind = modules.load_class(name)
    if not issubclass(kind, PositionalEncoding):
        raise InputError(
            f"{name.partition('@')[0]} is not a positional encoding; derive it from PositionalEncoding"
        )
    return kind
