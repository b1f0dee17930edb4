"""What is live, what was, and changing it by hand.

    python -m flows.release list
    python -m flows.release show 3
    python -m flows.release promote 3 --why "names boots better"
    python -m flows.release rollback --why "calls every bag a coat"

Runs release by themselves what the challenge lets through (tasks/release.py); this is for people. What a person has
replaced by an older release is not released by a run again, until a person promotes it.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markdown import Markdown
from rich.markup import escape
from rich.table import Table

from flows import stages
from tasks import release, releases
from tasks.challenge import RECORD
from tasks.errors import PipelineError, ReleaseError, worded
from tasks.files import read_json
from tasks.releases import Standing

RELEASES = Path("exports/releases")
EXAMPLES = """examples:
  python -m flows.release list                             # every release that is kept, the newest first
  python -m flows.release show                             # the live one: figures, verdict, digests' state
  python -m flows.release rollback --why "calls bags coats" # the one before serves again, and stays
  python -m flows.release promote 7                        # any that is kept; it is proved first

A service that reads exports/releases/live/bundle has either the old model or the new one at every moment."""


def main(arguments: list[str]) -> int:
    """Do what is asked; the exit status."""
    chosen, console = _parser().parse_args(arguments), Console()
    try:
        chosen.run(chosen, stages.ROOT / RELEASES, console)
    except PipelineError as error:
        console.print(str(error), highlight=False, soft_wrap=True, markup=False)
    except OSError as error:
        console.print(worded(error), highlight=False, soft_wrap=True, markup=False)
    else:
        return 0
    return 1


def _list(_: argparse.Namespace, folder: Path, console: Console) -> None:
    found = releases.versions(folder)
    if not found:
        raise ReleaseError(
            f"{RELEASES} has no release yet. A run makes the first one, or: python -m tasks release --help"
        )
    table = Table()
    for column in ("version", "", "released (UTC)", "accuracy", "worst class", "bundle", "why"):
        right = column in {"version", "accuracy", "bundle"}
        table.add_column(column, justify="right" if right else "left", no_wrap=column not in {"why", ""})
    now, gone = releases.standing(folder), releases.withdrawn(folder)
    for version in reversed(found):
        table.add_row(*(escape(cell) for cell in _row(folder / str(version), version, now, gone)))
    console.print(table)


def _row(path: Path, version: int, now: Standing, gone: dict[int, dict[str, Any]]) -> list[str]:
    state = "live" if version == now.live else "previous" if version == now.previous else ""
    state += f" taken back{': ' if gone[version]['why'] else ''}{gone[version]['why']}" if version in gone else ""
    about, measured = read_json(path / releases.ABOUT), read_json(path / RECORD)["challenger"]
    size = sum(file.stat().st_size for file in (path / "bundle").iterdir())
    worst = f"{measured['worst_class']} {measured['worst_recall']:.1%}"
    when = about["when"].replace("T", " ")[:16]  # to the minute
    return [
        str(version),
        state.strip(),
        when,
        f"{measured['accuracy']:.2%}",
        worst,
        f"{size / 1e3:,.0f} kB",
        about["why"],
    ]


def _show(chosen: argparse.Namespace, folder: Path, console: Console) -> None:
    now = releases.standing(folder)
    version = chosen.version or now.live
    if version not in releases.versions(folder):
        kept = ", ".join(map(str, releases.versions(folder))) or "none"
        raise ReleaseError(f"There is no release {version or 'that is live'}. Kept: {kept}.")
    path = folder / str(version)
    about = read_json(path / releases.ABOUT)
    table = Table.grid(padding=(0, 2))
    for name, value in _facts(path, version, about, now):
        table.add_row(name, escape(value))
    console.print(table)
    console.print(Markdown((path / "challenge.md").read_text(encoding="utf-8")))


def _facts(path: Path, version: int, about: dict[str, Any], now: Standing) -> list[tuple[str, str]]:
    head = about["head"] or {"commit": "no git", "changed": False}
    broken = "; ".join(releases.damage(path))
    events = [event for event in releases.history(path.parent) if version in {event["version"], event["before"]}]
    return [
        ("version", f"{version}{' (live)' * (version == now.live)}{' (previous)' * (version == now.previous)}"),
        ("folder", str(path.relative_to(stages.ROOT))),
        ("released", f"{about['when']}: {about['why']}"),
        ("git", head["commit"] + (", with changes" if head["changed"] else "")),
        ("kept as", about["commit"] or "no git"),
        ("files", broken or f"{len(about['files'])}, all as they were released"),
        *(
            (event["what"], f"{event['when']}: {event['before'] or 'none'} → {event['version']} {event['why']}")
            for event in events
            if event["what"] != releases.RELEASED
        ),
    ]


def _promote(chosen: argparse.Namespace, folder: Path, console: Console) -> None:
    _change(folder, console, lambda: release.promote(folder, chosen.version, chosen.why))


def _rollback(chosen: argparse.Namespace, folder: Path, console: Console) -> None:
    _change(folder, console, lambda: release.rollback(folder, chosen.why))


def _change(folder: Path, console: Console, work: Callable[[], Standing]) -> None:
    console.print(*changed(folder, work), sep="\n", highlight=False, soft_wrap=True)


def changed(folder: Path, work: Callable[[], Standing]) -> list[str]:
    """Do what changes the live release; what is live now, and what has to be told besides.

    Raises:
        PipelineError: it was refused, and nothing is changed.
    """
    with releases.alone(folder):  # not the writer's lock: a bad model need not serve until a training has ended
        now = work()
        notes = release.announce(stages.ROOT, folder)
    back = f" Take it back: python -m flows.release promote {now.previous}" if now.previous else ""
    return [f"Version {now.live} is live.{back}", *notes]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m flows.release",
        description="Say which release is live and which are kept; put another one live, or the one before back.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    listed = commands.add_parser("list", help="every release that is kept, the newest first")
    listed.set_defaults(run=_list)
    shown = commands.add_parser("show", help="one release: figures, verdict, whether its files are whole")
    shown.add_argument("version", nargs="?", type=_version, metavar="V", help="its number (the live one)")
    shown.set_defaults(run=_show)
    reason = argparse.ArgumentParser(add_help=False)
    reason.add_argument("--why", default="", metavar="TEXT", help="kept in the history and in git's tag")
    promoted = commands.add_parser("promote", parents=[reason], help="prove a release that is kept and put it live")
    promoted.add_argument("version", type=_version, metavar="V", help="its number")
    promoted.set_defaults(run=_promote)
    back = commands.add_parser("rollback", parents=[reason], help="put the release before back; it is proved first")
    back.set_defaults(run=_rollback)
    return parser


def _version(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"expected a version from 1 on. Received {text!r}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
