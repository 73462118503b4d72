"""Seeds of a batch: item i has the seed + i, from 0 to 2^64 - 1 and round again."""

LARGEST_SEED = 2**64 - 1


def item_seed(seed: int, index: int) -> int:
    """The seed of item `index` of a batch, from 0 to 2^64 - 1: behind the largest comes 0."""
    return (seed + index) % (LARGEST_SEED + 1)
