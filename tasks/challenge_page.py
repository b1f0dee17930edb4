"""A verdict in words: one line for a log, one page for people."""

from collections.abc import Mapping
from typing import Any

NONE = "·"


def headline(found: Mapping[str, Any]) -> str:
    """One line."""
    ours, theirs, counted = found["challenger"], found["champion"], found["paired"]
    if found["verdict"] == "same":
        return f"version {theirs['version']} is live already; nothing to release"
    if not theirs:
        return f"version {ours['version']} may be the first release, accuracy {ours['accuracy']:.2%}"
    return (
        f"version {ours['version']} may replace version {theirs['version']}: accuracy {ours['accuracy']:.2%} against "
        f"{theirs['accuracy']:.2%} on the same {counted['images']:,} images (McNemar's p {counted['p']:.2g})"
    )


def page(found: Mapping[str, Any]) -> str:
    """Markdown: the verdict, why, and every figure beside its limit."""
    ours, theirs = found["challenger"] or {}, found["champion"] or {}
    verdict = {"released": "**may replace** what is live", "same": "**is live already**", "refused": "**is refused**"}
    lines = [
        f"The challenger, version {ours.get('version', NONE)}, {verdict[found['verdict']]}.",
        *([""] if found["reasons"] else []),
        *(f"- {reason}" for reason in found["reasons"]),
    ]
    if "accuracy" in ours:
        lines += ["", *_figures(ours, theirs, found["limits"], found["best"])]
    if found["paired"]:
        lines += ["", _paired(found["paired"], found["limits"])]
    if found["pictures"]:
        lines += ["", *_pictures(ours["pictures"], theirs.get("pictures"), found["pictures"])]
    return "\n".join(lines) + "\n"


def _figures(
    ours: Mapping[str, Any], theirs: Mapping[str, Any], limits: Mapping[str, Any], best: float | None
) -> list[str]:
    """Every figure beside its limit; without a champion only the gate's limits count."""
    calibration = f"≤ {limits['max_calibration_error']}, ≤ the champion's + {limits['max_calibration_rise']}"
    rows = [
        (
            "accuracy",
            "accuracy",
            f"≥ {limits['min_accuracy']}",
            f"≥ {_share(best)} (the best yet) − {limits['max_drift']}",
        ),
        ("worst recall", "worst_recall", f"≥ {limits['min_recall']}", ""),
        ("calibration error", "calibration_error", "", calibration),
    ]
    shown = [
        f"| {what} | {_share(ours.get(key))} | {_share(theirs.get(key))} "
        f"| {', '.join(filter(None, (absolute, relative if theirs else '')))} |"
        for what, key, absolute, relative in rows
    ]
    drop = f"≥ the champion's − {limits['max_class_drop']}" if theirs else ""
    recalls = [
        f"| recall of {kind} | {_share(value)} | {_share(theirs.get('recalls', {}).get(kind))} | {drop} |"
        for kind, value in ours["recalls"].items()
    ]
    name = f"version {theirs['version']}" if theirs else "none"
    return [f"| test images | challenger | champion: {name} | limit |", "|---|---:|---:|---|", *shown, *recalls]


def _paired(counted: Mapping[str, Any], limits: Mapping[str, Any]) -> str:
    return (
        f"On the same {counted['images']:,} images the challenger alone is right {counted['won']} times, "
        f"the champion alone {counted['lost']} times. "
        f"Difference {counted['difference']:+.4f} ({limits['confidence']:.0%}: "
        f"{counted['low']:+.4f} … {counted['high']:+.4f}), margin {limits['margin']}; "
        f"McNemar's exact p {counted['p']:.2g}."
    )


def _pictures(ours: Mapping[str, Any], theirs: Mapping[str, Any] | None, those: Mapping[str, Any]) -> list[str]:
    said = [f"{len(those['skipped'])} folders of other kinds skipped"] if those["skipped"] else []
    said += [f"{those['unreadable']} files that are no pictures"] if those["unreadable"] else []
    rows = [("all", ours["pictures"], ours["right"], theirs["right"] if theirs else None)]
    rows += [
        (kind, count, right, theirs["by_kind"][kind][1] if theirs else None)
        for kind, (count, right) in ours["by_kind"].items()
    ]
    return [
        f"Labelled pictures of `{those['folder']}`, which decide nothing{': ' if said else ''}{', '.join(said)}.\n",
        "| named right | pictures | challenger | champion |",
        "|---|---:|---:|---:|",
        *(f"| {kind} | {count} | {_of(right, count)} | {_of(other, count)} |" for kind, count, right, other in rows),
    ]


def _of(right: int | None, count: int) -> str:
    return NONE if right is None or not count else f"{right / count:.1%}"


def _share(value: float | None) -> str:
    return NONE if value is None else f"{value:.4f}"
