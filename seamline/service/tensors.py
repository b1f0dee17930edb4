"""The Open Inference Protocol, version 2: a request's tensors in, the answer's out, as JSON or as bytes behind it.

https://github.com/open-inference-protocol/spec, and Triton's extension for binary tensors.
"""

import json
from collections import Counter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seamline.bundle import BundleError
from seamline.service.answers import Serving
from seamline.service.refusals import Refused, busy

NAME = "seamline"
INPUT = "image"
SIDE = 28
MOST_IMAGES = 128  # in a request, so that none keeps a worker for long
LONGEST_ID = 256


class Wanted(NamedTuple):
    """An output that is asked for."""

    name: Any  # until it was looked at
    binary: Any


class Inferred(NamedTuple):
    """An answer."""

    json: dict[str, Any]
    tail: bytes  # behind it
    kinds: dict[str, int]  # how many images are called what; none where no probabilities are asked for


def infer(serving: Serving, body: bytes, head_bytes: int | None) -> Inferred:
    """What the model says of a request's images.

    Args:
        serving: what answers.
        body: the request's, JSON and perhaps bytes.
        head_bytes: how many of them are JSON; None: all.

    Raises:
        Refused: 400, it is not a request of this protocol for this model; 503, the model fails.
    """
    head, tail = (body, b"") if head_bytes is None else (body[:head_bytes], body[head_bytes:])
    if head_bytes is not None and head_bytes > len(body):
        raise Refused(400, f"Expected {head_bytes} bytes of JSON. Received {len(body)}.")
    asked = _parsed(head)
    images = _images(asked, tail)
    wanted = _wanted(asked, serving)
    found = {one.name: _found(serving, one.name, images) for one in wanted}
    outputs = [_output(one, found[one.name]) for one in wanted]
    kinds = Counter(serving.classifier.best(row).name for row in found.get("probabilities", np.zeros((0, 0))).tolist())
    identity = {"id": asked["id"]} if isinstance(asked.get("id"), str) else {}
    answer = {"model_name": NAME, "model_version": str(serving.version), **identity}
    told = answer | {"outputs": [shown for shown, _ in outputs]}
    return Inferred(told, b"".join(content for _, content in outputs), kinds)


def _parsed(head: bytes) -> dict[str, Any]:
    try:
        asked = json.loads(head, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise Refused(400, f"Expected JSON. Received something else: {str(error)[:100]}.") from error
    if not isinstance(asked, dict):
        raise Refused(400, "Expected a JSON object with inputs. Received something else.")
    if not isinstance(asked.get("id", ""), str) or len(asked.get("id", "")) > LONGEST_ID:
        raise Refused(400, f"Expected an id of at most {LONGEST_ID} characters. Received something else.")
    return asked


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON's")


def _images(asked: dict[str, Any], tail: bytes) -> NDArray[np.uint8]:
    inputs = asked.get("inputs")
    if not isinstance(inputs, list) or len(inputs) != 1 or not isinstance(inputs[0], dict):
        raise Refused(400, f"Expected one input, {INPUT}. Received something else.")
    tensor: dict[str, Any] = inputs[0]
    if tensor.get("name") != INPUT or tensor.get("datatype") != "UINT8":
        raise Refused(400, f"Expected the input {INPUT} of datatype UINT8. Received another.")
    count = _count(tensor.get("shape"))
    parameters = _parameters(tensor)
    if "binary_data_size" in parameters:
        flat = _binary(parameters["binary_data_size"], tail, tensor)
    elif tail:
        raise Refused(400, f"Expected binary_data_size of the input. Received {len(tail)} bytes without it.")
    else:
        flat = _numbers(tensor.get("data"))
    if flat.size != count * SIDE * SIDE:
        raise Refused(400, f"Expected {count * SIDE * SIDE} numbers for this shape. Received {flat.size}.")
    return flat.reshape(count, SIDE, SIDE)


def _count(shape: Any) -> int:
    integers = isinstance(shape, list) and len(shape) == 3 and all(type(side) is int for side in shape)  # noqa: PLR2004 (n, rows, columns)
    if not integers or shape[1:] != [SIDE, SIDE] or not 1 <= shape[0] <= MOST_IMAGES:
        raise Refused(400, f"Expected the shape [n, {SIDE}, {SIDE}], n from 1 to {MOST_IMAGES}. Received another.")
    return int(shape[0])


def _parameters(holder: dict[str, Any]) -> dict[str, Any]:
    found = holder.get("parameters", {})
    if not isinstance(found, dict) or any(
        name.startswith("shared_memory") or name == "classification" for name in found
    ):
        raise Refused(400, "Expected parameters without shared memory or classification. Received something else.")
    return found


def _binary(size: Any, tail: bytes, tensor: dict[str, Any]) -> NDArray[np.uint8]:
    if type(size) is not int or size != len(tail) or "data" in tensor:
        raise Refused(400, f"Expected binary_data_size {len(tail)}, and no data beside it. Received something else.")
    return np.frombuffer(tail, np.uint8)


def _numbers(data: Any) -> NDArray[np.uint8]:
    """Flat or nested, whole numbers of 0 … 255; written so that NaN, true and 3.5 are refused."""
    found = np.asarray(data if isinstance(data, list) else None, object)  # else all have room for the longest text
    if not ({*map(type, found.flat)} <= {int} and ((found >= 0) & (found <= np.iinfo(np.uint8).max)).all()):
        raise Refused(400, "Expected data of whole numbers, 0 … 255, of one shape. Received something else.")
    return found.astype(np.uint8).ravel()


def _wanted(asked: dict[str, Any], serving: Serving) -> list[Wanted]:
    binary = _parameters(asked).get("binary_data_output", False)
    named = asked.get("outputs", [])
    if not isinstance(named, list) or not all(isinstance(one, dict) for one in named) or not isinstance(binary, bool):
        raise Refused(400, "Expected outputs as a list of objects, and binary_data_output true or false.")
    there = serving.outputs
    wanted = [Wanted(one.get("name"), _parameters(one).get("binary_data", binary)) for one in named]
    known = all(isinstance(one.name, str) and one.name in there and isinstance(one.binary, bool) for one in wanted)
    if not known or len({one.name for one in wanted}) != len(wanted):
        raise Refused(400, f"Expected outputs among {', '.join(there)}, each once. Received another.")
    return wanted or [Wanted(name, binary) for name in there]


def _found(serving: Serving, output: str, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    model = serving.classifier
    try:
        return (model.embed if output == "embedding" else model.probabilities)(images)
    except BundleError as error:
        raise busy(str(error)) from error


def _output(wanted: Wanted, found: NDArray[np.float32]) -> tuple[dict[str, Any], bytes]:
    shown = {"name": wanted.name, "datatype": "FP32", "shape": list(found.shape)}
    if wanted.binary:
        content = found.astype("<f4", copy=False).tobytes()
        return shown | {"parameters": {"binary_data_size": len(content)}}, content
    return shown | {"data": found.ravel().tolist()}, b""
