import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from tasks import recipes, search
from tasks.errors import ParameterError
from tasks.files import write_json
from tests.conftest import ROOT


@pytest.fixture(scope="module")
def tuned():
    return recipes.load(ROOT / "recipes/tuned_two_conv.yaml")


def with_search(recipe, **spaces):
    return recipes.Recipe.model_validate(
        recipe.model_dump() | {"search": {k.replace("__", "."): v for k, v in spaces.items()}}
    )


def test_search_of_the_published_table_is_in_its_recipe(tuned):
    assert search.distributions(tuned) == {
        "size.filters.0": IntDistribution(32, 128, step=16),
        "size.filters.1": IntDistribution(32, 64, step=16),
        "size.kernel": CategoricalDistribution([3, 5]),
        "size.units": IntDistribution(32, 128, step=16),
        "rate": CategoricalDistribution([0.01, 0.001, 0.0001]),
    }


def test_range_of_rates_is_drawn_on_a_logarithmic_scale(tuned):
    recipe = with_search(tuned, rate={"low": 1e-4, "high": 1e-2, "log": True})

    assert search.distributions(recipe) == {"rate": FloatDistribution(1e-4, 1e-2, log=True)}


@pytest.mark.parametrize(
    ("spaces", "said"),
    [
        pytest.param({"size__filtres__0": [32]}, r"size\.filtres\.0 is not a number of this recipe \(did you mean size\.filters\.0\?\)", id="misspelt"),
        pytest.param({"size__filters__7": [32]}, r"size\.filters\.7 is not a number of this recipe", id="no such layer"),
        pytest.param({"zzz": [32]}, r"zzz is not a number of this recipe \(known: model, ", id="nothing near"),
        pytest.param({"rate__of": [32]}, r"rate\.of is not a number of this recipe", id="a number has no parts"),
        pytest.param({"batch": [32, 0]}, r"search: batch cannot have such a value", id="a value that cannot be"),
        pytest.param({"optimiser": ["adam", "newton"]}, r"search: optimiser cannot have such a value", id="a word that cannot be"),
        pytest.param({}, r"The recipe has no search", id="no search"),
    ],
)  # fmt: skip
def test_search_that_does_not_fit_the_recipe_is_refused(tuned, spaces, said):
    with pytest.raises(ParameterError, match=said):
        search.distributions(with_search(tuned, **spaces))


@pytest.mark.parametrize(
    ("space", "said"),
    [
        pytest.param({"low": 2, "high": 1}, r"low must lie below high \(1\)", id="upside down"),
        pytest.param({"low": 0.0, "high": 1.0, "log": True}, "log needs a low above 0, and no step", id="log of 0"),
        pytest.param({"low": 1, "high": 9, "step": 0.5}, "step must lie above 0, and be whole", id="half steps"),
        pytest.param({"low": 1, "high": 9, "step": -1}, "step must lie above 0", id="backwards"),
        pytest.param({"low": 1, "heigh": 2}, "search.batch.range.heigh is not a parameter", id="misspelt"),
        pytest.param([], "numbers or words, at least one", id="no choice"),
        pytest.param([None, 3], "numbers or words, at least one", id="nothing is no number"),
        pytest.param([[32, 32]], "numbers or words, at least one", id="lists"),
    ],
)
def test_space_that_is_none_is_refused(tuned, tmp_path, space, said):
    path = tmp_path / "recipe.yaml"
    write_json(path, tuned.model_dump() | {"search": {"batch": space}})  # JSON is YAML

    with pytest.raises(ParameterError, match=said):
        recipes.load(path)


def test_search_changes_no_training(tuned):
    assert recipes.described(with_search(tuned)) == recipes.described(tuned)


def test_changed_recipe_has_the_numbers_and_no_search(tuned):
    recipe = search.changed(tuned, {"size.filters.1": 64, "rate": 0.01})

    assert (recipe.size["filters"], recipe.rate, recipe.search) == ([32, 64], 0.01, {})
    assert tuned.size["filters"] == [32, 32], "the recipe itself stays"
