"""What prefect.yaml says, for those who bring it up otherwise than by `prefect deploy --all`."""

from typing import Any

import yaml
from prefect import Flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
from prefect.exceptions import ObjectNotFound
from prefect.schedules import Cron

from flows import stages

NIGHTLY = "retrain-nightly"


def described() -> dict[str, dict[str, Any]]:
    """Name → what prefect.yaml says of this deployment."""
    content = yaml.safe_load((stages.ROOT / "prefect.yaml").read_text(encoding="utf-8"))
    return {entry["name"]: entry for entry in content["deployments"]}


def pool() -> str:
    """The work pool that they run in."""
    return str(described()[NIGHTLY]["work_pool"]["name"])


def serve(flow: Flow[[], Any]) -> int:
    """Run a flow as prefect.yaml schedules it until Ctrl-C, by this process alone; the schedule stays when it ends.

    A line of the schedule that a person has paused stays paused.
    """
    entry = described()[NIGHTLY]
    limit = entry["concurrency_limit"]
    active = _active(f"{flow.name}/{NIGHTLY}")
    flow.serve(
        name=NIGHTLY,
        description=entry["description"],
        schedules=[
            Cron(line["cron"], timezone=line["timezone"], slug=line["slug"], active=active.get(line["slug"], True))
            for line in entry["schedules"]
        ],
        global_limit=ConcurrencyLimitConfig(
            limit=limit["limit"], collision_strategy=ConcurrencyLimitStrategy(limit["collision_strategy"])
        ),
        pause_on_shutdown=False,
    )
    return 0


def _active(name: str) -> dict[str | None, bool]:
    """Line of a deployment's schedule, by slug → whether it makes runs; none where there is no such deployment."""
    with get_client(sync_client=True) as client:
        try:
            return {line.slug: line.active for line in client.read_deployment_by_name(name).schedules}
        except ObjectNotFound:
            return {}
