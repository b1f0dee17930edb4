from pathlib import Path

import keras
import pytest
import yaml

from tasks import recipes, trained
from tasks.errors import ParameterError

FOLDER = Path(__file__).resolve().parent.parent / "recipes"


@pytest.fixture
def written(tmp_path):
    """(changes, without) → a recipe file like swift's."""

    def write(changes, without=()):
        content = yaml.safe_load((FOLDER / "swift.yaml").read_text())
        content = {name: value for name, value in (content | changes).items() if name not in without}
        (tmp_path / "swift.yaml").write_text(yaml.safe_dump(content))
        return tmp_path / "swift.yaml"

    return write


@pytest.mark.parametrize("name", recipes.names(FOLDER))
def test_every_recipe_is_whole_and_its_model_builds(name):
    recipe = recipes.load(FOLDER / f"{name}.yaml")

    model = trained.build(recipe.model, recipe.size, mean=0.286, deviation=0.353)

    assert model.output.shape == (None, 10)
    assert recipe.source
    assert isinstance(model, keras.Model)


@pytest.mark.parametrize(
    ("changes", "without", "said"),
    [
        pytest.param({"epochs": 0}, (), r"epochs is 0, expected greater than or equal to 1", id="out of range"),
        pytest.param({"epoch": 3}, ("epochs",), r"epoch is not a parameter \(did you mean epochs\?\)", id="misspelt"),
        pytest.param({}, ("rate",), r"rate is missing", id="missing"),
        pytest.param({"rate": "1e-3"}, (), r"rate is '1e-3', expected a valid number", id="a text"),
        pytest.param({"optimiser": "adamm"}, (), r"optimiser is 'adamm', expected 'muon', 'adam' or 'sgd'", id="choice"),
        pytest.param({"photographed": 1.5}, (), r"photographed is 1\.5, expected less than or equal to 1", id="more than all"),
        pytest.param({"strangers": -0.1}, (), r"strangers is -0\.1, expected greater than or equal to 0", id="fewer than none"),
        pytest.param({"published": {"test": 2.0, "train": None}}, (), r"published\.test is 2\.0", id="nested"),
        pytest.param({"published": {"tests": 0.9, "test": None, "train": None}}, (), r"did you mean published\.test\?", id="nested, misspelt"),
    ],
)  # fmt: skip
def test_unusable_recipe_is_refused(written, changes, without, said):
    with pytest.raises(ParameterError, match=said):
        recipes.load(written(changes, without))


def test_recipe_that_does_not_say_so_has_garments_alone_as_they_are(written):
    recipe = recipes.load(written({}, ("photographed", "strangers")))

    assert (recipe.photographed, recipe.strangers) == (0.0, 0.0)


def test_recipe_that_is_not_there_is_named_with_the_nearest(written):
    path = written({}).with_name("swoft.yaml")

    with pytest.raises(ParameterError, match=r"no recipe .*swoft\.yaml \(did you mean swift\?\)"):
        recipes.load(path)


def test_recipe_like_no_other_is_answered_with_those_there_are(written):
    path = written({}).with_name("forest.yaml")

    with pytest.raises(ParameterError, match=r"no recipe .*forest\.yaml \(known: swift\)\."):
        recipes.load(path)


def test_recipe_that_is_no_yaml_is_refused(tmp_path):
    (tmp_path / "odd.yaml").write_text("a: [")

    with pytest.raises(ParameterError, match=r"odd\.yaml is not YAML"):
        recipes.load(tmp_path / "odd.yaml")


def test_where_a_recipe_comes_from_does_not_name_its_training(written):
    first = recipes.described(recipes.load(written({"source": "a book"})))

    assert first == recipes.described(recipes.load(written({"source": "a page"})))
    assert first != recipes.described(recipes.load(written({"epochs": 3})))


@pytest.mark.parametrize("name", ["small", "catalogue"])
def test_a_teacher_that_is_written_out_is_the_recipe_of_that_name(name):
    assert recipes.load(FOLDER / f"{name}.yaml").teacher.recipe == recipes.load(FOLDER / "accurate.yaml")


def test_shortened_recipe_has_a_shortened_teacher():
    short = recipes.shortened(recipes.load(FOLDER / "small.yaml"), 2)

    assert (short.epochs, short.teacher.recipe.epochs) == (2, 2)


def test_a_teacher_of_a_teacher_is_refused(written):
    small = yaml.safe_load((FOLDER / "small.yaml").read_text())
    path = written({"teacher": small["teacher"] | {"recipe": small}})

    with pytest.raises(ParameterError, match="teacher is .*expected a recipe without a teacher of its own"):
        recipes.load(path)


def test_small_is_small():
    recipe = recipes.load(FOLDER / "small.yaml")

    assert trained.build(recipe.model, recipe.size, mean=0.286, deviation=0.353).count_params() <= 100_000
