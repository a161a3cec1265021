"""Random numbers as pure functions of (seed, purpose, index), so that no random state is ever saved."""

import hashlib

import numpy as np


def generator(seed: int, purpose: str, *index: int | str) -> np.random.Generator:
    """Return the generator of one random quantity: of an experiment's seed, a purpose, e.g. "order", and where it is used.

    PCG64 is seeded directly with 128 bits of SHA-256 of the arguments, which costs about 15 microseconds, so neighbouring seeds
    and indices are independent.
    """
    key = "\x1f".join([str(int(seed)), purpose, *(str(i) for i in index)])
    state = int.from_bytes(hashlib.sha256(key.encode()).digest()[:16], "little")
    return np.random.Generator(np.random.PCG64(state))
