"""`seamline bench`: how fast the model answers on this very processor, how soon after a start, and in how much memory.

What is compared is called in turn, so that a busy machine slows all of it alike; medians are shown. Starts are measured
in processes of their own, which tell the time by the machine's one clock.
"""

import json
import os
import platform
import statistics
import struct
import subprocess
import sys
import time
import zlib
from argparse import Namespace
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seamline.classifier import Classifier

FORMATS = ("table", "json")
BATCHES = (64, 512)  # pictures in a call
STARTS = 5
SCALE = 25  # the made picture: 28 × 28 dots of this many pixels each
START = """
import time; begun = time.monotonic()
import numpy; half = time.monotonic()
import sys, seamline; imported = time.monotonic()
classifier = seamline.Classifier(sys.argv[1]); classifier.classify(numpy.zeros((28, 28), numpy.uint8))
answered = time.monotonic()
try:
    memory = [line.split()[1] for line in open("/proc/self/status") if line.startswith("VmRSS:")][0]
except OSError:
    memory = 0
print(begun, half, imported, answered, memory)
"""


class Latency(NamedTuple):
    """Of one call, in microseconds."""

    median_us: float
    p95_us: float


class Start(NamedTuple):
    """Of a process that answers once: medians of some."""

    import_ms: float  # `import seamline`, numpy included
    numpy_ms: float  # of it, numpy
    first_answer_ms: float  # from before the process exists
    resident_bytes: int  # after the answer; 0 where there is no /proc


def run(model: Path, chosen: Namespace, public_key: bytes | None = None) -> int:
    """Measure and print; 0."""
    found = measure(model, chosen.seconds, chosen.picture, public_key)
    print(json.dumps(found, indent=2) if chosen.format == "json" else table(found))
    return 0


def measure(
    model: Path, seconds: float, picture: Path | None = None, public_key: bytes | None = None
) -> dict[str, Any]:
    """Everything that `seamline bench` shows.

    Args:
        model: a bundle's folder or an ONNX file.
        seconds: for each of the four measurements but the starts.
        picture: a file to read and classify; None: a PNG of 700 × 700 dots that is made for it.
        public_key: as for `Classifier`.

    Raises:
        ValueError: the model must not be used, the picture cannot be read, or the seconds are none.
    """
    if not 0 < seconds < float("inf"):
        raise ValueError(f"Expected more than 0 seconds. Received {seconds}.")
    classifier = Classifier(model, public_key=public_key)
    found: dict[str, Any] = {
        "model": str(model),
        "version": classifier.info.get("version", "none"),
        "precision": classifier.precision,
        "machine": machine(),
        **{name: latency._asdict() for name, latency in one_array(classifier, seconds).items()},
    }
    found["beyond_session_run_us"] = round(found["classify"]["median_us"] - found["session_run"]["median_us"], 1)
    if find_spec("PIL"):
        found["picture_file"] = from_file(classifier, seconds, picture)._asdict()
    found["images_per_second"] = {str(count): throughput(classifier, count, seconds) for count in BATCHES}
    return found | {"start": start(model)._asdict()}


def one_array(classifier: Classifier, seconds: float) -> dict[str, Latency]:
    """One picture that is an array already: `classify`, and the bare `session.run` inside it."""
    image = np.zeros((1, 28, 28), np.uint8)
    session = classifier._session  # noqa: SLF001  # the very same, so that both find the same caches
    return in_turn(
        {
            "classify": lambda: classifier.classify(image),
            "session_run": lambda: session.run(["probabilities"], {"image": image}),
        },
        seconds,
    )


def from_file(classifier: Classifier, seconds: float, picture: Path | None) -> Latency:
    """One picture file: decoded, prepared and classified. Needs Pillow."""
    from seamline import pictures

    made = png(_garment())
    return in_turn({"": lambda: classifier.classify_views(pictures.from_picture(picture or made))}, seconds)[""]


def throughput(classifier: Classifier, count: int, seconds: float) -> int:
    """Pictures a second where `count` come in one call."""
    images = np.zeros((count, 28, 28), np.uint8)
    latency = in_turn({"": lambda: classifier.classify(images)}, seconds)[""]
    return round(count / latency.median_us * 1e6)


