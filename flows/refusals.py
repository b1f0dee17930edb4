"""A refusal as a Prefect state: returned, not raised, which spares the log two tracebacks of ours."""

import logging

from prefect.client.schemas.objects import State
from prefect.states import Failed


def refused(reason: str) -> State:
    """The state of a task or a flow that was refused for this reason."""
    logging.getLogger("prefect.task_runs").addFilter(_without_empty_traceback)
    return Failed(message=reason)


def _without_empty_traceback(record: logging.LogRecord) -> bool:
    """Drop the traceback that Prefect asks for where a state was returned: the log would say `NoneType: None`."""
    if record.exc_info and record.exc_info[0] is None:
        record.exc_info = None
    return True
