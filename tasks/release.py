"""Publish a bundle that the challenge has let through: proved, pushed, kept by version, then live by one rename.

Whatever fails or is killed leaves the old release live or the new one, wholly; the next run mends the rest. What comes
after the switch (git tags, old releases removed) is said where it cannot be done, and done by the next run.
"""

import logging
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from seamline import bundle as shipped
from seamline import disk
from seamline.bundle import Bundle, BundleError
from tasks import folders, proof, releases, stored, tags
from tasks.challenge import RECORD, RELEASED, SAME
from tasks.errors import ReleaseError
from tasks.files import digest, read_json, write_json
from tasks.params import Params
from tasks.releases import Standing, Switch

logger = logging.getLogger(__name__)

LOCK, NUMBERS = Path("dvc.lock"), Path("params.yaml")
READ_ONLY = 0o444


def run(params: Params, releases_folder: Path, bundle_folder: Path, challenge_file: Path, release_file: Path) -> None:
    """Release a bundle, or refuse; the second time there is nothing to do."""
    root, verdict = Path.cwd(), read_json(challenge_file)
    with releases.alone(releases_folder):
        now, bundle = releases.standing(releases_folder), read(bundle_folder)
        done: dict[str, Any] = {"version": bundle.version, "before": now.live, "released": False, "notes": []}
        if _is_live(releases_folder, now, bundle) or _is_same(verdict, bundle, now):
            done |= {"version": now.live, "before": now.previous}
        else:
            require_let_through(verdict, bundle, releases_folder, now)
            seconds = params.release.push_timeout_s
            notes = publish(root, releases_folder, bundle_folder, challenge_file, now, seconds)
            done |= {"released": True, "notes": notes}
        done["removed"] = releases.collect(releases_folder, params.release.keep)
        done["notes"] += announce(root, releases_folder)
    write_json(release_file, done)
    said = f"version {done['version']} is live" + ("" if done["released"] else " already; nothing to release")
    logger.info("release: %s", "; ".join([said, *done["notes"]]))


def read(folder: Path) -> Bundle:
    """A bundle, verified.

    Raises:
        ReleaseError: it must not be used.
    """
    try:
        return shipped.read(folder)
    except BundleError as error:
        raise ReleaseError(f"not released: {error}") from error


def _is_live(folder: Path, now: Standing, bundle: Bundle) -> bool:
    live = folder / str(now.live) / "bundle"
    with suppress(BundleError):
        return now.live is not None and shipped.read(live).signed == bundle.signed
    return False


def _is_same(verdict: dict[str, Any], bundle: Bundle, now: Standing) -> bool:
    """Whether the challenge has found that what is live is this very model."""
    named = [(verdict.get(side) or {}) for side in ("challenger", "champion")]
    found = (named[0].get("manifest"), named[1].get("version"))
    return verdict.get("verdict") == SAME and found == (digest(bundle.signed), now.live)


def require_let_through(verdict: dict[str, Any], bundle: Bundle, folder: Path, now: Standing) -> None:
    """Refuse what the challenge has not let through, as it stood against what is live now.

    Raises:
        ReleaseError: so it is; or its version has been released with other content.
    """
    challenger, champion = verdict.get("challenger") or {}, verdict.get("champion") or {}
    if verdict.get("verdict") != RELEASED or challenger.get("manifest") != digest(bundle.signed):
        raise ReleaseError("not released: the challenge has not let this bundle through. Run it first.")
    if champion.get("version") != now.live:
        raise ReleaseError(
            f"not released: the challenge was against {champion.get('version')}, and {now.live} is live."
        )
    if bundle.version in releases.versions(folder):
        raise ReleaseError(
            f"not released: {folder / str(bundle.version)} is there already, with other content or taken back. "
            f"Look at it: python -m flows.release show {bundle.version}"
        )


def publish(
    root: Path, folder: Path, bundle_folder: Path, challenge_file: Path, now: Standing, push_timeout_s: float
) -> list[str]:
    """Write a release beside the others, prove it, push what it is made of, and let it be live; what is to be said."""
    bundle, verdict = read(bundle_folder), read_json(challenge_file)
    new = folder / f".tmp.{bundle.version}"
    folders.fill(new / "bundle", contents(bundle_folder, bundle))
    proof.prove(new / "bundle")
    notes = keep(root, bundle_folder, push_timeout_s)
    folders.fill(new, papers(root, verdict) | {RECORD: challenge_file.read_bytes()})
    change = Switch(
        bundle.version, now.live, new=True, event=event(releases.RELEASED, bundle.version, now.live, reason(verdict))
    )
    seal(new, dict(change.event) | _git(root, bundle, notes))
    releases.switch(folder, change, new)
    return notes


def seal(new: Path, about: dict[str, Any]) -> None:
    """Write down what a release is, and the digest of every file; nobody writes to it any more."""
    write_json(new / releases.ABOUT, about | {"files": releases.described(new)})
    for path in new.rglob("*"):
        if path.is_file():
            path.chmod(READ_ONLY)
    disk.sync(new)


def contents(folder: Path, bundle: Bundle) -> dict[str, bytes]:
    """The files of a bundle: the very bytes that were verified."""
    signature = folder / shipped.SIGNATURE
    signed = {shipped.SIGNATURE: signature.read_bytes()} if signature.is_file() else {}
    return bundle.files | {shipped.MANIFEST: bundle.signed} | signed


