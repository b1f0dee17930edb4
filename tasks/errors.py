"""The refusals of the pipeline.

    PipelineError          one line for people, exit status 1
    ├── ParameterError     params.yaml has a name or a value that cannot be used
    ├── DataError          a file is missing, broken or not what it should be
    ├── TrainingError      the loss stopped being a number
    ├── GateError          the model is not good enough, or cannot be judged
    └── ExportError        Keras and ONNX disagree

A bug is none of these and keeps its traceback.
"""


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
