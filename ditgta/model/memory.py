"""What a training process holds in memory, as formulas, in bytes: B images a pass, T tokens, D width, L blocks, H heads, P parameters.

What each block keeps for its backward pass follows from the functions of ditgta.model.layers, and a test holds it to a count of
what autograd keeps. f is the bytes of a product's value: 4 in float32, 2 in bf16.
"""

from dataclasses import dataclass

from ditgta.model.cost import Shape, parameters
from ditgta.model.layers import MOST_TOKENS

FORMULA = "B T D (16 + 19 f) a block and more for attention, 4 B T D where recomputed; f = 4, in bf16 2"


@dataclass(frozen=True)
class Pass:
    """How a process goes forward and backward.

    images: of one pass, B: the process's share of the batch, or the micro-batch.
    rotates_values: the encoding rotates values, and the output of attention back.
    learned: the rotations are learned.
    keeps_gradients: gradients outlive a pass: several processes average them, or several passes add them up.
    card: a graphics card computes, whose attention is always fused.
    """

    images: int
    bf16: bool = False
    checkpoint_gradients: bool = False
    rotates_values: bool = True
    learned: bool = False
    keeps_gradients: bool = False
    card: bool = False


def block_bytes(shape: Shape, step: Pass) -> float:
    """Returns what one block keeps for its backward pass.

    In float32 the residuals before both norms and their normed values: 16 T D. In the type of products the inputs of q, k, v (1),
    these as projected (3) and as they meet (3), input and result of the projection (2), the MLP's input (1), its hidden values
    before and after GELU (8), its result (1): 19 f T D. Fused attention keeps a sum for each head and token, and its result where
    that is rotated back; the other one keeps all weights. Rotations that are learned keep what they turn, in float32.
    """
    t, d, h, f = shape.tokens, shape.width, shape.heads, 2 if step.bf16 else 4
    fused = not step.bf16 or step.card or t > MOST_TOKENS
    each = t * d * (16 + 19 * f) + 16 * t + 36 * d
    each += t * h * (4 if fused else 2 * t) + (12 * t * h if shape.qk_norm else 0)
    if fused and step.rotates_values:
        each += f * t * d
    tables = 4 * t * d // h if step.rotates_values else 0
    if step.learned:
        each += t * d * (12 + 4 * step.rotates_values) * (4 // f) + 12 * t * h
        tables = t * d * (10 if step.rotates_values else 6)
    weights = 2 * 12 * d**2 if step.bf16 else 0  # rounded copies, of all but the modulation's
    return step.images * each + tables + weights


def pass_bytes(shape: Shape, step: Pass) -> float:
    """Returns the most that a forward and backward pass holds at once, gradients included.

    At the end of the forward pass that is what all blocks keep (4 B T D each where their activations are recomputed) and the work
    on the last one, about 25 B T D; at the end of the backward pass it is the gradients and what the first block keeps. In
    between, each block that is done gives back the one and leaves the other.
    """
    tokens, gradients = step.images * shape.tokens * shape.width, 4.0 * parameters(shape)
    block = block_bytes(shape, step)
    kept = 4.0 * tokens if step.checkpoint_gradients else block
    left = 0.0 if step.keeps_gradients else gradients / shape.depth
    held = block + 25 * tokens + (shape.depth - 1) * max(kept, left)
    return held + gradients if step.keeps_gradients else max(held, gradients + 4 * tokens)
