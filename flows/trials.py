"""Trials as Prefect tasks: each is `python -m tasks trial` in a process of its own, wherever params.yaml says."""

import argparse
import os
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.futures import as_completed
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from flows import ending, stages
from flows.refusals import refused
from tasks.errors import ParameterError
from tasks.params import Experiments

CONNECT_TIMEOUT_S = 5
QUICK_EPOCHS = 2


def task_runner(settings: Experiments) -> TaskRunner[Any]:
    """Processes of this machine, or a Dask cluster by its scheduler's address.

    Raises:
        ParameterError: nobody answers at that address.
    """
    if settings.runner == "local":
        return ThreadPoolTaskRunner(max_workers=settings.at_once)
    address = urlsplit(settings.runner)
    try:
        socket.create_connection((address.hostname or "", address.port or 8786), CONNECT_TIMEOUT_S).close()
    except OSError as error:
        raise ParameterError(
            f"params.yaml: experiments.runner is {settings.runner!r}, and nobody answers there ({error}). "
            "Start one (`dask scheduler --host 127.0.0.1`), or say local."
        ) from error
    from prefect_dask.task_runners import DaskTaskRunner

    return DaskTaskRunner(address=settings.runner)


def count(text: str) -> int:
    """An argument of a command line that is a number from 1 on."""
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"at least 1, not {text}")
    return int(text)


def run(folders: Mapping[Path, str], settings: Experiments) -> dict[str, str]:
    """Run the trial of each folder, which has a name; name → why, of those that failed."""
    logger, start, failures = get_run_logger(), time.monotonic(), {}
    threads = max(1, (os.cpu_count() or 1) // settings.at_once)
    futures = {
        run_trial.with_options(task_run_name=name).submit(str(folder.resolve()), threads): name
        for folder, name in folders.items()
    }
    try:
        for number, future in enumerate(as_completed(list(futures)), start=1):
            future.wait()
            if not future.state.is_completed():
                failures[futures[future]] = future.state.message or "no reason given"
            left = (time.monotonic() - start) / number * (len(futures) - number)
            logger.info("%d of %d trials done, about %.0f min left", number, len(futures), left / 60)
    except BaseException:  # SIGTERM, Ctrl-C
        ending.processes.end_all()
        raise
    return failures


def failed(failures: Mapping[str, str]) -> State | None:
    """The state of a flow some of whose trials failed; none did: nothing."""
    return refused("; ".join(f"{name}: {reason}" for name, reason in failures.items())) if failures else None


def refuse(flow: str, error: Exception) -> int:
    """Say in one line why a flow is not begun; the exit status."""
    Console().print(f"{flow}: {error}", highlight=False, soft_wrap=True, markup=False)
    return 1


def finish(state: State, page: Path, columns: Sequence[str]) -> int:
    """Print these columns of the page's table, and where the page is; the exit status."""
    console, table = Console(), (stages.ROOT / page).with_suffix(".md")
    if table.is_file():
        lines = [line.strip("| ").split(" | ") for line in table.read_text(encoding="utf-8").splitlines()]
        chosen = [lines[0].index(column) for column in columns]
        shown = Table()
        for number, column in enumerate(columns):
            shown.add_column(column, justify="right" if number else "left", no_wrap=not number)
        for line in lines[2:]:
            shown.add_row(*(line[number] for number in chosen))
        console.print(shown, f"Page: {page}", sep="\n")
    if not state.is_completed():
        console.print(f"[bold red]Not finished.[/] {escape(state.message or '')}", highlight=False, soft_wrap=True)
    return 0 if state.is_completed() else 1


@task(name="trial", cache_policy=NO_CACHE, persist_result=False)
def run_trial(folder: str, threads: int) -> State | None:
    """One trial; what it says is the task's log, its last line the reason if it fails."""
    logger, last = get_run_logger(), ""
    limits = dict.fromkeys(("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"), str(threads))
    command = [sys.executable, "-m", "tasks", "trial", folder]
    try:
        process = ending.processes.start(command, str(stages.ROOT), os.environ | limits | {"PYTHONUNBUFFERED": "1"})
    except InterruptedError as error:
        return refused(str(error))
    with process:
        try:
            for line in process.stdout or ():
                last = line.rstrip() or last
                logger.info(last)
        finally:
            ending.processes.end(process)
    return refused(last or f"exit status {process.returncode}") if process.returncode else None
