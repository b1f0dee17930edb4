"""The training loop: compiled, over data in memory, gathered and augmented in the graph.

Keras's `fit` costs Python time at every step, which on so small a net is a good part of it
(https://github.com/keras-team/keras/issues/18648); here Python is asked once for some thousand images, which are also
gathered and augmented at once, batch by batch only trained on.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeAlias

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tasks.arrays import Split
from tasks.augment import augmenter, strangers
from tasks.recipes import Recipe

IMAGES_PER_CALL = 4096  # 15 MB at most while they are looked up; more makes nothing faster
STEPS_PER_AVERAGING = 8
WARM_UP = 0.1  # share of all steps


Lessons: TypeAlias = NDArray[np.float32]  # a teacher's logits, (2, n, 10): of each image, and of its mirror image


class Progress(NamedTuple):
    step: int  # of the whole run, done
    loss: float  # mean over the epoch so far, in nats
    accuracy: float  # likewise, of the images as they are trained on


class Trainer:
    """A model in training, with its optimiser and the running average of its weights.

    The average is an exponential one, of every eighth step (https://arxiv.org/abs/1803.05407 has the idea). Whatever is
    drawn at random is fixed by the seed and the number of the epoch or step, so that a training that was interrupted
    ends as it would have.
    """

    def __init__(
        self, model: keras.Model, train: Split, recipe: Recipe, seed: int, lessons: Lessons | None = None
    ) -> None:
        """`model`: uint8 (n, 28, 28) → logits (n, 10), trained in place; `train`: n ≥ recipe.batch images."""
        self.steps_per_epoch = len(train.labels) // recipe.batch
        self.steps = self.steps_per_epoch * recipe.epochs
        self._model, self._recipe, self._seed, self._count = model, recipe, seed, len(train.labels)
        self._optimiser = optimiser(recipe, self.steps)
        self._optimiser.build(model.trainable_variables)
        self._averages = [tf.Variable(variable.value) for variable in model.trainable_variables]
        loss = _loss(train, recipe, lessons)
        self._run = _compiled(model, self._optimiser, self._averages, augmenter(train, recipe, seed), loss, recipe)

    def epoch(self, number: int) -> Iterator[Progress]:
        """Train for one epoch (from 0), giving word after every few steps."""
        batch, first_step = self._recipe.batch, number * self.steps_per_epoch
        order = np.random.default_rng([self._seed, number]).permutation(self._count)
        batches = order[: self.steps_per_epoch * batch].reshape(self.steps_per_epoch, batch).astype(np.int32)
        sums = np.zeros(2)
        steps_at_once = max(1, IMAGES_PER_CALL // batch)
        for first in range(0, self.steps_per_epoch, steps_at_once):
            part = batches[first : first + steps_at_once]
            sums += self._run(tf.constant(part), tf.constant(first_step + first)).numpy()
            done = first + len(part)
            yield Progress(first_step + done, *(sums / done).tolist())

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Within the block the model has the weights that count: the averaged ones, if the recipe averages."""
        variables = self._model.trainable_variables
        trained = [variable.numpy() for variable in variables]
        self.finish()
        try:
            yield
        finally:
            _assign(variables, trained)

    def finish(self) -> None:
        """Give the model the weights that count, for good."""
        if self._recipe.averaging:
            _assign(self._model.trainable_variables, self._averages)

    def state(self) -> list[Any]:
        """Everything that changes during training, as arrays."""
        return [np.asarray(variable) for variable in self._variables()]

    def restore(self, state: list[Any]) -> None:
        """Go on from a state of the same recipe and data."""
        _assign(self._variables(), state)

    def _variables(self) -> list[Any]:
        return [*self._model.variables, *self._optimiser.variables, *self._averages]


def optimiser(recipe: Recipe, steps: int) -> keras.optimizers.Optimizer:
    """The recipe's optimiser; a cosine is warmed up over the first tenth of the steps.

    Muon (https://kellerjordan.github.io/posts/muon) is for the kernels, AdamW for the rest. Its steps have unit
    spectral norm: standardised kernels have one scale, whatever their shape, so that it decays no weights either.
    """
    rate: Any = recipe.rate
    if recipe.schedule == "cosine":
        warm_up = max(1, round(WARM_UP * steps))
        rate = keras.optimizers.schedules.CosineDecay(
            recipe.rate / 50, max(1, steps - warm_up), warmup_target=recipe.rate, warmup_steps=warm_up
        )
    if recipe.optimiser == "adam":
        return keras.optimizers.Adam(rate)
    if recipe.optimiser == "sgd":
        return keras.optimizers.SGD(rate, momentum=0.9)
    return keras.optimizers.Muon(
        rate,
        adam_lr_ratio=(recipe.adam_rate or recipe.rate) / recipe.rate,
        adam_beta_2=0.99,
        exclude_layers=["head"],
        ns_steps=4,
        rms_rate=None,
        weight_decay=None,
        adam_weight_decay=None,
    )


def _loss(train: Split, recipe: Recipe, lessons: Lessons | None) -> Callable[[Any, Any, Any], tuple[Any, Any]]:
    """(logits (b, 10), indices (b,), which are mirrored (b,)) → mean loss in nats, and which are right, (b,) bool.

    Cross-entropy with smoothed labels; with a teacher also with its answers, both softened by the temperature
    (https://arxiv.org/abs/1503.02531, section 2). Of strangers, the first of a batch, every class is as likely.
    """
    strange = strangers(recipe)
    labels, smoothing, teacher = tf.constant(train.labels.astype(np.int32)), recipe.label_smoothing, recipe.teacher
    answers = tf.constant(lessons) if teacher else None

    def loss_of(logits: Any, indices: Any, mirrored: Any) -> tuple[Any, Any]:
        truth = tf.gather(labels, indices)
        known = tf.range(tf.size(indices))[:, None] >= strange
        targets = tf.where(known, tf.one_hot(truth, 10) * (1 - smoothing) + smoothing / 10, 0.1)
        loss = tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(targets, logits))
        if teacher:
            heat = teacher.temperature
            said = tf.nn.softmax(tf.gather_nd(answers, tf.stack([mirrored, indices], axis=1)) / heat)
            said = tf.where(known, said, 0.1)
            distance = tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(said, logits / heat))
            loss = (1 - teacher.share) * loss + teacher.share * heat**2 * distance
        return loss, (tf.argmax(logits, axis=1, output_type=tf.int32) == truth)[strange:]

    return loss_of


