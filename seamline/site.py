"""What the page in the browser is made of: its files, the bundle, an index; as addresses, or written as a folder."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import SplitResult

from seamline import bundle, slots

LISTED, INDEX, STOCK, BUNDLE = "files.json", "index.safetensors", "stock/", "bundle/"
NEEDED = ("index.html", "sw.js", "vendor/ort.wasm.bundle.min.mjs", "vendor/ort-wasm-simd-threaded.wasm")
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".json": "application/json",
    ".webmanifest": "application/manifest+json",
    ".md": "text/plain; charset=utf-8",
    ".svg": "image/svg+xml",
    ".wasm": "application/wasm",
    ".onnx": "application/octet-stream",
    ".safetensors": "application/octet-stream",
}
PICTURES = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".webp": "image/webp",
    ".gif": "image/gif",
}


class Site(NamedTuple):
    """What is served."""

    page: Path  # the folder kiosk/, with vendor and samples
    bundle: Path | None  # a folder; None: what is in service in `slots`
    slots: Path
    likenesses: Path | None = None  # that `seamline index` wrote
    stock: Path | None = None  # the folder that was indexed
    service: SplitResult | None = None  # where corrections go

    def bundle_folder(self) -> Path:
        """Looked up at each request, so that an update is served without a restart."""
        if self.bundle is not None:
            return self.bundle
        serving = slots.read(self.slots).serving if (self.slots / slots.STATE).exists() else None
        return self.slots / serving if serving else bundle.own()

    def file(self, path: str) -> Path | None:
        """The file at an address, None if there is none: plain files below the folders, no links, nothing hidden."""
        if path.startswith(BUNDLE):
            return _below(self.bundle_folder(), path.removeprefix(BUNDLE), TYPES)
        if path == INDEX:
            return self.likenesses
        if path.startswith(STOCK):
            return _below(self.stock, path.removeprefix(STOCK), PICTURES) if self.stock else None
        return _below(self.page, path or "index.html", TYPES | PICTURES)


def _below(folder: Path, path: str, types: dict[str, str]) -> Path | None:
    parts = path.split("/")
    if any(not part or part.startswith(".") or "\0" in part or "\\" in part for part in parts):
        return None
    file = folder.joinpath(*parts)
    inside = file.suffix.lower() in types and file.is_file() and file.resolve().is_relative_to(folder.resolve())
    return file if inside else None


def listed(page: Path) -> dict[str, Any]:
    """The service worker's list: every file of the page with its SHA-256, and a version that changes with any."""
    files = {name: _digest(page / name) for name in sorted(_names(page))}
    return {"version": hashlib.sha256(json.dumps(files).encode()).hexdigest()[:16], "files": files}


def _names(page: Path) -> Iterator[str]:
    for path in page.rglob("*"):
        name = path.relative_to(page).as_posix()
        apart = name in {LISTED, INDEX, "package.json", "package-lock.json"} or name.startswith((BUNDLE, STOCK))
        if not apart and "node_modules" not in path.parts and _below(page, name, TYPES | PICTURES):
            yield name


_digests: dict[tuple[str, int, int], str] = {}


def _digest(file: Path) -> str:
    facts = file.stat()
    key = (str(file), facts.st_mtime_ns, facts.st_size)
    if key not in _digests:
        with file.open("rb") as content:
            _digests[key] = hashlib.file_digest(content, "sha256").hexdigest()
    return _digests[key]


def write(site: Site, folder: Path) -> None:
    """The page as files for a web server: what `Server` would have answered.

    Raises:
        FileExistsError: the folder is there already: nobody's files are mixed with it.
    """
    if folder.exists():
        raise FileExistsError(f"{folder} is there already. Name a new folder, or remove it first.")
    for name in _names(site.page):
        _copied(site.page / name, folder / name)
    for path in site.bundle_folder().iterdir():
        _copied(path, folder / BUNDLE / path.name)
    if site.likenesses:
        _copied(site.likenesses, folder / INDEX)
    if site.stock:
        for path in site.stock.rglob("*"):
            if _below(site.stock, path.relative_to(site.stock).as_posix(), PICTURES):
                _copied(path, folder / STOCK / path.relative_to(site.stock))
    (folder / LISTED).write_text(json.dumps(listed(folder), indent=2), encoding="utf-8")


def _copied(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
