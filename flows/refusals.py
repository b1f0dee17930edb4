"""A refusal as a Prefect state: returned, not raised, and said once in the run's log, without tracebacks."""

import logging

from prefect.client.schemas.objects import State
from prefect.exceptions import FailedRun
from prefect.states import Failed

LOGGERS = ("prefect.task_runs", "prefect.flow_runs", "prefect.engine")


def refused(reason: str) -> State:
    """The state of a task or a flow that was refused for this reason."""
    for name in LOGGERS:
        logging.getLogger(name).addFilter(_spare)
    return Failed(message=reason)


def _spare(record: logging.LogRecord) -> bool:
    """Without a traceback where a state was returned, and without the engine's word of an "unexpected exception".

    Prefect asks for the first, which would say `NoneType: None`; the second ends a process that a worker started.
    """
    if record.exc_info and record.exc_info[0] is None:
        record.exc_info = None
    return not (record.exc_info and record.exc_info[0] and issubclass(record.exc_info[0], FailedRun))
