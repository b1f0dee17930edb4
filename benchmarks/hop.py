"""Where the milliseconds of a request go, apart from HTTP: `python -m benchmarks.hop`.

One product shot, asked in three ways, with a pause before each as under light load: what the rival of thirty
lines does in its route, the same in our worker's code, and that code in a worker of its own, through its pipes.
"""

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable
from http import HTTPStatus

import numpy as np
import onnxruntime

from benchmarks import measured, service
from seamline import pictures
from seamline.classifier import Classifier
from seamline.service import answers
from seamline.service.frames import Frame
from seamline.service.pool import Command, Worker

ROUNDS = 500
PAUSE_S = 0.02


async def main() -> None:
    """Measure and print."""
    model = service.model_of_clone()
    content = service.shot(0)
    session = onnxruntime.InferenceSession(model)
    serving = answers.opened(Classifier(model), 0, "")
    question = Frame({"route": "classify", "content_type": "image/jpeg"}, content)
    worker = await Worker.start(Command(str(model), "", ""))

    async def rival() -> None:
        views = pictures.from_picture(content)
        session.run(["probabilities"], {"image": views})[0].mean(axis=0)

    async def ours() -> None:
        answers.classify(serving, content)

    async def through_pipes() -> None:
        assert (await worker.ask(question)).head["status"] == HTTPStatus.OK  # noqa: S101

    times = await _medians([rival, ours, through_pipes])
    await worker.stop()
    print(measured.by("python -m benchmarks.hop"))
    for name, milliseconds in zip(("the rival's route", "ours", "ours, in a worker"), times, strict=True):
        print(f"{name:18} {milliseconds:.2f} ms")


async def _medians(ways: list[Callable[[], Awaitable[None]]]) -> list[float]:
    """Milliseconds, each round in another order: who comes after whom matters to the processor's caches."""
    times: list[list[float]] = [[] for _ in ways]
    generator = np.random.default_rng(0)
    for _ in range(ROUNDS):
        for which in generator.permutation(len(ways)):
            await asyncio.sleep(PAUSE_S)
            start = time.perf_counter()
            await ways[which]()
            times[which].append(1000 * (time.perf_counter() - start))
    return [statistics.median(found) for found in times]


if __name__ == "__main__":
    asyncio.run(main())
