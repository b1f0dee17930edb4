import math

import pytest
import yaml

from tasks import params
from tasks.errors import ParameterError

REAL = {  # the content of params.yaml, for the ids of cases
    field.alias or name: list(field.annotation.model_fields) for name, field in params.Params.model_fields.items()
}
NUMBERS = [
    (section, name)
    for section, names in REAL.items()
    for name in names
    if name not in {"folder", "recipe", "precision", "photograph_odds", "pictures"}
]


@pytest.fixture
def content(numbers):
    return numbers.model_dump(by_alias=True)


@pytest.fixture
def refusal(tmp_path):
    """What is said of a params.yaml with this content."""

    def said(content):
        path = tmp_path / "params.yaml"
        path.write_text(content if isinstance(content, str) else yaml.safe_dump(content), encoding="utf-8")
        with pytest.raises(ParameterError, match=r"^[^\n]*\.$") as caught:  # one line
            params.load(path)
        return str(caught.value).removeprefix(f"{path}")

    return said


def test_load_neither_fills_in_nor_changes_a_value(numbers, pytestconfig):
    text = (pytestconfig.rootpath / "params.yaml").read_text(encoding="utf-8")

    assert numbers.model_dump(by_alias=True) == yaml.safe_load(text)


def test_load_gives_what_cannot_be_changed(numbers):
    with pytest.raises(ValueError, match="frozen"):
        numbers.gate.min_accuracy = 0.0


@pytest.mark.parametrize("stage", REAL)
def test_section_is_the_one_of_the_stage(numbers, content, stage):
    section = params.section(numbers, stage)

    assert type(section).__name__ == stage.capitalize()
    assert section.model_dump() == content[stage]


@pytest.mark.parametrize(("least", "greatest"), [("min_brightness", "max_brightness"), ("min_lit", "max_lit")])
def test_bounds_of_admit_are_in_order(content, refusal, least, greatest):
    content["admit"] |= {least: 0.9, greatest: 0.9}

    assert f"{least} must lie below {greatest} (0.9)." in refusal(content)


@pytest.mark.parametrize(
    ("section", "name", "value", "said"),
    [
        pytest.param(
            "ingest", "attempts", 0, "ingest.attempts is 0, expected greater than or equal to 1", id="too small"
        ),
        pytest.param(
            "ingest", "attempts", 11, "ingest.attempts is 11, expected less than or equal to 10", id="too large"
        ),
        pytest.param(
            "gate", "min_accuracy", 90, "gate.min_accuracy is 90, expected less than or equal to 1", id="percent"
        ),
        pytest.param(
            "export", "max_difference", 1.0, "export.max_difference is 1.0, expected less than 1", id="open end"
        ),
        pytest.param("ingest", "timeout_s", 0, "ingest.timeout_s is 0, expected greater than 0", id="zero seconds"),
        pytest.param("train", "seed", 2**31, "train.seed is 2147483648, expected less than 2147483648", id="seed"),
        pytest.param(
            "ingest", "attempts", 2.0, "ingest.attempts is 2.0, expected a valid integer", id="float for integer"
        ),
        pytest.param(
            "ingest", "attempts", "3", "ingest.attempts is '3', expected a valid integer", id="text for integer"
        ),
        pytest.param(
            "ingest", "attempts", True, "ingest.attempts is True, expected a valid integer", id="yes for integer"
        ),
        pytest.param(
            "gate", "min_recall", True, "gate.min_recall is True, expected a valid number", id="yes for share"
        ),
        pytest.param("gate", "min_recall", None, "gate.min_recall is None, expected a valid number", id="empty"),
        pytest.param("ingest", "folder", 3, "ingest.folder is 3, expected a valid string", id="integer for text"),
        pytest.param(
            "train",
            "precision",
            "float16",
            "train.precision is 'float16', expected 'auto', 'float32' or 'bfloat16'",
            id="choice",
        ),
        pytest.param(
            "train", "lr", 1, "train.lr is not a parameter (known: recipe, precision, accepted, seed)", id="unknown"
        ),
        pytest.param(
            "ingest",
            "attempt",
            1,
            "ingest.attempt is not a parameter (did you mean ingest.attempts?)",
            id="misspelt in a section",
        ),
    ],
)
def test_load_refuses_a_value(content, refusal, section, name, value, said):
    content[section][name] = value

    assert said in refusal(content)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -1, True, None, "1", [], {}], ids=repr)
