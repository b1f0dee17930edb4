"""Decide whether a new model may replace the live release. No stage: DVC does not know what is live.

Champion and challenger answer the same test images, through the runtime that ships. The challenger must reach the
gate's limits, lose no class and no calibration, and be shown to be no worse than the champion by more than a margin;
where the images are too few to show that, it is refused. Without a champion, the gate's limits decide alone.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from seamline import bundle as shipped
from seamline.bundle import Bundle, BundleError
from tasks import challenge_page, contest, gate, labelled, paired, releases, splits
from tasks.arrays import CLASSES, Split
from tasks.contest import Player
from tasks.errors import ChallengeError
from tasks.files import digest, digest_json, read_json, write_json, write_text
from tasks.labelled import Pictures
from tasks.paired import Pairs
from tasks.params import Params

logger = logging.getLogger(__name__)

RELEASED, SAME, REFUSED = "released", "same", "refused"
RECORD = "challenge.json"


class Verdict(NamedTuple):
    """What was found; None: it was not looked for."""

    reasons: list[str]  # against the challenger; none: it may replace the champion
    live: int | None  # version
    challenger: Bundle | None = None
    champion: Bundle | None = None
    ours: Player | None = None  # the challenger, measured
    theirs: Player | None = None
    counted: Pairs | None = None
    best: float | None = None  # the best accuracy of a release so far, this one included
    pictures: Pictures | None = None

    @property
    def word(self) -> str:
        same = self.champion and self.challenger and content(self.champion) == content(self.challenger)
        return REFUSED if self.reasons else SAME if same else RELEASED


def run(
    params: Params,
    releases_folder: Path,
    normalised: Path,
    bundle_folder: Path,
    metrics_file: Path,
    challenge_file: Path,
    summary: Path,
) -> None:
    """Write the verdict; refuse if the bundle may not replace what is live."""
    measured, stats = read_json(metrics_file), read_json(normalised / splits.STATS)
    test = splits.read(normalised, "test")
    verdict = judge(params, releases_folder, test, bundle_folder, measured, stats)
    files = {
        "metrics": {"path": str(metrics_file), "sha256": digest(metrics_file.read_bytes())},
        "page": {"path": str(summary)},
    }
    found = described(verdict, params) | {"test_data": stats["data"]["test"], "files": files}
    write_json(challenge_file, found)
    write_text(summary, challenge_page.page(found))
    if verdict.reasons:
        raise ChallengeError(f"refused: {'; '.join(verdict.reasons)}. Verdict: {summary}. What is live stays.")
    logger.info("challenge: %s", challenge_page.headline(found))


def judge(
    params: Params,
    releases_folder: Path,
    test: Split,
    folder: Path,
    measured: Mapping[str, Any],
    stats: Mapping[str, Any],
) -> Verdict:
    """What speaks against a bundle.

    Args:
        params: all of params.yaml.
        releases_folder: with what is live.
        test: the test images.
        folder: the challenger's.
        measured: metrics.json.
        stats: what normalise wrote of the data.
    """
    live = releases.standing(releases_folder).live
    place = releases_folder / str(live) / "bundle"
    try:
        challenger, champion = shipped.read(folder), _of_release(place) if live else None
        verdict = Verdict(strangers(challenger, measured, stats, test), live, challenger, champion)
        if verdict.reasons or verdict.word == SAME:
            return verdict
        if reasons := taken_back(releases_folder, challenger):
            return verdict._replace(reasons=reasons)
        bins, wanted = params.evaluate.calibration_bins, params.challenge.pictures
        pictures = labelled.read(Path(wanted)) if wanted else None
        ours = contest.play(folder, challenger, test, bins, pictures)
        theirs = contest.play(place, champion, test, bins, pictures) if champion else None
    except ValueError as error:  # a BundleError is one
        return Verdict([str(error)], live)
    verdict = verdict._replace(ours=ours, theirs=theirs, pictures=pictures, best=ours.scores.accuracy)
    reasons = contest.unkept(ours) + gate.misses(contest.as_metrics(ours.scores), params.gate)
    if not theirs:
        return verdict._replace(reasons=reasons)
    best = max(best_before(place.parent, stats["data"]["test"]), theirs.scores.accuracy)
    counted = paired.pairs(ours.right, theirs.right)
    reasons += contest.losses(ours.scores, theirs.scores, best, params.challenge)
    reasons += contest.worse(counted, params.challenge)
    return verdict._replace(reasons=reasons, counted=counted, best=max(best, ours.scores.accuracy))


def strangers(challenger: Bundle, measured: Mapping[str, Any], stats: Mapping[str, Any], test: Split) -> list[str]:
    """Why bundle, metrics and data do not belong together; none means they do."""
    told = challenger.manifest.get("digests")
    told = told if isinstance(told, dict) else {}
    tested = digest(test.images.tobytes() + test.labels.tobytes())
    belong = [
        ("the metrics are of other weights than the bundle", measured.get("weights"), told.get("weights")),
        ("the metrics are of other test data", measured.get("test_data"), stats["data"]["test"]),
        ("the bundle is of other data", told.get("data"), digest_json(stats["data"])),
        ("the test images are not those that were prepared", tested, stats["data"]["test"]),
    ]
    reasons = [
        f"{what} ({str(found)[:12]}, not {str(wanted)[:12]}): run `dvc repro`"
        for what, found, wanted in belong
        if wanted is None or found != wanted
    ]
    if challenger.classes != CLASSES:
        reasons.append(f"the bundle names other classes ({', '.join(challenger.classes)[:100]})")
    return reasons


def content(bundle: Bundle) -> dict[str, str]:
    """What makes a model the same: every file but the card, which has the version in it."""
    return {name: facts["sha256"] for name, facts in bundle.manifest["files"].items() if name != shipped.CARD}


def taken_back(folder: Path, challenger: Bundle) -> list[str]:
    """Whether a person has replaced this very model by an older one."""
    for version, event in releases.withdrawn(folder).items():
        place = folder / str(version) / "bundle"
        if place.is_dir() and content(shipped.read(place)) == content(challenger):
            why = f" ({event['why']})" if event["why"] else ""
            back = f"to have it after all: python -m flows.release promote {version}"
            return [f"version {version}, the same model, was taken back on {event['when']}{why}; {back}"]
    return []


def _of_release(place: Path) -> Bundle:
    try:
        return shipped.read(place)
    except BundleError as error:
        raise BundleError(
            f"What is live is broken: {error} Another: python -m flows.release promote VERSION"
        ) from error


def best_before(release: Path, test_data: str) -> float:
    """The best accuracy on these test images that a release and those before it had; 0: nothing is known of it."""
    told = read_json(release / RECORD) if (release / RECORD).is_file() else {}
    return float(told["best"]) if told.get("test_data") == test_data else 0.0


def described(verdict: Verdict, params: Params) -> dict[str, Any]:
    """Everything that was found, JSON-ready."""
    counted, limits, pictures = verdict.counted, params.challenge, verdict.pictures
    return {
        "verdict": verdict.word,
        "reasons": verdict.reasons,
        "live": verdict.live,
        "challenger": _one(verdict.challenger, verdict.ours),
        "champion": _one(verdict.champion, verdict.theirs),
        "paired": counted
        and counted._asdict()
        | {"difference": counted.difference, "p": paired.mcnemar(counted)}
        | paired.interval(counted, limits.confidence)._asdict(),
        "best": None if verdict.best is None else contest.finite(verdict.best),
        "pictures": pictures
        and {"folder": pictures.folder, "skipped": pictures.skipped, "unreadable": pictures.unreadable},
        "limits": limits.model_dump(exclude={"pictures"}) | params.gate.model_dump(),
    }


def _one(bundle: Bundle | None, player: Player | None) -> dict[str, Any] | None:
    if not bundle:
        return None
    told = {"version": bundle.version, "manifest": digest(bundle.signed), "recipe": bundle.manifest.get("recipe")}
    return told | (contest.described(player) if player else {})
