from __future__ import annotations

import contextlib
import random
import struct
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import zstandard
from hypothesis import example, given, settings
from hypothesis import strategies as st

from spotweld.checkpoint import narrow, planes
from spotweld.checkpoint.codecs import codec_names, decode, encode
from spotweld.checkpoint.scales import Matrix
from spotweld.errors import Corrupt

if TYPE_CHECKING:
    from collections.abc import Callable

WIDTHS = (2, 4, 8)
MATRIX = Matrix(columns=61, start=17)
CODECS = ("zstd", *(f"{name}{width}" for name in ("planes", "scaled", "delta") for width in WIDTHS))


def trained(width: int, count: int, seed: int = 0, scale: float = 0.02) -> np.ndarray:
    """Numbers as in a network: a bell curve; of two bytes they are bfloat16."""
    drawn = np.random.default_rng(seed).standard_normal(count) * scale
    if width == 8:
        return drawn
    single = drawn.astype("<f4")
    return (single.view("<u4") >> 16).astype("<u2") if width == 2 else single


def near(numbers: np.ndarray) -> np.ndarray:
    """What they may have been a few steps before."""
    step = np.random.default_rng(9).integers(-999, 999, numbers.size)
    whole = numbers.view(f"<i{numbers.itemsize}")
    return whole - (step >> (8 if numbers.itemsize == 2 else 0)).astype(whole.dtype)


def there_and_back(raw: bytes, codec: str, base: bytes | None = None, matrix: Matrix = MATRIX) -> bytes:
    stored = encode(memoryview(raw), codec, None if base is None else memoryview(base), matrix)
    into = bytearray(random.Random(1).randbytes(len(raw)))
    decode(memoryview(stored), codec, memoryview(into), None if base is None else memoryview(base))
    assert into == raw
    return stored


def bases(codec: str, raw: bytes) -> bytes | None:
    return raw[::-1] if codec.startswith("delta") else None


@given(st.binary(max_size=400), st.sampled_from(CODECS), st.integers(1, 60))
@example(b"", "planes4", 1)
@example(b"abc", "delta8", 1)
def test_every_codec_gives_the_same_bytes_back(data: bytes, codec: str, times: int) -> None:
    raw = data * times
    there_and_back(raw, codec, bases(codec, raw))


@given(st.sampled_from(CODECS), st.integers(0, 5000), st.integers(0, 99), st.sampled_from([1e-30, 1e-9, 0.02, 1, 3e5]))
@settings(deadline=None)
def test_numbers_come_back_whatever_their_size(codec: str, count: int, seed: int, scale: float) -> None:
    width = int(codec[-1]) if codec[-1].isdigit() else 4
    numbers = trained(width, count, seed, scale)
    there_and_back(numbers.tobytes(), codec, near(numbers).tobytes() if codec.startswith("delta") else None)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("offset", [0, 1, 3])
def test_memory_need_not_be_aligned(codec: str, offset: int) -> None:
    raw = bytes(offset) + trained(4, 3001).tobytes() + b"xy"
    view = memoryview(raw)[offset:]
    base = memoryview(bytes(offset) + raw)[2 * offset :] if codec.startswith("delta") else None
    stored = encode(view, codec, base, MATRIX)
    into = bytearray(len(raw))
    decode(memoryview(b"-" + stored)[1:], codec, memoryview(into)[offset:], base)
    assert into == raw


@pytest.mark.parametrize(("width", "alone", "delta"), [(2, 0.68, 0.55), (4, 0.84, 0.5), (8, 0.93, 0.35)])
def test_numbers_get_as_small_as_promised(width: int, alone: float, delta: float) -> None:
    numbers = trained(width, 100_000)
    raw = numbers.tobytes()
    assert len(there_and_back(raw, f"planes{width}")) < alone * len(raw)
    assert len(there_and_back(raw, f"delta{width}", near(numbers).tobytes())) < delta * len(raw)


