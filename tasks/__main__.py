"""Run one stage: `python -m tasks STAGE PATH…`, which is what dvc.yaml does.

A refusal (tasks/errors.py) and a fault of the machine (a full disk, a missing file) are one line and exit status 1;
a bug keeps its traceback. How long the stage took and how much memory goes to data/timings/, outside what DVC hashes.
"""

import argparse
import ast
import gc
import importlib
import inspect
import logging
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from tasks import params
from tasks.errors import OUT_OF_MEMORY, PipelineError, of_memory, worded
from tasks.files import write_json

PARAMS = Path("params.yaml")
TIMINGS = Path("data/timings")
TRIAL = "trial"  # what experiments are made of; runs like a stage
PUBLISHING = ("challenge", "release")  # these too, but with all numbers: what is live is not DVC's

# Before any library is loaded. Telemetry off; TensorFlow's start-up notes off; oneDNN on also where TensorFlow leaves
# it off by default: on an AMD EPYC with AVX2 alone it trained `swift` 1.4 to 1.6 times faster.
ENVIRONMENT = {
    "DO_NOT_TRACK": "1",
    "GX_ANALYTICS_ENABLED": "false",
    "ORT_DISABLE_TELEMETRY": "1",
    "TF_CPP_MIN_LOG_LEVEL": "2",
    "TF_ENABLE_ONEDNN_OPTS": "1",
    "KERAS_BACKEND": "tensorflow",
    "MPLBACKEND": "agg",
}


class UsageError(Exception):
    """The command line does not fit the stage."""


def stages() -> dict[str, str]:
    """Stage → the first line of its module's docstring, read without importing it (TensorFlow takes seconds)."""
    modules = {name: Path(__file__).with_name(f"{name}.py") for name in (*params.STAGES, TRIAL, *PUBLISHING)}
    trees = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in modules.items()}
    return {name: (ast.get_docstring(tree) or "").partition("\n")[0] for name, tree in trees.items()}


def main(arguments: list[str] | None = None) -> int:
    """Run the stage that the arguments name; the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tasks",
        description="Run one stage on files given by path. dvc.yaml has the paths: `dvc repro STAGE` is the usual way.",
        epilog="stages:\n" + "\n".join(f"  {name:<10} {line}" for name, line in stages().items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "stage", choices=[*params.STAGES, TRIAL, *PUBLISHING], metavar="STAGE", help="one of those below"
    )
    parser.add_argument("paths", nargs="*", type=Path, metavar="PATH", help="what it reads, then what it writes")
    chosen = parser.parse_args(arguments)
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    logger = logging.getLogger("tasks")  # ours alone: libraries speak up from WARNING on
    logger.addHandler(logging.StreamHandler(sys.stdout))
    logger.setLevel(logging.INFO)
    try:
        _run(chosen.stage, chosen.paths)
    except UsageError as error:
        parser.error(str(error))
    except PipelineError as error:
        return _refuse(chosen.stage, str(error))
    except OSError as error:
        return _refuse(chosen.stage, worded(error))
    except Exception as error:
        if of_memory(error):
            return _refuse(chosen.stage, OUT_OF_MEMORY)
        raise
    return 0


def _run(stage: str, paths: list[Path]) -> None:
    if stage == TRIAL:
        _load(TRIAL)(*_checked(TRIAL, paths, ["folder"]))
        return
    every = params.load(PARAMS)
    numbers = every if stage in PUBLISHING else params.section(every, stage)
    start = time.perf_counter()
    stage_run = _load(stage)
    stage_run(numbers, *_checked(stage, paths, list(inspect.signature(stage_run).parameters)[1:]))
    timing = {"seconds": round(time.perf_counter() - start, 2), "peak_bytes": _peak_bytes()}
    write_json(TIMINGS / f"{stage}.json", timing)


def _load(stage: str) -> Callable[..., Any]:
    gc.disable()  # there is no garbage yet, and looking for it costs 0.8 s of TensorFlow's 3.9
    with _quiet_start():
        run: Callable[..., Any] = importlib.import_module(f"tasks.{stage}").run
    gc.freeze()
    gc.enable()
    return run


def _checked(stage: str, paths: list[Path], wanted: list[str]) -> list[Path]:
    if len(paths) != len(wanted):
        raise UsageError(f"{stage} takes {len(wanted)} paths: {' '.join(wanted)}. Received {len(paths)}.")
    return paths


def _peak_bytes() -> int:
    """The most memory this process had; Linux's VmHWM, because ru_maxrss starts from the parent's."""
    status = Path("/proc/self/status")
    lines = status.read_text(encoding="ascii").splitlines() if status.is_file() else []
    own = [int(line.split()[1]) for line in lines if line.startswith("VmHWM:")]
    return (own[0] if own else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * 1024


@contextmanager
def _quiet_start() -> Iterator[None]:
    """Hold back standard error while libraries load: TensorFlow writes notes there that no setting silences.

    If loading fails, they are shown.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as notes:
        os.dup2(notes.fileno(), 2)
        try:
            yield
        except BaseException:
            notes.seek(0)
            os.write(kept, notes.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def _refuse(stage: str, line: str) -> int:
    print(f"{stage}: {line}", flush=True)  # standard output, so that the flow's log has it
    return 1


def _end(status: int) -> NoReturn:
    """End at once: what Python tears down of TensorFlow in 0.9 s and of Great Expectations in 0.6 s, the kernel does.

    Every file is written and synced by then (tasks/files.py); mypy ends likewise.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    _end(main())
