"""Two models on the same images: is one worse than the other, and is there enough to tell? Pure functions of counts.

Only images on which exactly one of them is right say anything about the difference; a test of two accuracies that
forgets that the images are the same needs several times as many.
"""

from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tasks.metrics import Interval


class Pairs(NamedTuple):
    """How often one model is right and the other one is not."""

    won: int  # images that the challenger alone has right
    lost: int  # images that the champion alone has right
    images: int  # all of them, ≥ 1

    @property
    def difference(self) -> float:
        """Accuracy of the challenger less that of the champion, −1 … 1."""
        return (self.won - self.lost) / self.images


def pairs(challenger: NDArray[np.bool_], champion: NDArray[np.bool_]) -> Pairs:
    """Count, of the same images.

    Args:
        challenger: (n,) bool, n ≥ 1: whether it is right.
        champion: likewise.

    Raises:
        ValueError: they are not as many, or none.
    """
    if challenger.shape != champion.shape or challenger.ndim != 1 or not len(challenger):
        raise ValueError(f"Expected as many answers of both, ≥ 1. Received {challenger.shape} and {champion.shape}.")
    return Pairs(int((challenger & ~champion).sum()), int((champion & ~challenger).sum()), len(challenger))


def mcnemar(counted: Pairs) -> float:
    """The two-sided exact McNemar test: how likely so uneven a split is of two models that are equally good.

    The binomial distribution of the discordant pairs with one half. McNemar 1947, https://doi.org/10.1007/BF02295996;
    exact: https://en.wikipedia.org/wiki/McNemar%27s_test#Variations

    Returns:
        p, 0 … 1; 1 where there is no discordant pair.

    >>> mcnemar(Pairs(won=1, lost=9, images=100))
    0.021484375
    """
    trials, term, tail = counted.won + counted.lost, 1, 0
    for successes in range(min(counted.won, counted.lost) + 1):
        tail += term
        term = term * (trials - successes) // (successes + 1)
    return min(1.0, float(2 * tail / 2**trials))  # whole numbers until here: nothing is rounded away


def interval(counted: Pairs, confidence: float) -> Interval:
    """Within which the difference of the two accuracies lies: Agresti's and Min's, for matched pairs.

    Wald's after half an image has been added to each of the four cells, so that it holds for few images, too.
    Agresti and Min 2005, https://doi.org/10.1002/sim.1781

    Args:
        counted: the pairs.
        confidence: 0 … 1, such as 0.95.

    Returns:
        Bounds of challenger less champion, −1 … 1.

    >>> interval(Pairs(won=30, lost=50, images=1000), 0.95)
    Interval(low=-0.0375..., high=-0.0023...)
    """
    size, gap = counted.images + 2, counted.won - counted.lost
    centre = gap / size
    deviation = max(0.0, counted.won + counted.lost + 1 - gap * gap / size) ** 0.5 / size
    reach = quantile(confidence) * deviation
    return Interval(max(-1.0, centre - reach), min(1.0, centre + reach))


def enough(counted: Pairs, margin: float, confidence: float) -> int:
    """How many images would show two equally good models, that differ as often as these, to lie within the margin.

    https://en.wikipedia.org/wiki/Sample_size_determination, of a difference whose variance is the share of discordant
    pairs (with half an image added to each cell, as in `interval`).
    """
    discordant = (counted.won + counted.lost + 1) / (counted.images + 2)
    return int(np.ceil(discordant * (quantile(confidence) / margin) ** 2))


def quantile(confidence: float) -> float:
    """Of the standard normal distribution, two-sided: 1.96 of 0.95."""
    return NormalDist().inv_cdf((1 + confidence) / 2)