@pytest.mark.parametrize("width", WIDTHS)
def test_noise_costs_no_more_than_the_header(width: int) -> None:
    raw = random.Random(3).randbytes(80_003)
    assert len(there_and_back(raw, f"planes{width}")) == len(raw) + 1 + 5 * width


@pytest.mark.parametrize("width", WIDTHS)
def test_the_same_numbers_again_cost_next_to_nothing(width: int) -> None:
    raw = trained(width, 100_000).tobytes()
    assert len(there_and_back(raw, f"delta{width}", raw)) < 500
    assert len(there_and_back(bytes(400_000), f"planes{width}")) < 500


def test_the_sign_of_squares_is_left_out() -> None:
    squares = trained(4, 100_000) ** 2
    signed = squares * np.sign(trained(4, 100_000, seed=1))
    saved = len(there_and_back(signed.tobytes(), "planes4")) - len(there_and_back(squares.tobytes(), "planes4"))
    assert saved > 0.9 * squares.size / 8


def test_a_sample_that_promised_too_much_does_no_harm() -> None:
    numbers = np.frombuffer(random.Random(4).randbytes(1 << 20), "<u4").copy()
    numbers[:: numbers.size // 4096 | 1] = 0x3C000000
    stored = there_and_back(numbers.tobytes(), "planes4")
    assert len(stored) < 1.01 * (1 << 20)


@given(st.binary(max_size=700), st.integers(1, 7), st.integers(0, 127), st.integers(1, 4))
def test_narrowed_bytes_come_back(data: bytes, bits: int, value: int, times: int) -> None:
    value &= (1 << bits) - 1
    plane = np.frombuffer(data * times, "u1")
    narrowed = narrow.narrow(plane, bits, value, plane.size)
    assert narrowed is not None
    odd = int(np.count_nonzero(plane & ((1 << bits) - 1) != value))
    assert len(narrowed) <= 6 + 5 * odd + plane.size * (8 - bits) / 8 + 64
    wide = np.frombuffer(bytearray(plane.size), "u1")
    narrow.widen(memoryview(narrowed), wide)
    assert (wide == plane).all()
    assert odd == 0 or narrow.narrow(plane, bits, value, odd - 1) is None


@given(st.integers(0, 63), st.binary(max_size=200), st.sampled_from(WIDTHS))
def test_rotation_and_difference_have_inverses(bits: int, data: bytes, width: int) -> None:
    numbers = planes.words(memoryview(data), width)
    base = numbers[::-1].copy()
    bits %= 8 * width
    spare, out = numbers.copy(), numbers.copy()
    planes.rotate(numbers, bits, out, spare)
    assert [f"{n:0{8 * width}b}" for n in out] == [(text := f"{n:0{8 * width}b}")[bits:] + text[:bits] for n in numbers]
    planes.rotate(out, -bits % (8 * width), out, spare)
    assert (out == numbers).all()
    planes.difference(numbers, base, out, spare)
    planes.undo_difference(out, base, out, spare)
    assert (out == numbers).all()


def test_small_differences_are_small_numbers() -> None:
    numbers = np.array([5, 4, 6, 0, 255 << 8], "<u2")
    base = np.array([5, 5, 5, 65535, 0], "<u2")
    out = numbers.copy()
    planes.difference(numbers, base, out, numbers.copy())
    assert out.tolist() == [0, 1, 2, 2, 511]


# What is stored may be damaged on purpose: an error, or other bytes of the same number, and nothing else.


def attempt(stored: bytes, codec: str, size: int, base: bytes | None) -> None:
    memory = bytearray(b"\xa5" * (size + 64))
    with contextlib.suppress(Corrupt):
        into = memoryview(memory)[32 : 32 + size]
        decode(memoryview(stored), codec, into, None if base is None else memoryview(base))
    assert memory[:32] == memory[32 + size :] == b"\xa5" * 32


def numbers_and_stored(codec: str) -> tuple[bytes, bytes | None, bytes]:
    width = int(codec[-1]) if codec[-1].isdigit() else 4
    numbers = trained(width, 4000)
    numbers[17] = 0
    base = near(numbers).tobytes() if codec.startswith("delta") else None
    return (
        numbers.tobytes(),
        base,
        encode(memoryview(numbers.tobytes()), codec, None if base is None else memoryview(base), MATRIX),
    )


@pytest.mark.parametrize("codec", CODECS)
def test_what_is_cut_off_is_noticed(codec: str) -> None:
    raw, base, stored = numbers_and_stored(codec)
    into = memoryview(bytearray(len(raw)))
    for size in {*range(60), *range(60, len(stored), 97), len(stored) - 1}:
        with pytest.raises(Corrupt):
            decode(memoryview(stored)[:size], codec, into, None if base is None else memoryview(base))
    with pytest.raises(Corrupt):
        decode(memoryview(stored + b"\0"), codec, into, None if base is None else memoryview(base))


@pytest.mark.parametrize("codec", CODECS)
def test_another_size_is_noticed(codec: str) -> None:
    raw, _, stored = numbers_and_stored(codec)
    for size in (0, 1, len(raw) - 8, len(raw) - 1, len(raw) + 1, len(raw) + 8):
        other = bytes(size) if codec.startswith("delta") else None
        with pytest.raises(Corrupt):
            decode(memoryview(stored), codec, memoryview(bytearray(size)), None if other is None else memoryview(other))


@pytest.mark.parametrize("codec", CODECS)
def test_damage_never_reaches_beyond_its_chunk(codec: str) -> None:
    raw, base, stored = numbers_and_stored(codec)
    chance = random.Random(codec)
    places = [*range(min(60, len(stored))), *(chance.randrange(len(stored)) for _ in range(200))]
    for place in places:
        for byte in (0, 255, stored[place] ^ 1 << chance.randrange(8)):
            damaged = bytearray(stored)
            damaged[place] = byte
            attempt(bytes(damaged), codec, len(raw), base)


@given(st.sampled_from(CODECS), st.binary(max_size=300), st.integers(0, 300))
def test_garbage_is_refused_or_harmless(codec: str, stored: bytes, size: int) -> None:
    attempt(stored, codec, size, bytes(size) if codec.startswith("delta") else None)


@given(st.lists(st.integers(0, 4), min_size=2, max_size=2), st.integers(0, 20), st.binary(max_size=90), st.data())
def test_headers_that_fit_are_not_believed(modes: list[int], bits: int, body: bytes, data: st.DataObject) -> None:
    first = data.draw(st.integers(0, len(body)))
    header = struct.pack("<B2B2I", bits, *modes, first, len(body) - first)
    attempt(header + body, "planes2", data.draw(st.sampled_from([0, 2, 2 * first, len(body), 128])), None)


def test_a_frame_that_claims_to_be_huge_takes_no_memory() -> None:
    bomb = zstandard.ZstdCompressor().compress(bytes(1 << 26))
    for size in (16, 1 << 12):
        with pytest.raises(Corrupt, match="another size"):
            decode(memoryview(bomb), "zstd", memoryview(bytearray(size)))
    unsized = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(1 << 12))
    with pytest.raises(Corrupt, match="another size"):
        decode(memoryview(unsized), "zstd", memoryview(bytearray(1 << 12)))


