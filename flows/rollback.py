"""The flow `rollback`: the live release is taken back on Prefect's pages, by whoever has no shell on that machine.

    prefect deployment run rollback/take-back --param why="calls every bag a coat"
    python -m flows.release rollback --why "calls every bag a coat"        # the same, without a server

It runs beside a training and does not wait for its end.
"""

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from flows import stages
from flows.release import RELEASES, changed
from tasks import release
from tasks.errors import PipelineError, worded


@flow(name="rollback", persist_result=False)
def rollback(why: str = "") -> State:
    """Put the release before the live one back; it is proved first, and no run undoes it.

    Args:
        why: kept in the history and in git's tag.
    """
    folder = stages.ROOT / RELEASES
    try:
        said, *notes = changed(folder, lambda: release.rollback(folder, why))
    except PipelineError as error:
        return Failed(message=str(error))
    except OSError as error:
        return Failed(message=worded(error))
    for note in notes:
        get_run_logger().warning(note)
    return Completed(name="RolledBack", message=said)
