import keras
import numpy as np
import pytest
import tensorflow as tf

import models
from tasks import engine
from tasks.arrays import Split
from tasks.recipes import Teacher


def trainer(split, recipe, seed=7):
    keras.utils.set_random_seed(seed)
    model = models.build(recipe.model, mean=0.3, deviation=0.3, **recipe.size)
    return model, engine.Trainer(model, split, recipe, seed)


def weights(model):
    return [np.asarray(variable) for variable in model.trainable_variables]


@pytest.fixture(scope="module")
def stripes():
    """Ten classes that differ by where a bright stripe stands: 640 images."""
    generator = np.random.default_rng(5)
    labels = np.tile(np.arange(10, dtype=np.uint8), 64)
    images = generator.integers(0, 60, (640, 28, 28), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[2 + 2 * label : 4 + 2 * label] = 230
    return Split(images, labels)


@pytest.fixture(scope="module")
def few(recipe):
    """Four epochs of 20 steps of a small net that drops and erases, too."""
    size = {"width": 4, "blocks": 1, "dropout": 0.2}
    return recipe.model_copy(update={"size": size, "epochs": 4, "batch": 32, "erase": 0.2, "shift": 1})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("optimiser", "rate", "schedule"),
    [
        pytest.param("muon", 0.03, "cosine", id="muon"),
        pytest.param("adam", 0.01, "constant", id="adam"),
        pytest.param("sgd", 0.05, "constant", id="sgd"),
    ],
)
def test_training_learns_and_says_where_it_stands(stripes, few, optimiser, rate, schedule):
    changes = {"optimiser": optimiser, "rate": rate, "schedule": schedule, "erase": 0.0, "shift": 0, "flip": False}
    _, training = trainer(stripes, few.model_copy(update=changes))

    words = [word for epoch in range(4) for word in training.epoch(epoch)]

    assert [word.step for word in words] == [20, 40, 60, 80]  # 640 / 32 steps fit into one call
    assert training.steps == 80
    assert words[-1].loss < words[0].loss / 1.5


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [pytest.param({}, id="garments alone"), pytest.param({"photographed": 0.3, "strangers": 0.1}, id="and others")],
)
def test_training_that_goes_on_from_a_state_ends_as_one_that_was_not_interrupted(stripes, few, changes):
    few = few.model_copy(update=changes)
    model, whole = trainer(stripes, few)
    for epoch in range(4):
        for _ in whole.epoch(epoch):
            pass
        if epoch == 1:
            state = whole.state()
    expected, averaged = weights(model), whole.state()

    model, second = trainer(stripes, few, seed=7)
    second.restore(state)
    for epoch in (2, 3):
        for _ in second.epoch(epoch):
            pass

    for one, other in zip(expected, weights(model), strict=True):
        np.testing.assert_array_equal(one, other)
    for one, other in zip(averaged, second.state(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_averaged_weights_are_there_within_the_block_and_for_good_at_the_end(stripes, few):
    model, training = trainer(stripes, few)
    for _ in training.epoch(0):
        pass
    trained = weights(model)

    with training.averaged():
        averaged = weights(model)
    after = weights(model)
    training.finish()

    assert not np.array_equal(trained[0], averaged[0])
    for one, other in zip(trained, after, strict=True):
        np.testing.assert_array_equal(one, other)
    for one, other in zip(averaged, weights(model), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_recipe_without_averaging_keeps_the_last_weights(stripes, few):
    model, training = trainer(stripes, few.model_copy(update={"averaging": 0.0}))
    for _ in training.epoch(0):
        pass
    trained = weights(model)

    training.finish()

    for one, other in zip(trained, weights(model), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_an_absurd_rate_gives_a_loss_that_is_no_number(stripes, few):
    _, training = trainer(stripes, few.model_copy(update={"adam_rate": 1e30}))

    losses = [word.loss for epoch in range(2) for word in training.epoch(epoch)]

    assert not np.isfinite(losses[-1])


def log_softmax(values):
    return values - np.log(np.exp(values).sum(axis=1, keepdims=True))


def soft(classes):
    """A teacher's answers, of the images and their mirror images alike: this class, without a doubt."""
    logits = np.zeros((2, len(classes), 10), np.float32)
    logits[:, np.arange(len(classes)), classes] = 12.0
    return logits


@pytest.mark.slow
@pytest.mark.parametrize(("share", "believed"), [(1.0, "teacher"), (0.0, "labels")])
def test_student_learns_from_its_teacher_by_its_share(stripes, few, share, believed):
    wrong = (stripes.labels + 1) % 10  # the teacher says another class of each
    teacher = {"share": share, "temperature": 2.0, "recipe": few}
    recipe = few.model_copy(update={"teacher": Teacher(**teacher), "erase": 0.0, "shift": 0})
    keras.utils.set_random_seed(7)
    model = models.build(recipe.model, mean=0.3, deviation=0.3, **recipe.size)
    training = engine.Trainer(model, stripes, recipe, 7, soft(wrong))
    for epoch in range(4):
        for _ in training.epoch(epoch):
            pass
    training.finish()

    said = np.asarray(model.predict_on_batch(stripes.images)).argmax(axis=1)

    truth = {"teacher": wrong, "labels": stripes.labels}[believed]
    assert (said == truth).mean() > 0.5


def test_loss_with_a_teacher_known_answer(recipe):
    split = Split(np.zeros((3, 28, 28), np.uint8), np.array([0, 1, 2], np.uint8))
    lessons = np.random.default_rng(3).normal(size=(2, 3, 10)).astype(np.float32)
    teacher = Teacher(share=0.3, temperature=2.0, recipe=recipe)
    logits, indices, mirrored = np.eye(10, dtype=np.float32)[[4, 1]] * 3, np.array([2, 1]), np.array([1, 0])

    loss_of = engine._loss(split, recipe.model_copy(update={"teacher": teacher, "label_smoothing": 0.0}), lessons)
    loss, right = loss_of(
        *(tf.constant(value) for value in (logits, indices.astype(np.int32), mirrored.astype(np.int32)))
    )

    said = np.exp(log_softmax(lessons[mirrored, indices] / 2))
    hard = -log_softmax(logits)[np.arange(2), [2, 1]].mean()
    softened = -(said * log_softmax(logits / 2)).sum(axis=1).mean()
    assert float(loss) == pytest.approx(0.7 * hard + 0.3 * 4 * softened, rel=1e-5)
    assert right.numpy().tolist() == [False, True]


@pytest.mark.parametrize("taught", [False, True], ids=["labels", "labels and teacher"])
def test_loss_of_strangers_known_answer(recipe, taught):
    """The first half of a batch: every class is as likely, by labels and teacher, and none of them counts as right."""
    split = Split(np.zeros((4, 28, 28), np.uint8), np.array([0, 1, 2, 3], np.uint8))
    lessons = np.random.default_rng(3).normal(size=(2, 4, 10)).astype(np.float32)
    teacher = Teacher(share=0.3, temperature=2.0, recipe=recipe) if taught else None
    changes = {"teacher": teacher, "label_smoothing": 0.2, "strangers": 0.5, "batch": 4}
    logits = np.random.default_rng(4).normal(size=(4, 10)).astype(np.float32)
    logits[[0, 1, 2, 3], [3, 2, 1, 5]] = 9.0  # right but for the last one
    indices, mirrored = np.array([3, 2, 1, 0], np.int32), np.array([1, 0, 1, 0], np.int32)

    loss_of = engine._loss(split, recipe.model_copy(update=changes), lessons)
    loss, right = loss_of(*map(tf.constant, (logits, indices, mirrored)))

    targets = np.full((4, 10), 0.1)
    targets[2:] = 0.02
    targets[[2, 3], [1, 0]] = 0.82
    said = np.exp(log_softmax(lessons[mirrored, indices] / 2))
    said[:2] = 0.1
    hard = -(targets * log_softmax(logits)).sum(axis=1).mean()
    softened = -(said * log_softmax(logits / 2)).sum(axis=1).mean()
    assert float(loss) == pytest.approx(0.7 * hard + 0.3 * 4 * softened if taught else hard, rel=1e-5)
    assert right.numpy().tolist() == [True, False], "of the garments alone"