@pytest.mark.parametrize(("section", "name"), NUMBERS)
def test_load_refuses_for_every_number(content, refusal, section, name, value):
    content[section][name] = value

    assert f"{section}.{name} is {value!r}, expected " in refusal(content)


@pytest.mark.parametrize(
    ("odds", "said"),
    [
        pytest.param({"Coat": 0.0}, "export.photograph_odds.Coat is 0.0, expected greater than 0", id="never"),
        pytest.param({"Coat": math.nan}, "export.photograph_odds.Coat is nan, expected", id="nan"),
    ],
)
def test_load_refuses_odds_that_are_none(content, refusal, odds, said):
    content["export"]["photograph_odds"] = odds

    assert said in refusal(content)


@pytest.mark.parametrize(("section", "name"), [(section, name) for section, names in REAL.items() for name in names])
def test_load_names_the_missing_value(content, refusal, section, name):
    del content[section][name]

    assert refusal(content) == f": {section}.{name} is missing."


@pytest.mark.parametrize("section", REAL)
def test_load_names_the_missing_section(content, refusal, section):
    del content[section]

    assert refusal(content) == f": {section} is missing."


@pytest.mark.parametrize(
    ("name", "said"),
    [
        pytest.param("trian", "trian is not a parameter (did you mean train?)", id="misspelt"),
        pytest.param("validate_", "validate_ is not a parameter (did you mean validate?)", id="our name for a section"),
        pytest.param("zzz", "zzz is not a parameter (known: ingest, validate, admit, normalise", id="nothing near"),
    ],
)
def test_load_refuses_an_unknown_section(content, refusal, name, said):
    content[name] = {}

    assert said in refusal(content)


def test_load_names_every_fault_at_once(content, refusal):
    content["ingest"] |= {"attempts": 0, "timeout_s": "many"}
    del content["gate"]

    assert refusal(content) == (
        ": ingest.timeout_s is 'many', expected a valid number; ingest.attempts is 0, expected greater than or equal to 1; "
        "gate is missing."
    )


@pytest.mark.parametrize(("least", "greatest"), [(80.0, 65.0), (65.0, 65.0)], ids=["swapped", "equal"])
def test_load_refuses_bounds_that_nothing_lies_between(content, refusal, least, greatest):
    content["validate"] |= {"min_brightness": least, "max_brightness": greatest}

    assert f"min_brightness must lie below max_brightness ({greatest})." in refusal(content)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("train: [1", " is not YAML: ", id="not YAML"),
        pytest.param("train: \x07", " is not YAML: ", id="control character"),
        pytest.param("", ": a valid dictionary", id="empty file"),
        pytest.param("- train", ": a valid dictionary", id="a list"),
        pytest.param("train: 5", "train is 5, expected a valid dictionary", id="a number for a section"),
        pytest.param("1: 5", "1 is ", id="a number for a name"),
    ],
)
def test_load_refuses_a_file(refusal, text, said):
    assert said in refusal(text)


def test_load_refuses_a_file_that_is_not_utf_8(tmp_path):
    (tmp_path / "params.yaml").write_bytes("folder: é".encode("latin-1"))

    with pytest.raises(ParameterError, match=r"params\.yaml is not YAML: .*utf-8"):
        params.load(tmp_path / "params.yaml")


def test_load_refuses_an_absent_file(tmp_path):
    with pytest.raises(ParameterError, match=r"params\.yaml is absent\. Run the command in the project's folder\.$"):
        params.load(tmp_path / "params.yaml")


def test_load_refuses_a_date_that_is_none(refusal):
    assert "is not YAML" in refusal("ingest: {folder: 2024-13-45}")
