"""The builders that the suite runs over, each on machines that are fresh."""

from __future__ import annotations

import itertools
import uuid
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from tests.images.builders.rigs import KINDS, Counter, Machine, machine, make_base

from spotweld.images.builders.builder import Solve

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def registry(server: str) -> str:
    """The host and port of a real registry."""
    return server.removeprefix("http://")


@pytest.fixture(scope="session")
def base(registry: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """An image with a shell."""
    return make_base(registry, tmp_path_factory.mktemp("base"))


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def fresh(kind: str, tmp_path: Path) -> Iterator[Callable[[], Machine]]:
    """Gives a machine with nothing on it, again and again."""
    numbers = itertools.count()
    with ExitStack() as stack:
        yield lambda: stack.enter_context(machine(kind, tmp_path / f"machine{next(numbers)}"))


@pytest.fixture
def counter() -> Iterator[Counter]:
    with Counter() as counter:
        yield counter


@pytest.fixture
def project(registry: str, tmp_path: Path) -> Callable[..., Solve]:
    """Writes a Dockerfile and its context; gives how to build it, with a cache that nobody has used."""
    context = tmp_path / "context"
    context.mkdir()
    cache = f"{registry}/cache/{uuid.uuid4().hex[:12]}"

    def project(dockerfile: str, files: dict[str, str] | None = None, **more: object) -> Solve:
        (context / "Dockerfile").write_text(dockerfile)
        for name, text in (files or {}).items():
            (context / name).write_text(text)
        return Solve(context, context / "Dockerfile", cache, **more)  # type: ignore[arg-type]

    return project


@pytest.fixture
def three_stages(base: str, counter: Counter) -> str:
    """Twelve instructions that do something, in three stages, each of which needs the one before."""
    run = counter.run
    return f"""
FROM {base} AS first
ARG FLAVOUR=plain
{run("a1", "echo $FLAVOUR >/a1")}
COPY one /one
{run("a2", "cat /one /a1 >/a2")}
ENV SEEN=yes
{run("a3", "echo $SEEN >/a3")}
FROM first AS second
WORKDIR /made
{run("b1", "cat /a2 >b1")}
COPY two ./
{run("b2", "cat two b1 >b2")}
{run("b3", "cat b2 >b3")}
FROM {base}
COPY --from=second /made/b3 /b3
{run("c1", "cat /b3 >/c1")}
{run("c2", "cat /c1 >/c2")}
{run("c3", "cat /c2 >/c3")}
CMD ["cat", "/c3"]
"""
