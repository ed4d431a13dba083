"""A store that goes wrong on purpose, in the ways that real ones do, and the same way every time.

::

    store = FaultyObjects(open_store("memory:"), script({3: Fault.ANSWER_LOST}))
"""

from __future__ import annotations

import random
import threading
from enum import StrEnum
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from spotweld.errors import Conflict, StoreError, Unavailable
from spotweld.store.objects import Meta, Objects, Version
from spotweld.store.pieces import joined

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from spotweld.store.pieces import Pieces
    from spotweld.values.digests import Data


class Fault(StrEnum):
    """What may go wrong with one call. A fault that does not fit the verb does nothing."""

    NO_ANSWER = "no-answer"
    """``Unavailable``, and nothing happened."""
    ANSWER_LOST = "answer-lost"
    """The write happened; the caller hears ``Unavailable``."""
    RETRIED = "retried"
    """The write happened, its answer was lost, and the client's own second try met it: ``Conflict``."""
    LATE = "late"
    """The caller hears ``Unavailable``; the write arrives just before one of the next calls."""
    SLOW = "slow"
    """The call waits first."""
    SHORT = "short"
    """A read returns only the first half."""
    FLIPPED = "flipped"
    """A read returns the bytes with one bit flipped."""
    UNCONDITIONAL = "unconditional"
    """A create or replace is done without its condition."""


class Call(msgspec.Struct, frozen=True):
    """One use of the store."""

    number: int
    """From 1, over all verbs."""
    verb: str
    """``get``, ``read``, ``put``, ``create``, ``replace``, ``list`` or ``delete``."""
    key: str


Plan: TypeAlias = "Callable[[Call], Fault | None]"
"""Which fault befalls a call."""


def script(faults: Mapping[int, Fault]) -> Plan:
    """The given fault for the call of each number, none for the others."""
    return lambda call: faults.get(call.number)


def seeded(seed: int, share: float, faults: Collection[Fault]) -> Plan:
    """One of ``faults`` for about ``share`` (0 to 1) of all calls, by the call's number alone."""
    choices = tuple(faults)

    def choose(call: Call) -> Fault | None:
        dice = random.Random(f"{seed} {call.number}")  # noqa: S311  a schedule, no secret
        return dice.choice(choices) if dice.random() < share else None

    return choose


class FaultyObjects(Objects):
    """Another store's objects, with faults.

    Args:
        inner: the store that holds the bytes.
        plan: which fault befalls which call.
        sleep: how a ``SLOW`` call waits, given seconds; not at all unless told.
    """

    def __init__(self, inner: Objects, plan: Plan, *, sleep: Callable[[float], None] | None = None) -> None:
        self.url = inner.url
        self.calls: list[Call] = []
        self._inner = inner
        self._plan = plan
        self._sleep = sleep
        self._lock = threading.Lock()
        self._late: list[tuple[int, Callable[[], None]]] = []

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        fault = self._meet("get", key)
        return self._mangle(fault, self._inner.get(key, start=start, length=length))

    def read(self, key: str) -> tuple[bytes, Version]:
        fault = self._meet("read", key)
        data, version = self._inner.read(key)
        return self._mangle(fault, data), version

    def put(self, key: str, data: Data) -> None:
        self._write("put", key, lambda: self._inner.put(key, data), None)

    def create(self, key: str, data: Pieces) -> None:
        data = joined(data)
        self._write("create", key, lambda: self._inner.create(key, data), lambda: self._inner.put(key, data))

    def replace(self, key: str, data: Data, version: Version) -> None:
        self._write("replace", key, lambda: self._inner.replace(key, data, version), lambda: self._inner.put(key, data))

    def list(self, prefix: str) -> Iterator[Meta]:
        self._meet("list", prefix)
        yield from self._inner.list(prefix)

    def delete(self, key: str) -> None:
        self._write("delete", key, lambda: self._inner.delete(key), None)

    def settle(self) -> None:
        """Let every write that is still under way arrive."""
        with self._lock:
            arriving, self._late = self._late, []
        for _, write in arriving:
            _arrive(write)

    def _meet(self, verb: str, key: str) -> Fault | None:
        """Count a call, let late writes arrive, and choose the fault; ``NO_ANSWER`` is raised at once."""
        with self._lock:
            call = Call(len(self.calls) + 1, verb, key)
            self.calls.append(call)
            arriving = [write for due, write in self._late if due <= call.number]
            self._late = [(due, write) for due, write in self._late if due > call.number]
        for write in arriving:
            _arrive(write)
        fault = self._plan(call)
        if fault is Fault.SLOW and self._sleep is not None:
            self._sleep(1.0 + call.number % 7)
        if fault is Fault.NO_ANSWER:
            raise _unavailable(verb, key)
        return fault

    def _write(self, verb: str, key: str, write: Callable[[], None], unconditional: Callable[[], None] | None) -> None:
        fault = self._meet(verb, key)
        if fault is Fault.LATE:
            due = len(self.calls) + 1 + len(self.calls) % 5
            with self._lock:
                self._late.append((due, write))
            raise _unavailable(verb, key)
        if fault is Fault.UNCONDITIONAL and unconditional is not None:
            return unconditional()
        write()
        if fault is Fault.ANSWER_LOST:
            raise _unavailable(verb, key)
        if fault is Fault.RETRIED and unconditional is not None:
            raise Conflict(f"{key} was written by somebody else first", "a fault put in on purpose")
        return None

    def _mangle(self, fault: Fault | None, data: bytes) -> bytes:
        if fault is Fault.SHORT:
            return data[: len(data) // 2]
        if fault is Fault.FLIPPED and data:
            return flip_bit(data, random.Random(len(self.calls)).randrange(8 * len(data)))  # noqa: S311
        return data


def flip_bit(data: bytes, bit: int) -> bytes:
    """``data`` with its bit number ``bit`` (from 0, lowest first within a byte) flipped."""
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def _arrive(write: Callable[[], None]) -> None:
    try:
        write()
    except StoreError:
        # Nobody waits for the answer any more.
        return


def _unavailable(verb: str, key: str) -> Unavailable:
    return Unavailable(f"Cannot {verb} {key}", "a fault put in on purpose")
