"""Stores in a folder and in memory do what a dictionary would, whatever the order of the calls."""

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from spotweld.errors import Conflict, NotFound
from spotweld.store.local import LocalObjects
from spotweld.store.opening import open_store

if TYPE_CHECKING:
    from spotweld.store.objects import Objects, Version

KEYS = ["a", "b/c", "b/d", "b-e"]
keys = st.sampled_from(KEYS)
data = st.binary(max_size=5)


class Model(RuleBasedStateMachine):
    """The model maps a key to its content and the number of the write that wrote it."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.stores: list[Objects] = [LocalObjects(self.folder / "store"), open_store("memory:")]
        self.model: dict[str, tuple[bytes, int]] = {}
        self.versions: list[tuple[str, tuple[bytes, int], list[Version]]] = []
        self.writes = 0

    def teardown(self) -> None:
        shutil.rmtree(self.folder)

    def wrote(self, key: str, content: bytes) -> None:
        self.writes += 1
        self.model[key] = (content, self.writes)

    @rule(key=keys, content=data)
    def put(self, key: str, content: bytes) -> None:
        for store in self.stores:
            store.put(key, content)
        self.wrote(key, content)

    @rule(key=keys, content=data)
    def create(self, key: str, content: bytes) -> None:
        taken = key in self.model
        for store in self.stores:
            try:
                store.create(key, content)
            except Conflict:
                assert taken
            else:
                assert not taken
        if not taken:
            self.wrote(key, content)

    @rule(key=keys)
    def read(self, key: str) -> None:
        found = []
        for store in self.stores:
            try:
                content, version = store.read(key)
            except NotFound:
                assert key not in self.model
            else:
                assert content == self.model[key][0]
                found.append(version)
        if found:
            self.versions.append((key, self.model[key], found))

    @rule(pick=st.integers(0, 1000), content=data)
    def replace(self, pick: int, content: bytes) -> None:
        if not self.versions:
            return
        key, then, versions = self.versions[pick % len(self.versions)]
        now = self.model.get(key)
        # A file that was put twice with the same bytes counts as unchanged: whoever compares bytes loses nothing.
        if now is not None and now != then and now[0] == then[0]:
            return
        for store, version in zip(self.stores, versions, strict=True):
            try:
                store.replace(key, content, version)
            except Conflict:
                assert now != then
            else:
                assert now == then
        if now == then:
            self.wrote(key, content)

    @rule(key=keys)
    def delete(self, key: str) -> None:
        for store in self.stores:
            store.delete(key)
        self.model.pop(key, None)

    @rule(key=keys, start=st.integers(0, 6), length=st.none() | st.integers(0, 6))
    def get(self, key: str, start: int, length: int | None) -> None:
        for store in self.stores:
            try:
                content = store.get(key, start=start, length=length)
            except NotFound:
                assert key not in self.model
            else:
                end = None if length is None else start + length
                assert content == self.model[key][0][start:end]

    @rule(prefix=st.sampled_from(["", "b", "b/", "b/c", "c", "a/"]))
    def list(self, prefix: str) -> None:
        expected = [(key, len(self.model[key][0])) for key in sorted(self.model) if key.startswith(prefix)]
        for store in self.stores:
            assert [(meta.key, meta.size) for meta in store.list(prefix)] == expected

    @invariant()
    def no_scratch_is_left(self) -> None:
        assert not list(self.folder.rglob(".~*"))


TestModel = Model.TestCase
TestModel.settings = settings(
    max_examples=25, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
