import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from seamline import ed25519

# RFC 8032, section 7.1: secret key, public key, message, signature
VECTORS = [
    pytest.param(
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
        id="empty",
    ),
    pytest.param(
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
        id="a byte",
    ),
]


def keys(seed):
    private = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(seed).digest())
    return private, private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


@pytest.mark.parametrize(("public_key", "message", "signature"), VECTORS)
def test_signatures_of_the_standard_are_genuine(public_key, message, signature):
    assert ed25519.verify(*map(bytes.fromhex, (public_key, message, signature)))


@settings(max_examples=25)
@given(seed=st.binary(max_size=8), message=st.binary(max_size=200), position=st.integers(0, 63), bit=st.integers(0, 7))
def test_a_genuine_signature_is_accepted_and_one_with_a_flipped_bit_is_not(seed, message, position, bit):
    private, public_key = keys(seed)
    signature = private.sign(message)
    altered = bytearray(signature)
    altered[position] ^= 1 << bit

    assert ed25519.verify(public_key, message, signature)
    assert not ed25519.verify(public_key, message, bytes(altered))
    assert not ed25519.verify(public_key, message + b"x", signature)
    assert not ed25519.verify(keys(b"another" + seed)[1], message, signature)


@pytest.mark.parametrize(
    ("public_key", "signature"),
    [
        pytest.param(b"", b"", id="nothing"),
        pytest.param(b"\xff" * 32, bytes(64), id="no point of the field"),
        pytest.param((2).to_bytes(32, "little"), bytes(64), id="no point of the curve"),
        pytest.param(keys(b"a")[1], bytes(63), id="too short"),
    ],
)
def test_what_is_no_key_or_no_signature_is_not_genuine(public_key, signature):
    assert not ed25519.verify(public_key, b"message", signature)


def test_the_second_form_of_a_signature_is_refused():
    """RFC 8032, section 8.4: S plus the group's order would verify as well."""
    private, public_key = keys(b"a")
    signature = private.sign(b"message")
    larger = int.from_bytes(signature[32:], "little") + ed25519.ORDER

    assert not ed25519.verify(public_key, b"message", signature[:32] + larger.to_bytes(32, "little"))
