"""Pictures that may become training images: read, cut out, and compared with the images that there are."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

from seamline import pictures
from seamline.reading import shown
from tasks import incoming
from tasks.arrays import SIDE, Images, Split
from tasks.files import digest
from tasks.progress import progress_bar

COLUMNS = (TextColumn("reading pictures"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
AT_A_TIME = 512  # images that are compared with all others
NOTHING = "nothing"
NONE: Images = np.zeros((0, SIDE, SIDE), np.uint8)


class Candidate(NamedTuple):
    """A file of data/incoming, and what was seen in it."""

    path: str  # below data/incoming
    kind: str  # its folder
    fault: str  # why it shows nothing; "" if it does
    digest: str  # SHA-256 of the file, "" if it was not opened
    views: Images  # (v, 28, 28)


def read(folder: Path, most_views: int) -> list[Candidate]:
    """Every file of the folder, in the order of its names, with at most so many views of what it shows."""
    with progress_bar(*COLUMNS) as progress:
        return [_read(folder, one, most_views) for one in progress.track(incoming.found(folder))]


def _read(folder: Path, one: incoming.Found, most_views: int) -> Candidate:
    if one.fault:
        return Candidate(one.path, one.kind, one.fault, "", NONE)
    content = b""
    try:
        content = incoming.read(folder / one.path)
        views = pictures.from_picture(content)[:most_views]
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        return Candidate(one.path, one.kind, reason, digest(content) if content else "", NONE)
    return Candidate(one.path, one.kind, "", digest(content), views)


def facts(those: list[Candidate], train: Split, test: Split) -> pd.DataFrame:
    """A row for each candidate; of what shows nothing, or is of no kind, the columns of numbers are empty."""
    table = pd.DataFrame(
        {
            "fault": pd.Series([one.fault or NOTHING for one in those], dtype=object),
            "kind": pd.Series([shown(one.kind) for one in those], dtype=object),
            "copy of": pd.Series(_copies(those, train), dtype=object),
        }
    )
    table["kinds it is said to be"] = _claims(those)
    seen = [number for number, one in enumerate(those) if len(one.views) and one.kind in incoming.FOLDERS]
    first = np.concatenate([NONE, *(those[number].views[:1] for number in seen)])
    labels = np.array([incoming.FOLDERS[those[number].kind] for number in seen], int)
    measured = {
        "grey levels from a test image": distance(first, test.images),
        "brightness": first.mean(axis=(1, 2)),
        "share lit": (first > 0).mean(axis=(1, 2)),
        "likeness to its kind": _likeness(first, labels, train),
    }
    for name, values in measured.items():
        table[name] = pd.Series(values.astype(float), index=seen).reindex(table.index)
    return table


def distance(images: Images, others: Images) -> NDArray[np.float64]:
    """How far each image, or its mirror image, is from the nearest other.

    Args:
        images: (n, 28, 28) uint8.
        others: (m, 28, 28) uint8, m ≥ 1.

    Returns:
        (n,) root of the mean square, in grey levels: 0 … 255.
    """
    flat = _flat(others)
    as_it_is, mirrored = (_least_square(_flat(those), flat) for those in (images, images[:, :, ::-1]))
    nearest: NDArray[np.float64] = np.sqrt(np.minimum(as_it_is, mirrored) / SIDE**2)
    return nearest


def _least_square(images: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float64]:
    least, squares = np.zeros(len(images)), (others**2).sum(1)
    for start in range(0, len(images), AT_A_TIME):
        part = images[start : start + AT_A_TIME]
        least[start : start + AT_A_TIME] = (part**2).sum(1) + (squares - 2 * part @ others.T).min(1)
    return least.clip(0)


def likeness(images: Images, others: Images) -> NDArray[np.float64]:
    """The cosine of each image's pixels with those of the other that is most like it.

    Args:
        images: (n, 28, 28) uint8.
        others: (m, 28, 28) uint8, m ≥ 1.

    Returns:
        (n,), 0 … 1.
    """
    units, found = _unit(others), np.zeros(len(images))
    for start in range(0, len(images), AT_A_TIME):
        part = slice(start, start + AT_A_TIME)
        found[part] = (_unit(images[part]) @ units.T).max(1)
    return found.clip(0, 1)


def _likeness(images: Images, labels: NDArray[np.int_], train: Split) -> NDArray[np.float64]:
    alike = np.zeros(len(images))
    for label in np.unique(labels):
        alike[labels == label] = likeness(images[labels == label], train.images[train.labels == label])
    return alike


def _flat(images: Images) -> NDArray[np.float32]:
    return images.reshape(-1, SIDE**2).astype(np.float32)


def _unit(images: Images) -> NDArray[np.float32]:
    flat = _flat(images)
    unit: NDArray[np.float32] = flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1)
    return unit


def _copies(those: list[Candidate], train: Split) -> list[str]:
    """Of what each is a copy: a training image, mirrored perhaps, or an earlier picture of a known kind."""
    known = {image.tobytes() for image in train.images}
    first: dict[bytes, str] = {}
    copies = []
    for one in those:
        if not len(one.views) or one.kind not in incoming.FOLDERS:
            copies.append(NOTHING)
        elif any(view.tobytes() in known for view in (one.views[0], one.views[0, :, ::-1])):
            copies.append("a training image")
        else:
            before = first.setdefault(one.views[0].tobytes(), one.path)
            copies.append(shown(before) if before != one.path else NOTHING)
    return copies


def _claims(those: list[Candidate]) -> list[int]:
    """How many kinds each picture is said to be: more than one, and nobody knows which."""
    kinds: dict[bytes, set[str]] = {}
    for one in those:
        if len(one.views) and one.kind in incoming.FOLDERS:
            kinds.setdefault(one.views[0].tobytes(), set()).add(one.kind)
    return [len(kinds.get(one.views[0].tobytes(), ())) if len(one.views) else 0 for one in those]
