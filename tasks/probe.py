"""Run a model file where nothing can be imported but numpy, onnxruntime and seamline: `probe.py MODEL IMAGES OUT`.

A script of its own, not part of a stage's process: export starts it to see the file as a device will.
"""

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

ALLOWED = {"numpy", "onnxruntime", "seamline"}


class Bouncer(MetaPathFinder):
    """Refuses every package that a device does not have, as if it were not installed."""

    def find_spec(self, name: str, _path: Sequence[str] | None, _target: ModuleType | None = None) -> ModuleSpec | None:
        package = name.partition(".")[0]
        if package in ALLOWED or package in sys.stdlib_module_names or package in sys.builtin_module_names:
            return None
        raise ModuleNotFoundError(f"No module named {package!r} on a device", name=package)


def main(model: str, images: str, out: str) -> None:
    """Classify the images (an .npy file) and write the probabilities."""
    sys.meta_path.insert(0, Bouncer())
    sys.path.append(str(Path(__file__).resolve().parent.parent))
    import numpy as np

    import seamline

    np.save(out, seamline.Classifier(model).probabilities(np.load(images, allow_pickle=False)))


if __name__ == "__main__":
    main(*sys.argv[1:])
