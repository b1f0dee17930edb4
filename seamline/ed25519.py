"""Whether an Ed25519 signature is genuine, in Python alone: a device has no cryptography library.

RFC 8032, section 5.1.7. Nothing here is secret, so that nothing needs constant time; one check takes some milliseconds.
"""

import hashlib

PRIME = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493  # of the base point
CURVE = -121665 * pow(121666, -1, PRIME) % PRIME  # d of -x² + y² = 1 + d x² y²
ROOT_OF_MINUS_1 = pow(2, (PRIME - 1) // 4, PRIME)
KEY_BYTES, SIGNATURE_BYTES = 32, 64

Point = tuple[int, int, int, int]  # X, Y, Z, T: x = X / Z, y = Y / Z, x y = T / Z
NEUTRAL: Point = (0, 1, 1, 0)


def verify(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """Whether the holder of the private key signed exactly this message.

    Args:
        public_key: 32 bytes.
        message: any bytes.
        signature: 64 bytes.
    """
    if (len(public_key), len(signature)) != (KEY_BYTES, SIGNATURE_BYTES):
        return False
    key, commitment = _point(public_key), _point(signature[:32])
    answer = int.from_bytes(signature[32:], "little")
    if key is None or commitment is None or answer >= ORDER:  # section 8.4: a larger one would be a second signature
        return False
    challenge = int.from_bytes(hashlib.sha512(signature[:32] + public_key + message).digest(), "little") % ORDER
    return _equal(_times(answer, BASE), _add(commitment, _times(challenge, key)))


def _add(one: Point, other: Point) -> Point:
    """Section 5.1.4."""
    a, b = (one[1] - one[0]) * (other[1] - other[0]) % PRIME, (one[1] + one[0]) * (other[1] + other[0]) % PRIME
    c, d = 2 * one[3] * other[3] * CURVE % PRIME, 2 * one[2] * other[2] % PRIME
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % PRIME, g * h % PRIME, f * g % PRIME, e * h % PRIME


def _times(factor: int, point: Point) -> Point:
    total = NEUTRAL
    while factor:
        if factor & 1:
            total = _add(total, point)
        point = _add(point, point)
        factor >>= 1
    return total


def _equal(one: Point, other: Point) -> bool:
    return (one[0] * other[2] - other[0] * one[2]) % PRIME == 0 == (one[1] * other[2] - other[1] * one[2]) % PRIME


def _point(encoded: bytes) -> Point | None:
    """Section 5.1.3; None: these 32 bytes are no point of the curve."""
    y, odd = int.from_bytes(encoded, "little") & (2**255 - 1), encoded[31] >> 7
    if y >= PRIME:
        return None
    square = (y * y - 1) * pow(CURVE * y * y + 1, -1, PRIME) % PRIME
    x = pow(square, (PRIME + 3) // 8, PRIME)
    if (x * x - square) % PRIME:
        x = x * ROOT_OF_MINUS_1 % PRIME
    if (x * x - square) % PRIME or (x == 0 and odd):
        return None
    x = PRIME - x if x & 1 != odd else x
    return x, y, 1, x * y % PRIME


_found = _point((4 * pow(5, -1, PRIME) % PRIME).to_bytes(32, "little"))  # y = 4 / 5, x even
BASE: Point = _found or NEUTRAL
