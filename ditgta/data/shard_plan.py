"""Which images lie in which shard. Stands alone, so that `status` need not wait for numpy and torch."""

import itertools

_IMAGES_PER_SHARD = 256
_MOST_SHARDS = 256


def plan_shards(count: int, most: int | None = _MOST_SHARDS) -> list[range]:
    """Return the image indices of every shard: one per 256 images, at least 1 and at most `most` (None: any); sizes differ by at most one."""
    shards = max(-(-count // _IMAGES_PER_SHARD), 1)
    shards = shards if most is None else min(shards, most)
    edges = [count * i // shards for i in range(shards + 1)]
    return [range(start, end) for start, end in itertools.pairwise(edges)]
