"""Where figures come from, in the same words on every page of them: command, date, commit, machine, model."""

import json
from pathlib import Path

from tasks import provenance

ROOT = provenance.ROOT


def by(command: str, checkout: Path = ROOT) -> str:
    """Such as "`make bench` on 2026-11-22, commit 0123456789, Intel(R) Xeon(R), 2 cores"."""
    return f"`{command}` on {provenance.here(checkout)}"


def model(path: Path) -> str:
    """Of a bundle's folder or a file in it the recipe, such as "`swift`"; of another file its name."""
    manifest = (path if path.is_dir() else path.parent) / "manifest.json"
    if not manifest.is_file():
        return f"`{path.name}`"
    return f"`{json.loads(manifest.read_text(encoding='utf-8'))['recipe']}`"
