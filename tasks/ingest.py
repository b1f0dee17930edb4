"""Fetch the four IDX files of Fashion-MNIST and check their SHA-256.

The digests are of the uncompressed content: Debian's gzip containers differ from Zalando's, and mirrors have served
plain MNIST in place of it (https://github.com/zalandoresearch/fashion-mnist/issues/107). Sources are asked in order;
one that gives a wrong or broken file is left for the next. A file already there and right is kept.
"""

import gzip
import io
import logging
import shutil
import subprocess
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import requests
from requests.adapters import HTTPAdapter
from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from urllib3.util.retry import Retry

from tasks.errors import DataError
from tasks.files import digest, write_bytes, write_text
from tasks.params import Ingest
from tasks.progress import progress_bar

logger = logging.getLogger(__name__)

# SHA-256 of the uncompressed files.
DIGESTS = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")  # of the package dataset-fashion-mnist
DEBIAN_PACKAGE = "dataset-fashion-mnist"
ZALANDO = "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion"
KERAS = "https://storage.googleapis.com/tensorflow/tf-keras-datasets"
LARGEST_BYTES = 64 * 2**20  # train-images is 47 MB; nothing that arrives may be larger, packed or unpacked
APT_TIMEOUT_S = 120
RETRIED = (429, 500, 502, 503, 504)  # HTTP statuses that may pass; a server that asks for an hour is left

Fetch = Callable[[str], bytes]  # name of an IDX file → its uncompressed content


class SourceError(Exception):
    """A source does not have a file, or not the right one; the next source is asked."""


def run(params: Ingest, raw: Path, summary: Path) -> None:
    """Bring the four files to `raw`, from the first source that has them right."""
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # its retries say nothing that the answers do not
    answers: list[str] = []
    with tempfile.TemporaryDirectory() as scratch:
        origin = {name: "already there" for name in DIGESTS if _is_right(raw / name)}
        for source, fetch in _sources(params, Path(scratch)):
            missing = [name for name in DIGESTS if name not in origin]
            if not missing:
                break
            try:
                for name in missing:
                    write_bytes(raw / name, _checked(name, fetch))
                    origin[name] = source
            except SourceError as error:
                answers.append(f"{source}: {error}")
            logger.info("ingest: %s", answers[-1] if missing[-1] not in origin else f"{source}: all right")
    if len(origin) < len(DIGESTS):
        raise DataError(_how_to_go_on(answers, raw))
    write_text(summary, _table(raw, origin))


def _checked(name: str, fetch: Fetch) -> bytes:
    """The content of a file, with the right digest, or the reason why this source does not have it."""
    try:
        content = fetch(name)
    except (OSError, ValueError, EOFError, zlib.error, subprocess.SubprocessError) as error:
        raise SourceError(f"{name}: {_short(error)}") from error
    if digest(content) != DIGESTS[name]:
        raise SourceError(f"{name}: this is not Fashion-MNIST's (SHA-256 {digest(content)[:12]}…)")
    return content


def _is_right(path: Path) -> bool:
    return path.is_file() and digest(path.read_bytes()) == DIGESTS[path.name]


def _sources(params: Ingest, scratch: Path) -> Iterator[tuple[str, Fetch]]:
    """Where to look, in order; each is prepared only when the ones before it did not do."""
    if params.folder:
        yield f"folder {params.folder}", lambda name: from_folder(Path(params.folder).expanduser(), name)
    yield f"folder {DEBIAN_FOLDER}", lambda name: from_folder(DEBIAN_FOLDER, name)
    for address in (ZALANDO, KERAS):
        yield address, lambda name, address=address: from_web(f"{address}/{name}.gz", params)  # type: ignore[misc]
    if shutil.which("apt-get") and shutil.which("dpkg-deb"):
        yield f"apt-get download {DEBIAN_PACKAGE}", lambda name: from_folder(unpacked_package(scratch), name)