def _assign(variables: list[Any], values: list[Any]) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def _compiled(
    model: keras.Model,
    optimiser: keras.optimizers.Optimizer,
    averages: list[Any],
    images_at: Callable[[Any, Any], tuple[Any, Any]],
    loss_of: Callable[[Any, Any, Any], tuple[Any, Any]],
    recipe: Recipe,
) -> Callable[[Any, Any], Any]:
    """(indices (steps, batch) int32, number of the first step) → sums over the steps of loss and accuracy, (2,)."""
    variables = model.trainable_variables

    @tf.function(input_signature=[tf.TensorSpec((None, None), tf.int32), tf.TensorSpec((), tf.int32)])
    def run(batches: Any, first_step: Any) -> Any:
        sums = tf.zeros(2)
        images, mirrored = images_at(batches, first_step)
        for offset in tf.range(tf.shape(batches)[0]):
            step = first_step + offset
            with tf.GradientTape() as tape:
                logits = tf.cast(model(images[offset], training=True), tf.float32)
                loss, right = loss_of(logits, batches[offset], mirrored[offset])
            optimiser.apply(tape.gradient(loss, [variable.value for variable in variables]), variables)
            sums += tf.stack([loss, tf.reduce_mean(tf.cast(right, tf.float32))])
            if step % STEPS_PER_AVERAGING == STEPS_PER_AVERAGING - 1:
                kept = tf.minimum(recipe.averaging, tf.cast(step, tf.float32) / tf.cast(step + 80, tf.float32))
                for average, variable in zip(averages, variables, strict=True):
                    average.assign(average * kept + variable.value * (1 - kept))
        return sums

    return run  # type: ignore[no-any-return]
