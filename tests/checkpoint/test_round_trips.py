"""Any state through the whole engine, there and back: every bit, every dtype, every way to lie in memory."""

from __future__ import annotations

from collections import Counter, deque
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spotweld.checkpoint.encoding import encoder_for
from spotweld.checkpoint.layout import CHUNK
from spotweld.checkpoint.publishing import Publisher
from spotweld.checkpoint.restoring import find_newest
from spotweld.checkpoint.session import _places
from spotweld.checkpoint.snapshot import capture
from spotweld.checkpoint.staging import Staging
from spotweld.checkpoint.state import put_back
from spotweld.errors import UnsupportedState
from spotweld.project.nouns import Compress
from spotweld.store.heads import take_over

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import HandClock, Watched

# PyTorch says so once a process whenever one is made.
pytestmark = pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental")
RUN = "r"
TORCH = [
    "bool",
    "uint8",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint16",
    "uint32",
    "uint64",
    "float16",
    "bfloat16",
    "float32",
    "float64",
    "complex32",
    "complex64",
    "complex128",
    "float8_e4m3fn",
    "float8_e4m3fnuz",
    "float8_e5m2",
    "float8_e5m2fnuz",
    "float8_e8m0fnu",
]
NUMPY = [">i2", ">f4", ">f8", ">c16", "<f2", "|b1", "<U3", "|S5", "<M8[s]", ">m8[ns]", "|u1", "<i8"]
WAYS = ["whole", "transposed", "strided", "offset", "shared"]


def tensor(name: str, shape: tuple[int, ...], way: str, seed: int) -> torch.Tensor:
    """Random bits of that dtype, lying in memory in that way."""
    dtype = getattr(torch, name)
    shape = {"strided": (*shape[:-1], 2 * shape[-1])}.get(way, shape) if shape else shape
    count = int(np.prod(shape, dtype=int)) + 3
    bits = np.random.default_rng(seed).integers(0, 2 if name == "bool" else 256, count * dtype.itemsize, dtype="u1")
    row = torch.from_numpy(bits).view(dtype)
    whole = row[3:] if way == "offset" else row[:-3].clone()
    whole = whole.view(shape)
    if way == "transposed" and len(shape) >= 2:
        return whole.transpose(0, -1)
    if way == "strided" and shape:
        return whole[..., ::2]
    return whole


def bits(value: Any) -> Any:  # noqa: ANN401
    """What two equal values have in common, and no others."""
    match value:
        case torch.Tensor():
            plain = value.detach().resolve_conj().resolve_neg().clone(memory_format=torch.contiguous_format)
            raw = plain.view(-1).view(torch.uint8).numpy().tobytes() if plain.numel() else b""
            return "tensor", str(value.dtype), tuple(value.shape), raw
        case np.ndarray() | np.generic():
            return type(value).__name__, value.dtype.str, value.shape, value.tobytes()
        case dict():
            return type(value).__name__, [(key, bits(item)) for key, item in value.items()]
        case list() | tuple() | deque():
            return type(value).__name__, [bits(item) for item in value]
        case float():
            return "float", value.hex()
        case _:
            return type(value).__name__, value


def array(dtype: str, shape: tuple[int, ...], seed: int, turned: bool) -> np.ndarray:
    """Random values of that dtype."""
    raw = np.random.default_rng(seed).integers(0, 2 if dtype == "|b1" else 128, 60 * 16, dtype="u1")
    row = raw.view("<u4").astype(dtype) if dtype[1] in "US" else raw.view(dtype)
    whole = row[: int(np.prod(shape, dtype=int))].reshape(shape)
    return whole.T if turned else whole


SCALARS = [None, True, 2**80, -3, 1.5, float("nan"), -0.0, "ü", b"", b"bytes" * 9, np.float32(1.5)]


def leaf(pick: Callable[[Any], Any], seed: int) -> object:
    """A value without others in it."""
    match pick([0, 0, 1, 2]):
        case 0:
            shape = pick([(), (0,), (1,), (3, 5), (2, 0, 3), (7, 1, 2), (70, 130)])
            return tensor(pick(TORCH), shape, pick(WAYS), seed)
        case 1:
            return array(pick(NUMPY), pick([(), (0,), (4, 5), (3, 2, 2)]), seed, pick([False, True]))
        case _:
            return pick(SCALARS)