def from_folder(folder: Path, name: str) -> bytes:
    """A file of a folder, plain or gzipped."""
    plain, packed = folder / name, folder / f"{name}.gz"
    return plain.read_bytes() if plain.is_file() else unpack(packed.read_bytes())


def unpack(content: bytes) -> bytes:
    """The content of a gzip file, at most `LARGEST_BYTES` of it."""
    with gzip.open(io.BytesIO(content)) as stream:
        unpacked = stream.read(LARGEST_BYTES + 1)
    if len(unpacked) > LARGEST_BYTES:
        raise ValueError(f"it unpacks to more than {LARGEST_BYTES:,} bytes")
    return unpacked


def from_web(address: str, params: Ingest) -> bytes:
    """The uncompressed content behind an address; what arrives of a broken transfer is thrown away."""
    # Who does not even answer the call is left for the next source; the flow comes back to all of them later.
    retries = Retry(
        params.attempts - 1, connect=0, backoff_factor=0.5, status_forcelist=RETRIED, respect_retry_after_header=False
    )
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with requests.Session() as session, progress_bar(*columns, TimeRemainingColumn()) as progress:
        session.mount("https://", HTTPAdapter(max_retries=retries))
        with session.get(address, stream=True, timeout=params.timeout_s) as response:
            response.raise_for_status()
            size = int(response.headers.get("Content-Length", 0))
            bar = progress.add_task(address.rpartition("/")[2], total=size or None)
            received = bytearray()
            for part in response.iter_content(2**16):
                received += part
                progress.update(bar, completed=len(received))
                if len(received) > LARGEST_BYTES:
                    raise ValueError(f"it sends more than {LARGEST_BYTES:,} bytes")
    return unpack(bytes(received))


def unpacked_package(scratch: Path) -> Path:
    """Debian's package, downloaded and unpacked into `scratch` without root; the folder of the IDX files in it.

    The machine's own package lists are tried first; where they are absent or old, fresh ones go to `scratch`.
    """
    folder = scratch / "package" / DEBIAN_FOLDER.relative_to("/")
    if folder.is_dir():
        return folder
    own_lists = ["-o", f"Dir::State::Lists={scratch}/lists", "-o", f"Dir::Cache={scratch}/cache"]
    (scratch / "lists/partial").mkdir(parents=True)
    try:
        _apt("download", DEBIAN_PACKAGE, cwd=scratch)
    except subprocess.CalledProcessError:
        _apt(*own_lists, "update", cwd=scratch)
        _apt(*own_lists, "download", DEBIAN_PACKAGE, cwd=scratch)
    package = next(scratch.glob("*.deb"))
    _command("dpkg-deb", "--extract", str(package), str(scratch / "package"), cwd=scratch)
    return folder


def _apt(*arguments: str, cwd: Path) -> None:
    _command("apt-get", "-q", "-o", "APT::Sandbox::User=", *arguments, cwd=cwd)


def _command(*command: str, cwd: Path) -> None:
    subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True, timeout=APT_TIMEOUT_S)


def _short(error: Exception) -> str:
    """The gist of an error in one line."""
    if isinstance(error, requests.ConnectionError):
        return "cannot be reached"
    if isinstance(error, subprocess.CalledProcessError):
        return " ".join((error.stderr or str(error)).split())[-200:]
    if isinstance(error, FileNotFoundError):
        return "not there"
    return " ".join(str(error).split())[:200]


def _how_to_go_on(answers: list[str], raw: Path) -> str:
    return (
        f"Fashion-MNIST could not be had for {raw}. Tried: {'; '.join(answers)}. By hand: put {', '.join(DIGESTS)} "
        f"(plain or .gz) into a folder, name it in params.yaml as ingest.folder, and run again."
    )


def _table(raw: Path, origin: dict[str, str]) -> str:
    rows = [
        f"| {name} | {(raw / name).stat().st_size:,} | {DIGESTS[name][:12]}… | {origin[name]} |" for name in DIGESTS
    ]
    return "\n".join(["| file | bytes | SHA-256 | from |", "|---|---:|---|---|", *rows]) + "\n"
