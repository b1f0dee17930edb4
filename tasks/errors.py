"""The refusals of the pipeline.

    PipelineError          one line for people, exit status 1
    ├── ParameterError     params.yaml has a name or a value that cannot be used
    ├── DataError          a file is missing, broken or not what it should be
    ├── TrainingError      the loss stopped being a number
    ├── GateError          the model is not good enough, or cannot be judged
    ├── ExportError        Keras and ONNX disagree
    ├── ChallengeError     the new model may not replace the live one
    ├── ReleaseError       nothing was released, promoted or taken back
    └── BusyError          another run writes here

A bug is none of these and keeps its traceback. A fault of the machine, an OSError, is `worded` for people.
"""

import errno
import signal

OUT_OF_MEMORY = "Memory ran out. End other programs, or give this machine more, and run again."


class PipelineError(Exception):
    """A refusal: what was wrong, where, and what to do, in one line."""


class ParameterError(PipelineError):
    pass


class DataError(PipelineError):
    pass


class TrainingError(PipelineError):
    pass


class GateError(PipelineError):
    pass


class ExportError(PipelineError):
    pass


class ChallengeError(PipelineError):
    pass


class ReleaseError(PipelineError):
    pass


class BusyError(PipelineError):
    pass


def worded(error: OSError) -> str:
    """A fault of the machine, with what to do."""
    where = f"{error.filename}: " if error.filename else ""
    if error.errno == errno.ENOMEM:
        return where + OUT_OF_MEMORY
    if error.errno == errno.ENOENT and not where:  # Python's tempfile found no folder to write to
        return f"{error.strerror}. Free some space there and run again."
    remedy = {
        errno.ENOENT: "Run `dvc repro` to make it, or `dvc checkout` to bring it back.",
        errno.ENOSPC: "Free some space and run again; what was published before is untouched.",
        errno.EFBIG: "Raise the limit on file sizes (`ulimit -f`) and run again.",
        errno.EACCES: "Give this user the right to it and run again.",
    }.get(error.errno or 0, "Mend this and run again.")
    return f"{where}{error.strerror or error}. {remedy}"


def of_memory(error: BaseException) -> bool:
    """Whether memory ran out: Python's own error, TensorFlow's, or oneDNN's within TensorFlow (status 1)."""
    name = type(error).__name__
    by_onednn = name == "AbortedError" and "Status: 1," in str(error)
    return isinstance(error, MemoryError) or name == "ResourceExhaustedError" or by_onednn


def how_ended(status: int) -> str:
    """Why a process failed that did not say why, by its exit status as Python has it."""
    return f"ended by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
