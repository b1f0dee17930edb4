"""What Prefect's server does by itself: end the runs of processes that died, tell a person of a refusal or a failure.

    python -m flows.automations       # again and again as one likes; the messages `make schedule` brings up, too

The two that end the runs of processes that died take part in every event of every run. On SQLite each is a transaction
that reads, then writes, and fails at once if another writes meanwhile; Prefect's server then drops the event, for the
messages, too. So they are for a server on PostgreSQL. Under `make schedule`, whatever its database, a sweep
(flows/reconciliation.py) ends such runs, and nothing but the messages is brought up.

The address that messages go to comes from SEAMLINE_MESSAGES_TO, a webhook that takes JSON; without it none are sent.
It is kept in a block of Prefect's server, in its database, and in no file of the project.
"""

import os
import sys
from contextlib import suppress
from datetime import timedelta
from urllib.parse import urlsplit
from uuid import UUID

from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.events import AutomationCore
from rich.console import Console

from flows import outcomes, training

ADDRESS = "SEAMLINE_MESSAGES_TO"
BLOCK = "seamline-messages"
MESSAGES = "seamline: messages"
TIMEOUT_S = 10  # for the webhook
SILENT_FOR = timedelta(seconds=75)  # two heartbeats missed; the server looks every five seconds: within 90 s in all
ANY_RUN = {"prefect.resource.id": "prefect.flow-run.*"}
RETRAINING = {"prefect.resource.role": "flow", "prefect.resource.name": "retraining"}
DEAD = {  # not by force: Prefect then lets no run leave a final state, should the news of its end have been lost
    "type": "change-flow-run-state",
    "state": "CRASHED",
    "name": "Crashed",
    "message": "no sign of life: its process was killed",
}
SUBJECT = "Seamline: {{ flow.name }} {{ flow_run.state.name }}"
BODY = "{{ flow_run.state.message }} ({{ flow_run.name }})"


def silent_runs() -> AutomationCore:
    """A run whose heartbeats stop before it has ended is ended."""
    return _when_nothing_follows(
        "seamline: a run without heartbeats", "prefect.flow-run.heartbeat", "prefect.flow-run.Running"
    )


def stranded_runs() -> AutomationCore:
    """A run that was claimed by a worker and never began is ended: it would hold up all that come after it."""
    return _when_nothing_follows("seamline: a run that never began", "prefect.flow-run.Pending")


def _when_nothing_follows(name: str, *events: str) -> AutomationCore:
    trigger = {
        "posture": "Proactive",
        "match": ANY_RUN,
        "for_each": ["prefect.resource.id"],
        "after": list(events),
        "expect": ["prefect.flow-run.*"],
        "threshold": 1,
        "within": SILENT_FOR.total_seconds(),
    }
    return AutomationCore.model_validate({"name": name, "trigger": {"type": "event", **trigger}, "actions": [DEAD]})


def messages(block: UUID) -> AutomationCore:
    """A refusal or a failure of the retraining is told, through a block."""
    trigger = {
        "posture": "Reactive",
        "match": ANY_RUN,
        "match_related": RETRAINING,
        "for_each": ["prefect.resource.id"],
        "expect": [f"prefect.flow-run.{name}" for name in sorted(outcomes.WORTH_A_MESSAGE)],
        "threshold": 1,
    }
    action = {"type": "send-notification", "block_document_id": str(block), "subject": SUBJECT, "body": BODY}
    described = {"name": MESSAGES, "trigger": {"type": "event", **trigger}, "actions": [action]}
    return AutomationCore.model_validate(described)


def bring_up(address: str, *, ends_dead: bool = True) -> list[str]:
    """Make the automations or bring them up to date; their names.

    `address`: where messages go, "": nowhere. `ends_dead`: whether the server ends runs whose processes died.
    """
    dead = [silent_runs(), stranded_runs()]
    wanted = list(dead) if ends_dead else []
    if address:
        block = CustomWebhookNotificationBlock.model_validate(
            {"name": BLOCK, "url": address, "json_data": {"text": "{{subject}}: {{body}}"}, "timeout": TIMEOUT_S}
        )
        wanted.append(messages(UUID(str(block.save(BLOCK, overwrite=True)))))
    with get_client(sync_client=True) as client:
        for automation in wanted:
            there = client.read_automations_by_name(automation.name)
            if there and there[0].id:
                client.update_automation(there[0].id, automation)
            else:
                client.create_automation(automation)
        if not ends_dead:
            _remove(client, *(automation.name for automation in dead))
        if not address:
            _tell_nobody(client)
    return [automation.name for automation in wanted]


def _tell_nobody(client: SyncPrefectClient) -> None:
    """Remove what an earlier address has left: it would go on sending there."""
    _remove(client, MESSAGES)
    with suppress(ValueError):  # there is none
        CustomWebhookNotificationBlock.delete(BLOCK)


def _remove(client: SyncPrefectClient, *names: str) -> None:
    for name in names:
        for automation in client.read_automations_by_name(name):
            client.delete_automation(automation.id)


def unusable(address: str) -> str:
    """What is wrong with an address for messages; "" if nothing is. It is not repeated: it may hold a secret."""
    try:
        parts = urlsplit(address)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname)
    except ValueError:
        usable = False
    return (
        "" if usable or not address else f"{ADDRESS}: Expected an address such as https://host/path. Received another."
    )


def main() -> int:
    """Bring up the automations; the exit status."""
    console, address = Console(), os.environ.get(ADDRESS, "")
    wrong = unusable(address) or training.unreachable()
    if wrong:
        console.print(wrong, highlight=False, soft_wrap=True, markup=False)
        return 1
    for name in bring_up(address):
        console.print(name, highlight=False, markup=False)
    if not address:
        console.print(f"No messages: {ADDRESS} is not set.", highlight=False, markup=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
