"""Trials laid out in folders, and their results read back: what every experiment begins and ends with.

No TensorFlow here: the trials themselves run in processes of their own (tasks/trial.py).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tasks.files import read_json, write_json
from tasks.params import Section, Seed
from tasks.recipes import Recipe

TRIAL, RESULT, HISTORY, MODEL = "trial.json", "result.json", "history.csv", "model.onnx"


class Study(Section):
    """Which trial of Optuna's this is; tasks/tuning.py knows where it keeps them."""

    folder: str  # of its trials
    name: str
    number: int  # from 0


class Trial(Section):
    """What is to be trained, and on what it is measured."""

    name: str  # for people
    recipe: Recipe
    normalised: str  # the folder of that stage
    fold: int | None  # from 0: held out of all training images; None = the validation images are
    folds: int  # how many there are
    test: bool  # measured on the test images, too
    seed: Seed
    precision: str
    study: Study | None = None  # told of every epoch, and may end the trial


def lay_out(folder: Path, trial: Trial) -> Path:
    """Write what is to be done into a folder, which is returned."""
    write_json(folder / TRIAL, trial.model_dump())
    return folder


def results(folders: Sequence[Path]) -> list[dict[str, Any]]:
    """The results that there are, in the order of the folders."""
    return [read_json(folder / RESULT) for folder in folders if (folder / RESULT).is_file()]
