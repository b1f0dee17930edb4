"""Whether an ONNX file reaches for data outside itself. Needs neither onnx nor protobuf, which a device lacks.

onnxruntime (1.16 to 1.31, tried) looks for a tensor's external data in the working directory when a model is loaded
from bytes; what lies there nobody has verified. So the file's tensors are walked through as onnx.proto has them
(https://github.com/onnx/onnx/blob/main/onnx/onnx.proto), and what cannot be followed counts as reaching out.
"""

MOST_FIELDS = 500_000  # a walk of a second; the swift model has some hundred
FOLLOWED: dict[str, dict[int, str]] = {  # message → number of a field → the message in it
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
EXTERNAL_DATA, DATA_LOCATION = 13, 14  # of a tensor
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
VARINT_BYTES = 10
MORE = 0x80  # a varint's byte that is not its last
LARGEST_KEY = 2**32 - 1  # readers disagree on larger ones


def reaches_out(content: bytes) -> bool:
    """Whether a tensor is kept in another file, or the bytes are no ONNX file that can be followed."""
    try:
        return _reaches_out(content)
    except (IndexError, ValueError):
        return True


def _reaches_out(content: bytes) -> bool:
    waiting, fields = [("model", 0, len(content))], 0
    while waiting:
        message, at, end = waiting.pop()
        while at < end:
            fields += 1
            key, at = _varint(content, at)
            number, kind = key >> 3, key & 7
            start, at = _value(content, at, kind)
            if at > end or number == 0 or key > LARGEST_KEY or fields > MOST_FIELDS:
                raise ValueError("It is cut short, or no protocol buffer, or has too many parts.")
            if message == "tensor" and number in {EXTERNAL_DATA, DATA_LOCATION} and any(content[start:at]):
                return True
            if kind == BYTES and number in FOLLOWED[message]:
                waiting.append((FOLLOWED[message][number], start, at))
    return False


def _value(content: bytes, at: int, kind: int) -> tuple[int, int]:
    """Where a field's value begins and ends."""
    if kind == BYTES:
        length, at = _varint(content, at)
        return at, at + length
    if kind == VARINT:
        return at, _varint(content, at)[1]
    return at, at + {FIXED64: 8, FIXED32: 4}.get(kind, len(content) + 1)


def _varint(content: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    for shift in range(0, 7 * VARINT_BYTES, 7):
        byte = content[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < MORE:
            return value, at
    raise ValueError("A number that never ends.")
