"""What ships: classify pictures of clothing with an exported model. Needs numpy and onnxruntime, nothing else.

>>> import seamline
>>> classifier = seamline.Classifier()                         # doctest: +SKIP
>>> classifier.classify(images)                                # doctest: +SKIP
"""

from seamline.bundle import BundleError
from seamline.classifier import Answer, Classifier

__version__ = "0.1.0"
__all__ = ["Answer", "BundleError", "Classifier", "__version__"]
