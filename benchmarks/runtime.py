"""Measure what ships, and write benchmarks/runtime.md: `make bench-runtime`, about a minute.

    python -m benchmarks.runtime [MODEL…]      # other models of ours beside the bundle: folders or ONNX files

The figures of `seamline bench`, the wheel, and the models beside a published recipe's net, untrained (it takes as long
whatever its weights), under ONNX Runtime, OpenVINO and LiteRT, in turn in one process. The last two are dependencies of
this benchmark alone, in an environment of its own. The limit on time is for the fastest of our bundles that is accurate
enough.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Self

from benchmarks import measured
from seamline import Classifier, bench, bundle

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks/runtime.md"
OTHERS = ROOT / ".venv-runtimes/bin/python"
RECIPE = "three_conv_dropout"
SECONDS = 5.0  # for each measurement
THREADS = (1, 2)
ACCURACY = 0.935  # that a model must have for its speed to count
SHARE = 0.25  # of the rival's time
TWO_DECIMALS_BELOW = 10
Times = dict[str, dict[str, float]]  # model → runtime → median, microseconds


class Row(NamedTuple):
    name: str
    measured: str
    limit: str
    met: bool | None  # None: there is no limit


class Ours(NamedTuple):
    """A bundle."""

    recipe: str
    accuracy: float  # on the test set, of the model that answers on this processor

    @classmethod
    def of(cls, folder: Path) -> Self:
        manifest = json.loads((folder / bundle.MANIFEST).read_text(encoding="utf-8"))
        measures = manifest["int8" if Classifier(folder).precision == "int8" else "metrics"]
        return cls(manifest["recipe"], measures["accuracy"])


def main(models: list[Path]) -> int:
    """Measure, print and write; exit status 1 if a limit is missed."""
    own = bundle.own()
    found = bench.measure(own, SECONDS)
    with tempfile.TemporaryDirectory() as scratch:
        rival = Path(scratch) / RECIPE
        subprocess.run([sys.executable, "-m", "benchmarks.rival", RECIPE, str(rival)], cwd=ROOT, check=True)
        times = [contend(threads, rival, [own, *models]) for threads in THREADS]
    bundles = {str(path): Ours.of(path) for path in (own, *models) if path.is_dir()}
    rows = list(judged(found, bundles, times, str(own)))
    text = page(rows, times, names(bundles, str(own), models))
    RESULTS.write_text(text, encoding="utf-8")
    print(text)
    return int(any(row.met is False for row in rows))


def contend(threads: int, rival: Path, models: list[Path]) -> Times:
    """Ours and the rival, in turn in one process."""
    python = str(OTHERS) if OTHERS.is_file() else sys.executable
    numbers = [str(threads), str(SECONDS * 2), str(rival)]
    command = [python, "-m", "benchmarks.contenders", *numbers, *map(str, models)]
    done = subprocess.run(command, cwd=ROOT, env=environment(), check=True, stdout=subprocess.PIPE, text=True)
    found: Times = json.loads(done.stdout.splitlines()[-1])
    return found


def environment() -> dict[str, str]:
    return {**os.environ, "ORT_DISABLE_TELEMETRY": "1", "OPENVINO_TELEMETRY_CONSENT": "false"}


def judged(found: dict[str, Any], bundles: dict[str, Ours], times: list[Times], own: str) -> Iterator[Row]:
    """Every figure with its limit."""
    yield at_most("`classify` of one picture, one thread", found["classify"]["median_us"], "µs")
    yield at_most("of it, beyond a bare `session.run`", found["beyond_session_run_us"], "µs", 20)
    yield Row("test accuracy of the bundle's model", f"{bundles[own].accuracy:.2%}", "", met=None)
    accurate = [path for path, ours in bundles.items() if ours.accuracy >= ACCURACY]
    for threads, found_times in zip(THREADS, times, strict=True):
        shares = {path: found_times[path]["ONNX Runtime"] / min(found_times["rival"].values()) for path in accurate}
        name = f"a model of {ACCURACY:.1%}: its time as a share of {RECIPE}'s in the best runtime, {threads} thread"
        yield fastest(name + "s" * (threads > 1), shares, bundles)
    start = found["start"]
    yield at_most("`import seamline`", start["import_ms"], "ms", 150)
    yield at_most("of it, numpy", start["numpy_ms"], "ms")
    yield at_most("start of a process to its first answer", start["first_answer_ms"], "ms", 400)
    yield at_most("resident memory then", start["resident_bytes"] / 1e6, "MB", 80)
    yield at_most("a picture file of 700 × 700, read and classified", found["picture_file"]["median_us"] / 1e3, "ms")
    wheels = sorted((ROOT / "dist").glob("seamline-*.whl"), key=lambda path: path.stat().st_mtime)
    if wheels:
        yield at_most("wheel", wheels[-1].stat().st_size / 1e6, "MB", 2)


def fastest(name: str, shares: dict[str, float], bundles: dict[str, Ours]) -> Row:
    """The one that takes the least share of the rival's time."""
    if not shares:
        return Row(name, f"none of {len(bundles)} is as accurate", f"{SHARE}", met=False)
    path = min(shares, key=shares.__getitem__)
    return Row(name, "{:.2f} ({}, {:.2%})".format(shares[path], *bundles[path]), f"{SHARE}", met=shares[path] <= SHARE)


def at_most(name: str, value: float, unit: str, limit: float | None = None) -> Row:
    shown = f"{value:.2f}" if value < TWO_DECIMALS_BELOW else f"{value:.0f}"
    said = "" if limit is None else f"{limit:g} {unit}".strip()
    return Row(name, f"{shown} {unit}".strip(), said, None if limit is None else value <= limit)


def names(bundles: dict[str, Ours], own: str, models: list[Path]) -> dict[str, str]:
    """What the page calls each model."""
    others = {str(path): bundles[str(path)].recipe if str(path) in bundles else path.stem for path in models}
    return {own: f"the bundle's ({bundles[own].recipe})", "rival": RECIPE} | others


def page(rows: list[Row], times: list[Times], names: dict[str, str]) -> str:
    """The results as Markdown, with machine, date and commit."""
    heading = (
        f"{measured.by('make bench-runtime')}, "
        f"Python {sys.version.partition(' ')[0]}, load around it {os.getloadavg()[1]:.1f}. Medians; what is "
        "compared took turns.\n"
    )
    verdicts = {None: "", True: "met", False: "**missed**"}
    lines = [f"| {name} | {measured} | {limit} | {verdicts[met]} |" for name, measured, limit, met in rows]
    beside = [
        f"| {names[model]} | {runtime} | " + " | ".join(f"{found[model][runtime]:,.0f} µs" for found in times) + " |"
        for model, runtimes in times[0].items()
        for runtime in runtimes
    ]
    return "\n".join(
        [
            *("# Runtime\n", heading, "| what | measured | limit | |", "|---|---:|---:|---|", *lines, ""),
            *("One picture, side by side:\n", "| model | runtime | one thread | two threads |", "|---|---|---:|---:|"),
            *(*beside, ""),
        ]
    )


if __name__ == "__main__":
    sys.exit(main(list(map(Path, sys.argv[1:]))))
