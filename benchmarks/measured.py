"""Where figures come from, in the same words on every page of them: command, date, commit, machine."""

from pathlib import Path

from tasks import provenance

ROOT = provenance.ROOT


def by(command: str, checkout: Path = ROOT) -> str:
    """Such as "`make bench` on 2026-11-22, commit 0123456789, Intel(R) Xeon(R), 2 cores"."""
    return f"`{command}` on {provenance.here(checkout)}"
