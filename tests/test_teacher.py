import numpy as np
import pytest

from tasks import fitting, recipes, splits, teacher
from tasks.files import read_json

pytestmark = pytest.mark.slow


@pytest.fixture
def student(recipe):
    few = recipe.model_copy(update={"size": {"width": 4, "blocks": 1}, "epochs": 2, "batch": 32})
    return few.model_copy(update={"teacher": recipes.Teacher(share=0.5, temperature=2.0, recipe=few)})


@pytest.fixture
def ask(normalised, tmp_path):
    """(recipe) → what its teacher says of the tiny training images."""
    fitting.set_up("float32", 7)
    halves = splits.read(normalised, "train"), splits.read(normalised, "validation")
    stats = read_json(normalised / splits.STATS)
    return lambda recipe: teacher.lessons(recipe, *halves, stats, 7, tmp_path / "teachers")


def test_recipe_without_a_teacher_has_no_lessons(ask, recipe, tmp_path):
    assert ask(recipe) is None
    assert not (tmp_path / "teachers").exists()


def test_teacher_says_something_of_each_image_and_its_mirror_image(ask, student):
    lessons = ask(student)

    assert (lessons.shape, lessons.dtype) == ((2, 320, 10), np.float32)
    assert not np.array_equal(lessons[0], lessons[1])


def test_teacher_is_trained_once(ask, student, monkeypatch, tmp_path):
    first = ask(student)
    monkeypatch.setattr(fitting, "fit", None)  # whoever calls it fails

    np.testing.assert_array_equal(ask(student.model_copy(update={"epochs": 3})), first)
    assert [path.suffix for path in (tmp_path / "teachers").iterdir() if path.is_file()] == [".npy"]


def test_killed_teacher_goes_on(ask, student, monkeypatch, caplog):
    measure, calls = fitting.measure, []

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) > 1:
            raise KeyboardInterrupt
        return measure(*arguments)

    monkeypatch.setattr(fitting, "measure", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ask(student)
    monkeypatch.setattr(fitting, "measure", measure)

    with caplog.at_level("INFO"):
        ask(student)

    assert "train: goes on after epoch 1" in caplog.text


def test_what_a_recipe_with_a_teacher_depends_on_has_the_teacher_in_it(student):
    described = recipes.described(student)

    assert described["teacher"]["recipe"] == recipes.described(student.teacher.recipe)
    assert "source" not in described["teacher"]["recipe"]
    assert "teacher" not in recipes.described(student.teacher.recipe)