def in_turn(calls: dict[str, Callable[[], object]], seconds: float, in_a_row: int = 1) -> dict[str, Latency]:
    """The latency of each call; they take turns until the time is over, five times at least.

    Args:
        calls: by name.
        seconds: for all of them together.
        in_a_row: how often each is called in a turn; many find their caches warm, as in a loop of their own.
    """
    times: dict[str, list[int]] = {name: [] for name in calls}
    until = time.monotonic() + seconds
    for call in calls.values():
        call()  # the first one is slower: memory is laid out
    while time.monotonic() < until or len(next(iter(times.values()))) < STARTS:
        for name, call in calls.items():
            for _ in range(in_a_row):
                begun = time.perf_counter_ns()
                call()
                times[name].append(time.perf_counter_ns() - begun)
    return {
        name: Latency(*(round(float(value) / 1e3, 1) for value in np.percentile(taken, (50, 95))))
        for name, taken in times.items()
    }


def start(model: Path) -> Start:
    """A new process: what importing takes, when it has answered, and the memory that it holds then."""
    package = Path(__file__).resolve().parent.parent
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, [str(package), os.environ.get("PYTHONPATH")]))
    }
    rows = []
    for _ in range(STARTS):
        before = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-P", "-c", START, str(model)], env=environment, check=True, capture_output=True, text=True
        )
        begun, half, imported, answered, memory = map(float, done.stdout.split())
        rows.append((1e3 * (imported - begun), 1e3 * (half - begun), 1e3 * (answered - before), memory * 1024))
    importing, numpy, answer, resident = (statistics.median(column) for column in zip(*rows, strict=True))
    return Start(round(importing, 1), round(numpy, 1), round(answer, 1), round(resident))


def machine() -> str:
    """Processor, cores, and the versions that count."""
    cpuinfo = Path("/proc/cpuinfo")
    names = [line.partition(":")[2].strip() for line in _lines(cpuinfo) if line.startswith("model name")]
    import onnxruntime as ort

    return (
        f"{names[0] if names else platform.machine()}, {os.cpu_count()} cores · Python {platform.python_version()} · "
        f"numpy {np.__version__} · onnxruntime {ort.__version__}"
    )


def table(found: dict[str, Any]) -> str:
    """What was measured, for people."""
    rows = [
        ("one array, classify", _latency(found["classify"])),
        ("  of it, the bare session.run", _latency(found["session_run"])),
        ("  beyond it", f"{found['beyond_session_run_us']:>9,.0f} µs"),
        (
            "one picture file, read and classified",
            _latency(found["picture_file"]) if "picture_file" in found else "        – (Pillow is not installed)",
        ),
        *(
            (f"{count} arrays a call", f"{rate:>9,} pictures a second")
            for count, rate in found["images_per_second"].items()
        ),
        (
            "import seamline",
            f"{found['start']['import_ms']:>9,.0f} ms   (numpy {found['start']['numpy_ms']:,.0f} of it)",
        ),
        ("start of a process to its first answer", f"{found['start']['first_answer_ms']:>9,.0f} ms"),
        ("resident memory then", f"{found['start']['resident_bytes'] / 1e6:>9,.0f} MB"),
    ]
    heading = f"{found['model']}, version {found['version']}, {found['precision']}, one thread\n{found['machine']}\n"
    return "\n".join([heading, *(f"{name:<39} {value}" for name, value in rows)])


def png(grey: NDArray[np.uint8]) -> bytes:
    """Grey levels (height, width) as a PNG file: https://www.w3.org/TR/png-3/."""
    height, width = grey.shape
    lines = np.pad(grey, ((0, 0), (1, 0))).tobytes()  # a zero before each line: no filter
    header = struct.pack(">2I5B", width, height, 8, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(lines)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def _garment() -> NDArray[np.uint8]:
    """Something dark with soft edges on white, of a size that a shop's pictures have."""
    rows, columns = np.ogrid[: 28 * SCALE, : 28 * SCALE]
    middle = 14 * SCALE
    distance = np.hypot((rows - middle) / (11 * SCALE), (columns - middle) / (7 * SCALE))
    return np.asarray(np.clip(255 * distance**4, 40, 255), np.uint8)


def _latency(found: dict[str, float]) -> str:
    return f"{found['median_us']:>9,.0f} µs   (95 % within {found['p95_us']:,.0f} µs)"


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
