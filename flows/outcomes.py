"""An outcome as Prefect's state: one name for each, so that an automation can tell a refusal from a fault.

Refused is not broken: the pipeline did what it is for, and the model that served serves on. It is of type Failed all
the same, because a person has to look. Skipped is of type Cancelled, which no worker takes up again.
"""

import re
from collections.abc import Callable

from prefect.client.schemas.objects import State
from prefect.states import Cancelled, Completed, Crashed, Failed

from tasks.runs import Outcome, Record

STATES: dict[str, tuple[str, Callable[..., State]]] = {
    "released": ("Released", Completed),
    "unchanged": ("Unchanged", Completed),
    "refused": ("Refused", Failed),
    "failed": ("Failed", Failed),
    "crashed": ("Crashed", Crashed),
    "skipped": ("Skipped", Cancelled),
}
WORTH_A_MESSAGE = {"Refused", "Failed", "Crashed"}


def state(record: Record) -> State:
    """The state of a run that has ended."""
    name, make = STATES[record.outcome]
    return make(name=name, message=record.reason)


def of_failure(stage: str, reason: str) -> Outcome:
    """Whether a stage that failed refused what it was given, in its own words, or could not do its work."""
    return "refused" if re.match(rf"{re.escape(stage)}: refused\b", reason) else "failed"


def why(step: str, state: State) -> str:
    """Why a step did not complete, with its name, which Prefect's own words have not, as for a time-out."""
    said = state.message or "no reason given"
    return said if said.startswith(f"{step}: ") else f"{step}: {said}"
