"""The command `seamline`: classify pictures, find what is like them; prove a bundle and put a new one into service."""

import argparse
import errno
import io
import math
import os
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from seamline import __version__, bench, bundle, check, classify, indexing, reading, similar, slots
from seamline.classifier import Classifier
from seamline.indexing import INTERRUPTED

EXAMPLES = """examples:
  seamline classify examples/*.png                 what each picture shows
  seamline classify photos --format csv > out.csv  every picture of a folder
  cat shoe.jpg | seamline classify -               a picture from elsewhere
  seamline index photos                            remember every picture of a shop
  seamline similar shoe.jpg -k 5                   and which five are most like this one
  seamline verify                                  is this bundle whole, and right on this processor?
  seamline update bundle --key seamline.pub        put a signed bundle into service
  seamline rollback                                and take it back
  seamline bench --picture shoe.jpg                how fast it answers here
  seamline serve                                   answers over HTTP, on this machine
  seamline kiosk                                   a page that classifies in the browser

exit status: 0 done · 1 a picture could not be read, or the bundle must not be used · 2 the command line is wrong
             130 interrupted · 141 whoever read its output ended
"""

LAST_PORT = 65535
READER_GONE = 141  # as a shell says of a program that SIGPIPE ended
BENCH = """\
Measures what you have in service, on one thread as it serves:

  one array              a picture that is an array already: Classifier.classify, beside the bare session.run inside it
  one picture file       decoded, prepared and classified; give a typical one of yours with --picture
  64, 512 arrays a call  pictures a second where many come at once
  import, first answer   of new processes: what a command or a restart costs
  resident memory        of such a process after its answer

Medians, and what 95 % of the calls stayed within. Other programs at work make every figure larger: repeat it.
"""


