"""When a training reaches a share of the validation images, and how fast it is. No TensorFlow, no PyTorch."""

import json
import statistics
import time

LEAST_EPOCHS = 3  # so that the median epoch is one without compilation


class Clock:
    """Started when training is about to begin."""

    def __init__(self, goal: float, images: int) -> None:
        """`goal`: share of the validation images; `images`: trained on in an epoch."""
        self._goal, self._images, self._start = goal, images, time.perf_counter()
        self._ends = [self._start]
        self._reached: float | None = None
        self._accuracy = 0.0

    def epoch(self, accuracy: float) -> bool:
        """An epoch has ended, with this validation accuracy; is that enough?"""
        self._ends.append(time.perf_counter())
        self._accuracy = accuracy
        if accuracy >= self._goal and self._reached is None:
            self._reached = self._ends[-1] - self._start
        return self._reached is not None and len(self._ends) > LEAST_EPOCHS

    def line(self) -> str:
        """What came out, as JSON."""
        lengths = [after - before for before, after in zip(self._ends, self._ends[1:], strict=False)]
        return json.dumps(
            {
                "images_per_second": self._images / statistics.median(lengths),
                "seconds": self._reached,
                "epochs": len(lengths),
                "accuracy": self._accuracy,
            }
        )