@pytest.mark.parametrize(
    "forge",
    [
        lambda _: b"\x00",
        lambda good: b"\x00\x00" + good[2:],
        lambda good: b"\x08\x00" + good[2:],
        lambda good: good[:1] + b"\x04" + good[2:],
        lambda good: good[:2] + b"\xff\xff\xff\xff" + good[6:],
        lambda good: good[:6] + b"\xff\xff\xff\xff" + good[10:],
        lambda good: good[:-1],
    ],
)
def test_narrowed_bytes_that_do_not_fit_are_refused(forge: Callable[[bytes], bytes]) -> None:
    plane = np.full(500, 9, "u1")
    plane[7] = 8
    good = narrow.narrow(plane, 2, 1, 9)
    assert good is not None
    with pytest.raises(Corrupt):
        narrow.widen(memoryview(forge(good)), plane)


@pytest.mark.parametrize("codec", ["raw", "planes3", "planes44", "delta", "lz4", "", "PLANES4"])
def test_an_unknown_codec_is_a_fault_of_the_caller(codec: str) -> None:
    with pytest.raises(ValueError, match="no such codec"):
        encode(memoryview(b"1234"), codec)
    with pytest.raises(ValueError, match="no such codec"):
        decode(memoryview(b"1234"), codec, memoryview(bytearray(4)))


