"""What `make compare` found, as docs/results.md with its plots: `python -m benchmarks.comparison` right after it."""

import sys

from benchmarks import measured
from tasks import comparison, experiment
from tasks.files import write_text

ROOT = measured.ROOT
FOUND, RESULTS, IMAGES = ROOT / "data/experiments/comparison", ROOT / "docs/results.md", ROOT / "docs/images"
PLOTS = {"seconds": "training, seconds", "onnx_bytes": "ONNX file, bytes"}
LEAD = """Every recipe of `recipes/`, trained in full on the same 54,000 images, one after the other; the test set was
used once per training, at the end, with the averaged or last weights. Where there are several seeds: mean ± standard
deviation in points, times as medians. Latency is one picture's in ONNX Runtime with one thread. What the teacher of
`small` and `catalogue` takes is not in their seconds."""


def main() -> int:
    """Write the page; the exit status."""
    trials = sorted(FOUND.glob("*/seed-*"))
    names = sorted({folder.parent.name for folder in trials})
    done = {name: experiment.results([folder for folder in trials if folder.parent.name == name]) for name in names}
    done = {name: results for name, results in done.items() if results}
    if not done:
        print(f"Nothing in {FOUND}. `make compare` comes first.")
        return 1
    table = comparison.table(done, ROOT / "recipes").markdown()
    for measure, label in PLOTS.items():
        drawn = str(comparison.scatter(done, measure, label)).replace(">", f"><style>{colours()}</style>", 1)
        write_text(IMAGES / f"results-{measure}.svg", drawn)
    plots = "\n".join(
        f"![Test accuracy against {label}](images/results-{measure}.svg)" for measure, label in PLOTS.items()
    )
    trained = sorted(
        {result.get("trained", "a day that was not kept") for results in done.values() for result in results}
    )
    heading = f"{measured.by('make compare')}. Trained on {'; '.join(trained)}."
    write_text(RESULTS, f"# Recipes compared\n\n{heading}\n\n{LEAD}\n\n{table}\n{plots}\n")
    print(table)
    return 0


def colours() -> str:
    """The report's, light and dark: a drawing that stands alone has no page to take them from."""
    style = (ROOT / "tasks/style.css.jinja").read_text(encoding="utf-8")
    return style[: style.index("* {")]


if __name__ == "__main__":
    sys.exit(main())
