"""Random numbers depend on seed, purpose and index, and on nothing else."""

import numpy as np

from ditgta.runtime.streams import generator


def test_the_numbers_never_change():
    assert generator(0, "noise", 7).standard_normal(3).round(6).tolist() == [0.85782, 0.169876, -0.311147]
    assert (
        generator(5, "order", 2).permutation(6).tolist() == generator(5, "order", 2).permutation(6).tolist()
    )


def test_every_argument_counts():
    draws = {
        tuple(generator(*key).integers(0, 2**62, 2))
        for key in [
            (0, "noise", 1),
            (1, "noise", 1),
            (0, "drop", 1),
            (0, "noise", 2),
            (0, "noise", 1, 1),
            (0, "noise", 11),
            (0, "noise1"),
        ]
    }
    assert len(draws) == 7


def test_neighbouring_streams_are_uncorrelated():
    draws = np.stack([generator(0, "noise", step).standard_normal(2000) for step in range(40)])
    correlations = np.corrcoef(draws)[np.triu_indices(40, 1)]
    assert np.abs(correlations).max() < 5 / np.sqrt(2000)
    assert abs(draws.mean()) < 4 / np.sqrt(draws.size) and abs(draws.std() - 1) < 0.02
