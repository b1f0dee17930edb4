"""The training loop: compiled, over data in memory, gathered and augmented in the graph.

Keras's `fit` costs Python time at every step, which on so small a net is a good part of it
(https://github.com/keras-team/keras/issues/18648); here Python is asked once per `STEPS_PER_CALL` steps.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from tasks.arrays import SIDE, Split
from tasks.params import Train

STEPS_PER_CALL = 30
STEPS_PER_AVERAGING = 8
WARM_UP = 0.1  # share of all steps


class Progress(NamedTuple):
    epoch: int  # from 1
    step: int  # of the whole run, done
    steps: int  # of the whole run
    loss: float  # mean over the epoch so far


def fit(model: keras.Model, train: Split, params: Train) -> Iterator[Progress]:
    """Train the model, giving word after every few steps; afterwards it holds the averaged weights.

    Muon for the kernels (https://kellerjordan.github.io/posts/muon) and AdamW for the rest, with a warm-up and a cosine
    to zero; label smoothing, random shifts and flips, and an exponential moving average of the weights
    (https://arxiv.org/abs/1803.05407 has the idea).

    Args:
        model: uint8 (n, 28, 28) → logits (n, 10); trained in place.
        train: n images, n ≥ params.batch.
        params: see params.yaml.

    Yields:
        Where training stands. At the end of each epoch the model holds the averaged weights while the caller looks.
    """
    steps_per_epoch = len(train.labels) // params.batch
    total = steps_per_epoch * params.epochs
    optimiser = _optimiser(params, total)
    variables = model.trainable_variables
    optimiser.build(variables)
    averages = [tf.Variable(variable.value) for variable in variables]
    run = _compiled(model, optimiser, averages, train, params)
    generator = np.random.default_rng(params.seed)
    for epoch in range(params.epochs):
        order = generator.permutation(len(train.labels))[: steps_per_epoch * params.batch]
        batches = order.reshape(steps_per_epoch, params.batch).astype(np.int32)
        losses = 0.0
        for first in range(0, steps_per_epoch, STEPS_PER_CALL):
            part = batches[first : first + STEPS_PER_CALL]
            losses += float(run(tf.constant(part), epoch * steps_per_epoch + first))
            done = first + len(part)
            if done == steps_per_epoch:
                trained = [variable.numpy() for variable in variables]
                _assign(variables, averages)
            yield Progress(epoch + 1, epoch * steps_per_epoch + done, total, losses / done)
        if epoch + 1 < params.epochs:
            _assign(variables, trained)


def _optimiser(params: Train, steps: int) -> keras.optimizers.Optimizer:
    warm_up = max(1, round(WARM_UP * steps))
    rate = keras.optimizers.schedules.CosineDecay(
        params.muon_rate / 50, max(1, steps - warm_up), warmup_target=params.muon_rate, warmup_steps=warm_up
    )
    return keras.optimizers.Muon(
        rate,
        adam_lr_ratio=params.adam_rate / params.muon_rate,
        adam_beta_2=0.99,
        exclude_layers=["head"],
        ns_steps=4,
        rms_rate=None,  # steps of unit spectral norm: standardised kernels have one scale, whatever their shape
        weight_decay=None,  # their scale does not matter
        adam_weight_decay=None,
    )


def _assign(variables: list[Any], values: list[Any]) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def _compiled(
    model: keras.Model, optimiser: keras.optimizers.Optimizer, averages: list[Any], train: Split, params: Train
) -> Callable[[Any, int], Any]:
    """(indices (steps, batch) int32, number of the first step) → the sum of the steps' losses."""
    variables = model.trainable_variables
    labels = tf.constant(train.labels.astype(np.int32))
    images_at = augmenter(train.images, params.shift, params.seed)
    smoothing = params.label_smoothing

    @tf.function(input_signature=[tf.TensorSpec((None, None), tf.int32), tf.TensorSpec((), tf.int32)])
    def run(batches: Any, first_step: Any) -> Any:
        losses = 0.0
        for offset in tf.range(tf.shape(batches)[0]):
            step, indices = first_step + offset, batches[offset]
            targets = tf.one_hot(tf.gather(labels, indices), 10) * (1 - smoothing) + smoothing / 10
            with tf.GradientTape() as tape:
                logits = tf.cast(model(images_at(indices, step), training=True), tf.float32)
                loss = tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(targets, logits))
            optimiser.apply(tape.gradient(loss, [variable.value for variable in variables]), variables)
            losses += loss
            if step % STEPS_PER_AVERAGING == STEPS_PER_AVERAGING - 1:
                kept = tf.minimum(params.averaging, tf.cast(step, tf.float32) / tf.cast(step + 80, tf.float32))
                for average, variable in zip(averages, variables, strict=True):
                    average.assign(average * kept + variable.value * (1 - kept))
        return losses

    def checked(batches: Any, first_step: int) -> Any:
        return run(batches, tf.constant(first_step))

    return checked


def augmenter(images: Any, shift: int, seed: int) -> Callable[[Any, Any], Any]:
    """Images by index, each moved by up to `shift` pixels each way and flipped left to right every other time.

    One gather does both: the images stand padded in memory, and each pixel of the result is looked up.

    Args:
        images: (n, 28, 28) uint8.
        shift: pixels, ≥ 0.
        seed: with the number of the step it fixes every draw, so that a step can be repeated.

    Returns:
        (indices (b,) int32, step () int32) → (b, 28, 28) uint8.
    """
    width = SIDE + 2 * shift
    padded = tf.constant(np.pad(images, ((0, 0), (shift, shift), (shift, shift))).reshape(-1))
    line = tf.range(SIDE)

    def images_at(indices: Any, step: Any) -> Any:
        shape, seeds = (tf.size(indices), 1), tf.stack([seed, step])
        moves = tf.random.stateless_uniform((2, *shape), seeds, 0, 2 * shift + 1, tf.int32)
        flips = tf.random.stateless_uniform(shape, tf.stack([seed + 1, step]), 0, 2, tf.int32)
        rows = (line + moves[0]) * width
        columns = tf.where(flips == 1, SIDE - 1 - line, line) + moves[1]
        return tf.gather(padded, (indices * width * width)[:, None, None] + rows[:, :, None] + columns[:, None, :])

    return images_at