def papers(root: Path, verdict: dict[str, Any]) -> dict[str, bytes]:
    """What a release keeps beside its bundle.

    Raises:
        ReleaseError: the metrics have changed since the challenge.
    """
    named = verdict["files"]
    metrics = (root / named["metrics"]["path"]).read_bytes()
    if digest(metrics) != named["metrics"]["sha256"]:
        raise ReleaseError(f"not released: {named['metrics']['path']} has changed since the challenge. Run it again.")
    found = {"metrics.json": metrics, "challenge.md": (root / named["page"]["path"]).read_bytes()}
    return found | {path.name: (root / path).read_bytes() for path in (LOCK, NUMBERS) if (root / path).is_file()}


def keep(root: Path, bundle_folder: Path, timeout_s: float) -> list[str]:
    """See to it that DVC has what is released, whole, and the remote, if there is one; what is to be said.

    Raises:
        ReleaseError: DVC's cache is spoilt and cannot be mended, or the remote does not take it.
    """
    store = stored.found(root)
    if not store:
        return ["there is no DVC here: nothing is pushed"]
    mended = stored.mend(store, timeout_s)
    stored.require_same(store, str(bundle_folder), bundle_folder)
    notes = [f"{len(mended)} files of DVC's cache were spoilt and are mended"] if mended else []
    if not store.remote:
        return [*notes, "DVC has no default remote: nothing is pushed"]
    stored.push(store, timeout_s)
    return notes


def announce(root: Path, folder: Path) -> list[str]:
    """Say in git what is live, unless it is said; what is to be said if it cannot be."""
    live = releases.standing(folder).live
    about = read_json(folder / str(live) / releases.ABOUT) if live else {}
    if not about.get("head"):
        return []
    version = about["version"]
    try:
        commit = about["commit"] or tags.known(root, version) or _late(root, folder / str(live), version)
        if commit:
            tags.announce(root, version, commit, releases.history(folder)[-1]["why"])
    except tags.GitError as error:
        return [f"no git tag ({error}): the next run tries again"]
    return []


def _late(root: Path, kept: Path, version: int) -> str:
    """The commit that could not be made as a release was, if the checkout is still as it was then; "": it is not."""
    same = all((kept / name).is_file() and (root / name).is_file() and digest((kept / name).read_bytes())
               == digest((root / name).read_bytes()) for name in (LOCK, NUMBERS))  # fmt: skip
    return tags.record(root, version) if same else ""


def _git(root: Path, bundle: Bundle, notes: list[str]) -> dict[str, Any]:
    """The checkout's commit, and the one that has what this run was made of."""
    found: dict[str, Any] = {"head": None, "commit": None}
    try:
        found["head"] = tags.head(root)
        found["commit"] = tags.record(root, bundle.version)
    except (tags.GitError, FileNotFoundError) as error:
        notes.append(f"not recorded in git ({error})")
    return found


def reason(verdict: dict[str, Any]) -> str:
    """Why a bundle is released, in a few words."""
    ours, theirs, counted = verdict["challenger"], verdict["champion"], verdict["paired"]
    if not theirs:
        return f"the first release, accuracy {ours['accuracy']:.4f}"
    return f"accuracy {ours['accuracy']:.4f} after {theirs['accuracy']:.4f}, McNemar's p {counted['p']:.2g}"


def event(what: str, version: int, before: int | None, why: str) -> dict[str, Any]:
    """An entry of the history."""
    return {"when": moment(), "what": what, "version": version, "before": before, "why": why}


def moment() -> str:
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"


def put_live(folder: Path, version: int, what: str, why: str, previous: Callable[[Standing], int | None]) -> Standing:
    """Let a release that is kept be live, proved again: what a person does; what is live then.

    Args:
        folder: the releases.
        version: to be live.
        what: PROMOTED or ROLLED_BACK.
        why: in the person's words.
        previous: what `rollback` shall go back to from then on, by what stood before.

    Raises:
        ReleaseError: it is absent or broken. What is live stays.
    """
    now = releases.standing(folder)
    if reasons := releases.damage(folder / str(version)):
        others = ", ".join(map(str, releases.versions(folder))) or "none"
        raise ReleaseError(f"not {what}: {'; '.join(reasons)}. What is live stays. Kept: {others}.")
    proof.prove(folder / str(version) / "bundle")
    if version != now.live:
        change = Switch(version, previous(now), new=False, event=event(what, version, now.live, why))
        releases.switch(folder, change)
    return releases.standing(folder)


def promote(folder: Path, version: int, why: str) -> Standing:
    """Let a release be live; the one that was is what a rollback goes back to."""
    return put_live(folder, version, releases.PROMOTED, why, lambda now: now.live)


def rollback(folder: Path, why: str) -> Standing:
    """Let the release before be live again; the next rollback goes back to the one before that.

    Raises:
        ReleaseError: there is none, or it is broken.
    """
    before = releases.standing(folder).previous
    if before is None:
        raise ReleaseError("not rolled back: there is no release before the one that is live. Nothing changed.")
    older = [one for one in releases.versions(folder) if one < before and one not in releases.withdrawn(folder)]
    return put_live(folder, before, releases.ROLLED_BACK, why, lambda _: max(older, default=None))