@pytest.mark.parametrize("base", [None, memoryview(b"123")])
def test_a_difference_needs_a_base_of_its_size(base: memoryview | None) -> None:
    with pytest.raises(ValueError, match="base of 4 bytes"):
        encode(memoryview(b"1234"), "delta4", base)
    with pytest.raises(ValueError, match="base of 4 bytes"):
        decode(memoryview(b"1234"), "delta4", memoryview(bytearray(4)), base)


def test_scales_need_a_matrix() -> None:
    with pytest.raises(ValueError, match="scaled4 needs a matrix"):
        encode(memoryview(b"1234"), "scaled4")


def test_what_may_be_tried() -> None:
    assert codec_names(4, has_base=True, in_matrix=True) == ("raw", "planes4", "scaled4", "delta4", "zstd")
    assert codec_names(4, has_base=True, in_matrix=False) == ("raw", "planes4", "delta4", "zstd")
    assert codec_names(2, has_base=False, in_matrix=True) == ("raw", "planes2", "scaled2", "zstd")
    assert codec_names(1, has_base=True, in_matrix=True) == ("raw", "zstd")


def test_threads_do_not_disturb_each_other() -> None:
    wrong: list[int] = []

    def work(seed: int) -> None:
        for turn in range(10):
            numbers = trained((2, 4)[seed % 2], 20_000 + seed * 7 + turn, seed)
            codec, base = (f"planes{numbers.itemsize}", None), (f"delta{numbers.itemsize}", near(numbers).tobytes())
            for name, other in (codec, base):
                try:
                    there_and_back(numbers.tobytes(), name, other)
                except (AssertionError, Corrupt):
                    wrong.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


PAGE = Path(__file__).parents[2] / "docs" / "compression.md"


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("count", [0, 3, 777, 20_001])
def test_the_decoder_in_the_docs_decodes(codec: str, count: int) -> None:
    page: dict[str, Callable[..., bytes]] = {}
    exec(PAGE.read_text().split("```python decoder\n")[1].split("```")[0], page)
    width = int(codec[-1]) if codec[-1].isdigit() else 4
    numbers = trained(width, count)
    numbers[5:8] = 0
    for source in (numbers, numbers**2 if width != 2 else numbers & 0x7FFF, np.roll(near(numbers), 1)):
        raw = source.tobytes() + b"x"
        base = near(numbers).tobytes() + b"y" if codec.startswith("delta") else None
        assert page["decode"](there_and_back(raw, codec, base), codec, len(raw), base) == raw


@pytest.mark.parametrize("bits", range(1, 8))
def test_the_decoder_in_the_docs_widens(bits: int) -> None:
    page: dict[str, Callable[..., bytes]] = {}
    exec(PAGE.read_text().split("```python decoder\n")[1].split("```")[0], page)
    plane = np.frombuffer(random.Random(bits).randbytes(300), "u1") & (256 - (1 << bits)) | 1
    plane[9] ^= 1
    narrowed = narrow.narrow(plane.astype("u1"), bits, 1, 9)
    assert narrowed is not None
    assert page["plane"](narrowed, 2, 300) == plane.astype("u1").tobytes()
