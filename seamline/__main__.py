"""The command `seamline`: `seamline classify FILE…`."""

import argparse
import sys
from pathlib import Path

from seamline import Classifier, __version__, pictures

DEFAULT_MODEL = Path("exports/model.onnx")


def main(arguments: list[str] | None = None) -> int:
    """Run the command; the exit status: 0 all answered, 1 some picture or the model could not be read."""
    chosen = _parser().parse_args(arguments)
    try:
        classifier = Classifier(chosen.model)
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    return max([_answer(classifier, path, chosen.top) for path in chosen.files])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="seamline", description="Say what a picture of clothing shows.")
    parser.add_argument("--version", action="version", version=f"seamline {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    classify = commands.add_parser(
        "classify",
        help="name what each picture shows",
        description="Name what each picture shows, likeliest first.",
        epilog="example: seamline classify examples/*.png",
    )
    classify.add_argument("files", nargs="+", type=Path, metavar="FILE", help="JPEG, PNG, WebP …; plain ground")
    classify.add_argument("--model", type=Path, default=DEFAULT_MODEL, help=f"the exported file ({DEFAULT_MODEL})")
    classify.add_argument("--top", type=int, default=3, choices=range(1, 11), metavar="N", help="how many names (3)")
    return parser


def _answer(classifier: Classifier, path: Path, top: int) -> int:
    try:
        row = classifier.probabilities(pictures.read(path))[0]
    except (OSError, ValueError, ModuleNotFoundError) as error:
        print(f"{path}: {error}" if str(path) not in str(error) else error, file=sys.stderr)
        return 1
    best = sorted(zip(row.tolist(), classifier.classes, strict=True), reverse=True)[:top]
    print(f"{path}: " + ", ".join(f"{name} {share:.1%}" for share, name in best))
    return 0


if __name__ == "__main__":
    sys.exit(main())