@st.composite
def trees(draw: st.DrawFn) -> Any:  # noqa: ANN401
    """A nested state."""

    def pick(choices: list[Any]) -> Any:  # noqa: ANN401
        return draw(st.sampled_from(choices))

    def grow(depth: int) -> object:
        kind = pick(["leaf", "list", "tuple", "deque", "dict", "counter"]) if depth else "leaf"
        if kind == "leaf":
            return leaf(pick, draw(st.integers(0, 2**20)))
        items = [grow(depth - 1) for _ in range(draw(st.integers(0, 3)))]
        if kind in {"dict", "counter"}:
            pairs = {pick([f"k{at}", f"a key {at}", at]): item for at, item in enumerate(items)}
            return pairs if kind == "dict" else Counter(pairs)
        return {"list": list, "tuple": tuple, "deque": deque}[kind](items)

    return grow(3)


class Engine:
    """Saves to a store in memory and reads it back."""

    def __init__(
        self, new_store: Callable[[], Watched], clock: HandClock, compress: str = "none", limit: int | None = None
    ) -> None:
        self.store, self.clock = new_store(), clock
        encoder = encoder_for(Compress(compress), self.store)
        head = take_over(self.store, RUN, 0)
        self.publisher = Publisher(self.store, RUN, head, clock, keep_last=2, keep_every=0, encoder=encoder)
        self.head, self.staging, self.step = head, Staging(limit), 0

    def save(self, state: dict[str, Any]) -> None:
        from threading import Thread

        self.step += 1
        taken = capture(state, self.step, self.staging, self.clock)
        self.staging.reserve(taken.content.sizes)
        copier = Thread(target=taken.copy, args=(self.publisher.unchanged,))
        copier.start()
        self.publisher.publish(taken)
        copier.join(30)
        assert self.staging.idle, "a buffer was not given back"

    def read(self, into: dict[str, Any] | None = None) -> Any:  # noqa: ANN401
        places = None if into is None else (lambda manifest: _places(into, manifest))
        found = find_newest(self.store, RUN, self.head.head.kept, places=places)
        assert found is not None
        assert found.damaged == ()
        if into is not None:
            put_back(into, found.state)
        return found.state


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(trees(), st.sampled_from(["none", "bytes"]), st.sampled_from([None, 0]))
def test_any_tree_comes_back_bit_for_bit(
    new_store: Callable[[], Watched],
    new_clock: type[HandClock],
    tree: Any,  # noqa: ANN401
    compress: str,
    limit: int | None,
) -> None:
    engine = Engine(new_store, new_clock(), compress, limit)
    for _ in range(2):
        engine.save({"x": {"tree": tree}})
        assert bits(engine.read()) == bits({"x": {"tree": tree}})


