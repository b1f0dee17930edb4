"""Pictures and labels as arrays, and the names of the classes."""

from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Images: TypeAlias = NDArray[np.uint8]  # (n, 28, 28), 0 black … 255 white
Labels: TypeAlias = NDArray[np.uint8]  # (n,), 0 … 9
Probabilities: TypeAlias = NDArray[np.float32]  # (n, 10), each row sums to 1

SIDE = 28  # pixels

# In the order of the labels 0 … 9; from the data set's own README.
CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)


class Split(NamedTuple):
    """Pictures with what they show."""

    images: Images
    labels: Labels
