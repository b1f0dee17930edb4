"""Where Optuna keeps what was tried: an SQLite file, or the database that the environment names.

The address of SEAMLINE_STUDIES may hold a password: it stands in no file of the project, and no message repeats it.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool  # no connection outlives its question

from tasks.errors import ParameterError
from tasks.experiment import Study

STORAGE = "SEAMLINE_STUDIES"
CONNECT_TIMEOUT_S = 5
WAIT_FOR_LOCK_S = 60  # several trials write to one SQLite file
STARTUP_TRIALS = 8  # drawn at random, and never ended early, before Optuna draws conclusions
FIRST_STOP = 2  # epochs that every trial is given


class Pruned(Exception):  # noqa: N818  # not an error: Optuna's answer
    """This trial is worse than most at the same epoch, and not worth going on with."""

    def __init__(self, epochs: int) -> None:
        super().__init__()
        self.epochs = epochs  # done


def storage(folder: Path) -> str:
    """The address of Optuna's database: the environment's, or that of a file in a folder."""
    file = URL.create("sqlite", database=str(folder.resolve() / "studies.db"))
    return os.environ.get(STORAGE) or file.render_as_string(hide_password=False)


@contextmanager
def answering() -> Iterator[None]:
    """What talks to the storage within the block gives one line when that does not answer.

    Raises:
        ParameterError: it does not answer, or does not do what it is asked.
    """
    try:
        yield
    except (SQLAlchemyError, optuna.exceptions.OptunaError) as error:
        raise _silent(error) from error


def _silent(error: Exception) -> ParameterError:
    reason = " ".join(str(error.__cause__ or error).split())[:200]
    return ParameterError(
        f"Optuna's storage does not answer ({reason}). {STORAGE} names it, such as "
        "postgresql+psycopg://user@host/name; without, it is an SQLite file."
    )


def open_study(address: str, name: str, seed: int) -> optuna.Study:
    """A study, made if there is none of that name.

    Raises:
        ParameterError: the database does not answer, or is none.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sqlite = _backend(address) == "sqlite"
    wait = {"timeout": WAIT_FOR_LOCK_S} if sqlite else {"connect_timeout": CONNECT_TIMEOUT_S}
    braced = address.replace("{", "{{").replace("}", "}}")  # Optuna formats it
    try:
        with answering():
            return optuna.create_study(
                storage=optuna.storages.RDBStorage(braced, {"connect_args": wait, "poolclass": NullPool}),
                study_name=name,
                direction="maximize",
                load_if_exists=True,
                sampler=sampler(seed),
                pruner=optuna.pruners.MedianPruner(STARTUP_TRIALS, FIRST_STOP),
            )
    except ImportError as error:  # no driver for such a database
        raise _silent(error) from error


def sampler(seed: int) -> optuna.samplers.BaseSampler:
    return optuna.samplers.TPESampler(seed=seed, n_startup_trials=STARTUP_TRIALS)


def _backend(address: str) -> str:
    """The kind of database; what is wrong with an address is not said, since that would repeat parts of it."""
    kind = ""
    with suppress(SQLAlchemyError, ValueError):
        kind = make_url(address).get_backend_name() if address.count("@") <= 1 else ""
    if not kind:
        raise ParameterError(
            f"{STORAGE} is no database's address. Such as: postgresql+psycopg://user:password@host/name, where a "
            "password's @, : and / are written %40, %3A and %2F."
        )
    return kind


def unfinished(study: optuna.Study) -> list[FrozenTrial]:
    """Trials that were begun and whose end nobody told: of a run that was killed."""
    return study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))


def watcher(study: Study | None, seed: int, epochs: int) -> Callable[[dict[str, Any]], None] | None:
    """What reports each of a training's epochs to Optuna, and raises `Pruned` when that has seen enough.

    Raises:
        ParameterError: the storage does not answer, or knows no such trial.
    """
    if study is None:
        return None
    opened = open_study(storage(Path(study.folder)), study.name, seed)
    trial = next((one for one in unfinished(opened) if one.number == study.number), None)
    if trial is None:
        raise ParameterError(
            f"Optuna's storage has no trial {study.number} that is running. Set {STORAGE} for workers and flow alike."
        )
    live = optuna.trial.Trial(opened, trial._trial_id)  # noqa: SLF001  # as Optuna's own Study.ask does

    def watch(row: dict[str, Any]) -> None:
        with answering():
            live.report(row["validation_accuracy"], row["epoch"])
            if row["epoch"] < epochs and live.should_prune():
                raise Pruned(row["epoch"])

    return watch