def main(arguments: list[str] | None = None) -> int:
    """Run the command; the exit status."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a file's name need not be text
    chosen = _parser().parse_args(arguments)
    try:
        return _said(int(chosen.run(chosen)))
    except BrokenPipeError:  # `seamline … | head`: whoever read has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what Python writes as it ends
        return READER_GONE
    except (OSError, ValueError) as error:
        print(reading.shown(_taken(chosen, error) or str(error)), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED


def _taken(chosen: argparse.Namespace, error: Exception) -> str:
    """What to do if something else listens where the command was told to."""
    if not isinstance(error, OSError) or error.errno != errno.EADDRINUSE:
        return ""
    return f"Port {chosen.port} of {chosen.host} is taken. End what listens there, or choose another: --port N."


def _said(status: int) -> int:
    sys.stdout.flush()  # here, where a reader that is gone can still be met
    return status


def _classify(chosen: argparse.Namespace) -> int:
    return classify.run(_classifier(chosen), chosen)


def _index(chosen: argparse.Namespace) -> int:
    return indexing.run(_classifier(chosen), chosen)


def _similar(chosen: argparse.Namespace) -> int:
    return similar.run(_classifier(chosen), chosen)


def _info(chosen: argparse.Namespace) -> int:
    for name, value in _classifier(chosen).info.items():
        lines = (
            value.items() if isinstance(value, dict) else [("", ", ".join(value) if isinstance(value, list) else value)]
        )
        for key, detail in lines:
            shown = ", ".join(f"{k} {v}" for k, v in detail.items()) if isinstance(detail, dict) else detail
            print(reading.shown(f"{name + (f'.{key}' if key else ''):<26} {shown}"))
    return 0


def _verify(chosen: argparse.Namespace) -> int:
    folder = chosen.bundle or bundle.own()
    failures = 0
    for what, reasons in check.proofs(folder, _key(chosen), chosen.data):
        print(reading.shown(f"{'FAIL' if reasons else 'ok':<5}{what}" + (f": {'; '.join(reasons)}" if reasons else "")))
        failures += bool(reasons)
    return 1 if failures else 0


def _update(chosen: argparse.Namespace) -> int:
    found = slots.install(chosen.slots, chosen.bundle, _key(chosen))
    back = f" Take it back: seamline rollback --slots {chosen.slots}" if slots.read(chosen.slots).previous else ""
    print(f"Version {found.version} serves from {chosen.slots}.{back}")
    return 0


def _rollback(chosen: argparse.Namespace) -> int:
    print(f"Version {slots.rollback(chosen.slots, _key(chosen))} serves again from {chosen.slots}.")
    return 0


def _bench(chosen: argparse.Namespace) -> int:
    """Of what is in service; it is no start that an update on trial counts."""
    serving = slots.read(chosen.slots).serving
    return bench.run(chosen.model or (chosen.slots / serving if serving else bundle.own()), chosen, _key(chosen))


def _serve(chosen: argparse.Namespace) -> int:
    try:
        from seamline.service import serve
    except ModuleNotFoundError as error:
        absent = str(error.name).partition(".")[0]
        raise ValueError(f"{absent} is not installed: pip install 'seamline[server]'") from error
    return serve.run(chosen)


def _kiosk(chosen: argparse.Namespace) -> int:
    from seamline import kiosk

    return kiosk.run(chosen)


def _classifier(chosen: argparse.Namespace) -> Classifier:
    """What --model names; else what is in service on this device; else what came with the package."""
    if chosen.model is None and (chosen.slots / slots.STATE).exists():
        return slots.start(chosen.slots, _key(chosen))
    return Classifier(chosen.model, public_key=_key(chosen))


def _key(chosen: argparse.Namespace) -> bytes | None:
    return bundle.public_key(chosen.key) if chosen.key else None


def _slots_folder() -> Path:
    return Path(os.environ.get("SEAMLINE_SLOTS") or Path.home() / ".local/share/seamline")


def _positive(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"expected a number from 1 on. Received {text!r}")
    return int(text)


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > LAST_PORT:
        raise argparse.ArgumentTypeError(f"expected a port, 0 to {LAST_PORT}. Received {text!r}")
    return int(text)


def _seconds(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = -1.0
    if not 0 <= found < math.inf:
        raise argparse.ArgumentTypeError(f"expected seconds from 0 on. Received {text!r}")
    return found


def _origin(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname or text != f"{parts.scheme}://{parts.netloc}":
        raise argparse.ArgumentTypeError(
            f"expected such as https://shop.example, as browsers say it. Received {text!r}"
        )
    return text


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="seamline",
        description="Say what a picture of clothing shows, and keep the model that says it.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"seamline {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    key = argparse.ArgumentParser(add_help=False)
    key.add_argument("--key", type=Path, metavar="FILE", help="public Ed25519 key, PEM: only what it signed is used")
    place = argparse.ArgumentParser(add_help=False)
    place.add_argument(
        "--slots",
        type=Path,
        default=_slots_folder(),
        metavar="DIR",
        help="the device's two slots ($SEAMLINE_SLOTS, or ~/.local/share/seamline)",
    )
    served = argparse.ArgumentParser(add_help=False)
    served.add_argument(
        "--model",
        type=Path,
        metavar="PATH",
        help="a bundle or an ONNX file (what is in service, or came with this package)",
    )
    model = argparse.ArgumentParser(add_help=False, parents=[key, place, served])

    said = commands.add_parser("classify", parents=[model], help="name what each picture shows")
    said.add_argument("files", nargs="+", metavar="FILE", help="pictures, folders of pictures, or - for standard input")
    said.add_argument("--top", type=int, default=3, choices=range(1, 11), metavar="N", help="how many names (3)")
    said.add_argument("--format", choices=classify.FORMATS, default="table", help="table, json (a line each) or csv")
    said.set_defaults(run=_classify)

    made = commands.add_parser(
        "index",
        parents=[model],
        help="remember every picture of a folder, to find likenesses",
        description="Write what the model sees in every picture of a folder, and of the folders in it, into one file. "
        "What cannot be read is named and left out (exit status 1). Links to folders are not followed. "
        "Interrupted, or without any picture, it leaves the old file alone. Repeat it after an update of the model.",
    )
    made.add_argument("folder", metavar="FOLDER", help="with pictures")
    made.add_argument(
        "--out", type=Path, default=Path(indexing.FILE), metavar="FILE", help=f"the index ({indexing.FILE})"
    )
    made.set_defaults(run=_index)

    like = commands.add_parser("similar", parents=[model], help="what an index has that is like a picture")
    like.add_argument("files", nargs="+", metavar="PICTURE", help="pictures, folders of them, or - for standard input")
    like.add_argument("-k", type=_positive, default=10, metavar="N", help="how many, the most alike first (10)")
    like.add_argument(
        "--index",
        type=Path,
        default=Path(indexing.FILE),
        metavar="FILE",
        help=f"that `seamline index` wrote ({indexing.FILE})",
    )
    like.add_argument("--format", choices=classify.FORMATS, default="table", help="table, json (a line each) or csv")
    like.set_defaults(run=_similar)

    info = commands.add_parser("info", parents=[model], help="what the model says of itself")
    info.set_defaults(run=_info)

    verify = commands.add_parser(
        "verify", parents=[key], help="prove a bundle: digests, signature, golden vectors, accuracy"
    )
    verify.add_argument(
        "bundle", nargs="?", type=Path, metavar="BUNDLE", help="its folder (the one that came with this package)"
    )
    verify.add_argument(
        "--data", type=Path, metavar="DIR", help="test-images.npy and test-labels.npy: accuracy on this processor, too"
    )
    verify.set_defaults(run=_verify)

    update = commands.add_parser("update", parents=[key, place], help="prove a bundle and put it into service")
    update.add_argument("bundle", type=Path, metavar="BUNDLE", help="its folder")
    update.set_defaults(run=_update)

    back = commands.add_parser(
        "rollback", parents=[key, place], help="put the bundle before the last update into service"
    )
    back.set_defaults(run=_rollback)
    speed = commands.add_parser(
        "bench",
        parents=[model],
        help="how fast it answers on this processor, how soon after a start, in how much memory",
        description=BENCH,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    speed.add_argument(
        "--picture", type=Path, metavar="FILE", help="read and classify this one (one that is made for it)"
    )
    speed.add_argument("--seconds", type=float, default=2.0, metavar="S", help="for each measurement (2)")
    speed.add_argument("--format", choices=bench.FORMATS, default="table", help="table or json")
    speed.set_defaults(run=_bench)
    _add_serve(commands, [key, place, served])
    _add_kiosk(commands, [key, place])
    return parser


def _add_serve(commands: Any, parents: list[argparse.ArgumentParser]) -> None:
    web = commands.add_parser(
        "serve",
        parents=parents,
        help="answer over HTTP",
        description="Answer over HTTP until SIGTERM. A new bundle is taken without a break, within two seconds or at "
        "once with SIGHUP. If SEAMLINE_TOKEN is set, requests must bring it. What it answers: its page /docs.",
    )
    web.add_argument("--host", default="127.0.0.1", metavar="ADDRESS", help="to listen on (127.0.0.1: this machine)")
    web.add_argument("--port", type=_port, default=8000, metavar="N", help="(8000); 0: a free one")
    web.add_argument("--index", type=Path, metavar="FILE", help="that `seamline index` wrote: answers /v1/similar")
    web.add_argument(
        "--corrections", type=Path, metavar="FOLDER", help="keep pictures that were put right (none are kept)"
    )
    web.add_argument(
        "--origin", type=_origin, action="append", default=[], metavar="URL", help="of a page that may ask; repeatable"
    )
    web.add_argument("--workers", type=_positive, default=_processors(), metavar="N", help="processes that answer")
    web.add_argument("--queue", type=_positive, default=64, metavar="N", help="requests that may wait (64)")
    web.add_argument(
        "--drain", type=_seconds, default=0.0, metavar="S", help="listen on as long after SIGTERM, no longer ready (0)"
    )
    web.set_defaults(run=_serve)


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _add_kiosk(commands: Any, parents: list[argparse.ArgumentParser]) -> None:
    page = commands.add_parser("kiosk", parents=parents, help="the page that classifies in the browser")
    page.add_argument("--bundle", type=Path, metavar="DIR", help="its folder (what is in service, or came along)")
    page.add_argument(
        "--page", type=Path, metavar="DIR", help="the page's folder (kiosk/ of a clone, after `make kiosk`)"
    )
    page.add_argument("--index", type=Path, metavar="FILE", help="of the float model: show what is like it, in stock")
    page.add_argument("--stock", type=Path, metavar="DIR", help="the folder that was indexed: with its pictures")
    page.add_argument("--service", metavar="URL", help="of `seamline serve`: where corrections go")
    page.add_argument(
        "--host", default="127.0.0.1", metavar="HOST", help="to listen on (127.0.0.1: this machine alone)"
    )
    page.add_argument("--port", type=_port, default=8080, metavar="N", help="likewise; 0: any that is free (8080)")
    page.add_argument("--out", type=Path, metavar="DIR", help="write the page there for another web server, and end")
    page.set_defaults(run=_kiosk)


if __name__ == "__main__":
    sys.exit(main())
