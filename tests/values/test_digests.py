"""Digests: a fixed form, and different bytes have different names."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spotweld.values.digests import digest, hex_of, parse_digest


def test_the_published_value_for_no_bytes() -> None:
    # The first test vector of the BLAKE3 specification.
    assert digest(b"") == "blake3:af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"


@given(st.binary(max_size=200))
def test_a_digest_has_its_form_whatever_holds_the_bytes(data: bytes) -> None:
    name = digest(data)
    assert parse_digest(name) == name == digest(bytearray(data)) == digest(memoryview(data))
    assert len(hex_of(name)) == 64


@given(st.binary(min_size=1, max_size=50), st.integers(0, 399))
def test_a_flipped_bit_changes_it(data: bytes, bit: int) -> None:
    changed = bytearray(data)
    changed[bit // 8 % len(data)] ^= 1 << bit % 8
    assert digest(changed) != digest(data)


@pytest.mark.parametrize("text", ["", "blake3:", "sha256:" + "0" * 64, "blake3:" + "0" * 63, "blake3:" + "A" * 64])
def test_what_is_no_digest(text: str) -> None:
    with pytest.raises(ValueError, match="not a digest"):
        parse_digest(text)
