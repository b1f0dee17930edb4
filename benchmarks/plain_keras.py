"""The net of swift as one writes it in plain Keras: batch normalisation, float32, Adam, `fit`.

python -m benchmarks.plain_keras FOLDER GOAL WIDTH
"""

import sys
from pathlib import Path
from typing import Any

import keras
from keras import layers

from benchmarks.clock import Clock
from tasks import splits

BATCH = 128  # as recipes/swift.yaml
EPOCHS = 10  # at most


def main(normalised: Path, goal: float, width: int) -> None:
    """Train, and print a line of JSON."""
    train, validation = splits.read(normalised, "train"), splits.read(normalised, "validation")
    keras.utils.set_random_seed(7)
    clock = Clock(goal, len(train.labels))
    model = net(width)
    model.compile(keras.optimizers.Adam(0.001), "sparse_categorical_crossentropy", metrics=["accuracy"])

    class Watch(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
            self.model.stop_training = clock.epoch((logs or {})["val_accuracy"])

    model.fit(
        train.images[..., None],
        train.labels,
        batch_size=BATCH,
        epochs=EPOCHS,
        validation_data=(validation.images[..., None], validation.labels),
        callbacks=[Watch()],
        verbose=0,
    )
    print(clock.line())


def net(width: int) -> keras.Model:
    """The layers of models/residual.py, with batch normalisation."""
    image = keras.Input((28, 28, 1))
    x = layers.ReLU()(convolution(layers.Rescaling(1 / 255)(image), width))
    for channels in (2 * width, 4 * width):
        x = convolution(layers.MaxPooling2D()(x), channels)
        y = convolution(layers.ReLU()(x), channels)
        y = convolution(layers.ReLU()(y), channels)
        x = layers.ReLU()(layers.Add()([x, y]))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, layers.Dense(10, activation="softmax")(x))


def convolution(x: keras.KerasTensor, channels: int) -> keras.KerasTensor:
    return layers.BatchNormalization()(layers.Conv2D(channels, 3, padding="same", use_bias=False)(x))


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]))