@pytest.mark.parametrize("compress", ["none", "bytes"])
@pytest.mark.parametrize("limit", [None, 0])
def test_leaves_of_several_chunks_with_odd_tails(
    new_store: Callable[[], Watched], clock: HandClock, compress: str, limit: int | None
) -> None:
    engine = Engine(new_store, clock, compress, limit)
    values = np.random.default_rng(1).standard_normal((2 * CHUNK + 12) // 4).astype("<f4")
    state = {
        "big": torch.from_numpy(values),
        "odd": torch.arange(CHUNK + 1, dtype=torch.uint8) % 7,
        "exact": torch.zeros(CHUNK // 2, dtype=torch.bfloat16),
        "one less": b"\x01" * (CHUNK - 1),
        "turned": torch.from_numpy(values[: 2**20].reshape(1024, 1024)).T,
        "small": [torch.full((at,), at, dtype=torch.int16) for at in range(9)],
    }
    for turn in range(3):
        values[turn::5] *= np.float32(1.001)
        engine.save({"x": state})
        assert bits(engine.read()["x"]) == bits(state)
    codecs = {chunk.codec for chunk in engine.publisher.newest.chunks}
    assert codecs == {"raw"} if compress == "none" else codecs > {"planes4"}


def test_conjugated_and_negated_views_are_stored_by_value(new_store: Callable[[], Watched], clock: HandClock) -> None:
    engine = Engine(new_store, clock)
    z = torch.complex(torch.tensor([1.0, -0.0, float("nan")]), torch.tensor([2.0, 0.0, float("inf")]))
    state = {"conj": z.conj(), "imag": z.conj().imag, "neg": torch._neg_view(torch.arange(3.0))}
    assert state["conj"].is_conj()
    assert state["imag"].is_neg()
    engine.save({"x": state})
    wanted = bits(state)
    assert bits(engine.read()["x"]) == wanted
    z.zero_()
    engine.read({"x": state})
    assert bits(state["conj"]) == wanted[1][0][1]
    assert state["conj"].is_conj()


@pytest.mark.parametrize("compress", ["none", "bytes"])
def test_what_shares_memory_still_does_and_has_every_bit(
    new_store: Callable[[], Watched], clock: HandClock, compress: str
) -> None:
    """Tied weights, a view of a weight, the same array twice, and an optimizer with its state."""
    torch.manual_seed(1)
    engine = Engine(new_store, clock, compress)
    model = torch.nn.Sequential(torch.nn.Linear(300, 300), torch.nn.Linear(300, 300))
    model[1].weight = model[0].weight
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.randn(4, 300)).sum().backward()
    optimizer.step()
    base = torch.randn(500)
    plain = {"all": base, "part": base[100:400], "again": base, "every": base[::3], "rows": base.view(20, 25).T}
    big = np.arange(300_000, dtype=">f4")
    state: dict[str, Any] = {"m": model, "o": optimizer, "p": plain, "a": big, "t": base[:7]}
    engine.save(state)
    live = [*model.parameters(), *(moment for one in optimizer.state.values() for moment in one.values())]
    everything = [*live, *plain.values(), base[:7]]
    wanted, was = [bits(one) for one in everything], big.copy()
    places = [one.data_ptr() for one in everything]
    with torch.no_grad():
        for one in everything:
            one.zero_()
    big[:] = 0
    engine.read(state)
    now = [*model.parameters(), *(moment for one in optimizer.state.values() for moment in one.values())]
    now += [*plain.values(), base[:7]]
    assert [bits(one) for one in now] == wanted
    # PyTorch's optimizers replace their state by what they load, which is the very memory that was filled.
    assert [one.data_ptr() for one in now] == places
    assert (big == was).all()
    assert model[1].weight is model[0].weight


@pytest.mark.parametrize("name", TORCH)
@pytest.mark.parametrize("way", WAYS[:4])
def test_tensors_of_every_dtype_are_restored_where_they_are(
    new_store: Callable[[], Watched], clock: HandClock, name: str, way: str
) -> None:
    engine = Engine(new_store, clock)
    one = tensor(name, (5, 6), way, 3)
    wanted, place, strides = bits(one), one.data_ptr(), one.stride()
    engine.save({"x": one})
    one.copy_(torch.zeros_like(one))
    engine.read({"x": one})
    assert bits(one) == wanted
    assert (one.data_ptr(), one.stride()) == (place, strides)


def test_an_expanded_tensor_is_restored_in_place(new_store: Callable[[], Watched], clock: HandClock) -> None:
    engine = Engine(new_store, clock)
    row = torch.arange(5.0)
    state = {"x": {"wide": row.expand(4, 5), "row": row}}
    engine.save(state)
    row.zero_()
    engine.read(state)
    assert row.tolist() == [0, 1, 2, 3, 4]
    assert state["x"]["wide"].data_ptr() == row.data_ptr()


@pytest.mark.parametrize(
    "empty",
    [torch.from_numpy(np.zeros(0, "f4")), torch.zeros(1).expand(0), torch.zeros(1, 0).expand(3, 0)],
    ids=["of NumPy", "expanded to nothing", "nothing expanded"],
)
def test_an_empty_tensor_is_restored_in_place(
    new_store: Callable[[], Watched], clock: HandClock, empty: torch.Tensor
) -> None:
    """Such tensors may have strides of 0."""
    engine = Engine(new_store, clock)
    state = {"x": {"w": empty, "row": torch.arange(3)}}
    engine.save(state)
    state["x"]["row"].zero_()
    engine.read(state)
    assert state["x"]["w"] is empty
    assert state["x"]["row"].tolist() == [0, 1, 2]


def test_a_tensor_without_values_is_refused(new_store: Callable[[], Watched], clock: HandClock) -> None:
    engine = Engine(new_store, clock)
    with pytest.raises(UnsupportedState, match=r"x\.w cannot be saved.*meta"):
        engine.save({"x": {"w": torch.empty(3, device="meta")}})
