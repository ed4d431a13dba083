"""What holds for the tests of all rooms."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from spotweld.errors import SpotweldError

if TYPE_CHECKING:
    from collections.abc import Generator

# No example has to be done by a time: these machines are shared.
settings.register_profile("shared", deadline=None)
settings.load_profile("shared")


@pytest.fixture
def free_port(monkeypatch: pytest.MonkeyPatch) -> int:
    """A port on which nobody listens; clients of registries do not wait between their tries."""
    from tests.servers import free_ports

    from spotweld.images.registries.distribution_client import Client

    defaults = Client.__init__.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "sleep", lambda _: None)
    return free_ports(1)[0]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(call: pytest.CallInfo[None]) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what an error says beside its message, such as a builder's last lines."""
    report = yield
    error = call.excinfo.value if call.excinfo else None
    if isinstance(error, SpotweldError) and error.todo:
        report.sections.append((f"{error.code} says", error.todo))
    return report
