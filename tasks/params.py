"""The numbers of params.yaml, typed: one section per stage, no defaults, nothing unknown.

A schema only checks: it never fills in, converts or changes a value. So DVC, which watches the values themselves,
need not run a stage again when this file changes.
"""

import difflib
import re
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from tasks.errors import ParameterError

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
GreyLevel = Annotated[float, Field(ge=0, le=255)]
Schema = TypeVar("Schema", bound=BaseModel)
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Section(BaseModel):
    """The numbers of one stage."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Ingest(Section):
    folder: str
    timeout_s: Positive
    attempts: Annotated[int, Field(ge=1, le=10)]


class Validate(Section):
    train_per_class: Count
    test_per_class: Count
    min_brightness: GreyLevel
    max_brightness: GreyLevel
    max_copies_within: Annotated[int, Field(ge=0)]
    max_copies_across: Annotated[int, Field(ge=0)]

    @model_validator(mode="after")
    def _bounds_are_in_order(self) -> "Validate":
        if not self.min_brightness < self.max_brightness:
            raise ValueError(f"min_brightness must lie below max_brightness ({self.max_brightness})")
        return self


class Admit(Section):
    views: Annotated[int, Field(ge=1, le=6)]
    max_share: Share
    min_test_distance: GreyLevel
    min_brightness: GreyLevel
    max_brightness: GreyLevel
    min_lit: Share
    max_lit: Share
    min_likeness: Share
    max_set_aside: Share
    min_pictures: Count

    @model_validator(mode="after")
    def _bounds_are_in_order(self) -> "Admit":
        if not self.min_brightness < self.max_brightness:
            raise ValueError(f"min_brightness must lie below max_brightness ({self.max_brightness})")
        if not self.min_lit < self.max_lit:
            raise ValueError(f"min_lit must lie below max_lit ({self.max_lit})")
        return self


class Normalise(Section):
    validation_per_class: Count
    seed: Seed


class Train(Section):
    recipe: str
    precision: Literal["auto", "float32", "bfloat16"]
    accepted: Annotated[float, Field(gt=0, lt=1)]
    seed: Seed


class Evaluate(Section):
    calibration_bins: Annotated[int, Field(ge=2, le=100)]
    confused_pairs: Annotated[int, Field(ge=1, le=90)]
    seed: Seed


class Gate(Section):
    min_accuracy: Share
    min_recall: Share


class Export(Section):
    max_difference: Annotated[float, Field(gt=0, lt=1)]
    photograph_odds: dict[str, Annotated[float, Field(gt=0, le=1000)]]  # by class; export knows their names


class Quantise(Section):
    images: Count
    method: Literal["minmax", "entropy", "percentile"]
    seed: Seed
    max_loss: Share
    min_speedup: Annotated[float, Field(ge=1, allow_inf_nan=False)]
    min_saved_bytes: Count


class Bundle(Section):
    golden_per_class: Annotated[int, Field(ge=1, le=20)]
    golden_tolerance_int8: Annotated[float, Field(gt=0, lt=1)]
    golden_tolerance: Annotated[float, Field(gt=0, lt=1)]


class Report(Section):
    samples_per_class: Annotated[int, Field(ge=1, le=20)]
    mistakes: Annotated[int, Field(ge=0, le=200)]


class Experiments(Section):
    """Of comparison, cross-validation and tuning; no stages of the pipeline."""

    runner: str
    at_once: Annotated[int, Field(ge=1, le=256)]
    folds: Annotated[int, Field(ge=2, le=100)]
    trials: Count
    most_epochs: Count
    seed: Seed

    @field_validator("runner")
    @classmethod
    def _runner_is_here_or_has_an_address(cls, runner: str) -> str:
        if not re.fullmatch(r"local|tcp://[\w.-]+:\d+", runner):
            raise ValueError("local or the address of a Dask scheduler, such as tcp://127.0.0.1:8786")
        return runner


class Challenge(Section):
    """When a model may replace the live one; no stage of the pipeline."""

    margin: Annotated[float, Field(gt=0, lt=1)]
    confidence: Annotated[float, Field(ge=0.5, lt=1)]
    max_class_drop: Share
    max_calibration_error: Share
    max_calibration_rise: Share
    max_drift: Share
    pictures: str


class Release(Section):
    """Of releases; no stage of the pipeline."""

    keep: Annotated[int, Field(ge=2, le=1000)]
    push_timeout_s: Positive


class Params(Section):
    """The whole of params.yaml."""

    ingest: Ingest
    validate_: Annotated[Validate, Field(alias="validate")]  # BaseModel.validate exists
    admit: Admit
    normalise: Normalise
    train: Train
    evaluate: Evaluate
    gate: Gate
    export: Export
    quantise: Quantise
    bundle: Bundle
    report: Report
    experiments: Experiments
    challenge: Challenge
    release: Release


NO_STAGES = {"experiments", "challenge", "release"}
STAGES = [field.alias or name for name, field in Params.model_fields.items() if name not in NO_STAGES]


def load(path: Path) -> Params:
    """Read and check params.yaml.

    Raises:
        ParameterError: it is absent, not YAML, or has an unknown, missing or unusable entry; one line names them all.
    """
    try:
        return read(path, Params)
    except FileNotFoundError as error:
        raise ParameterError(f"{path} is absent. Run the command in the project's folder.") from error


def read(path: Path, schema: type[Schema]) -> Schema:
    """A YAML file as a schema has it.

    Raises:
        FileNotFoundError: it is absent.
        ParameterError: it is not YAML, or has an unknown, missing or unusable entry; one line names them all.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError) as error:
        raise ParameterError(f"{path} is not YAML: {' '.join(str(error).split())}.") from error
    return check(content, schema, str(path))


def check(content: Any, schema: type[Schema], name: str) -> Schema:
    """What was read, as a schema has it; `name` says where it was read.

    Raises:
        ParameterError: it has an unknown, missing or unusable entry; one line names them all.
    """
    try:
        return schema.model_validate(content)
    except ValidationError as error:
        sentences = [_sentence(dict(fault), schema) for fault in error.errors(include_url=False)]
        raise ParameterError(f"{name}: {'; '.join(sentences)}.") from error


def section(params: Params, stage: str) -> Section:
    """The section of a stage, by the stage's name."""
    found: Section = getattr(params, "validate_" if stage == "validate" else stage)
    return found


def _sentence(fault: dict[str, Any], schema: type[BaseModel]) -> str:
    """What is wrong with one entry, in words: pydantic's fault without its codes."""
    name = ".".join(str(part) for part in fault["loc"]) or "the file"
    if fault["type"] == "extra_forbidden":
        return f"{name} is not a parameter{_suggestion(fault['loc'], schema)}"
    if fault["type"] == "missing":
        return f"{name} is missing"
    wanted = fault["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    return f"{name} is {fault['input']!r}, expected {wanted}" if name != "the file" else f"{wanted} expected"


def _suggestion(location: tuple[str, ...], schema: type[BaseModel]) -> str:
    """The parameter that was probably meant; nothing where names are free."""
    for part in location[:-1]:
        annotation = _fields(schema)[part].annotation
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return ""
        schema = annotation
    known = list(_fields(schema))
    near = difflib.get_close_matches(location[-1], known, n=1)
    return f" (did you mean {'.'.join([*location[:-1], near[0]])}?)" if near else f" (known: {', '.join(known)})"


def _fields(schema: type[BaseModel]) -> dict[str, Any]:
    return {field.alias or name: field for name, field in schema.model_fields.items()}
