"""What is peculiar to AWS: tokens, two documents, three actions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spotweld.preemption.aws import ACTION, REBALANCE, SESSION, AwsSource, instant, read_action, read_rebalance
from spotweld.preemption.metadata_server import Faults, MetadataServer
from spotweld.preemption.notices import Kind, Notice, Withdrawal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import HandClock


@pytest.fixture
def source(server: MetadataServer, clock: HandClock) -> Iterator[AwsSource]:
    source = AwsSource(server.url, interval=0, clock=clock)
    yield source
    source.close()


def tokens(server: MetadataServer) -> int:
    return list(server.asked).count(f"PUT {SESSION}")


def test_one_token_serves_for_most_of_its_life(source: AwsSource, server: MetadataServer, clock: HandClock) -> None:
    for _ in range(10):
        source.wait(0)
        clock.sleep(2000)
    assert tokens(server) == 1
    source.wait(0)
    assert tokens(server) == 2
    assert clock.monotonic() < 500 + 21600  # it would still have been good


def test_a_refused_token_is_replaced_within_the_same_look(
    source: AwsSource, server: MetadataServer, clock: HandClock
) -> None:
    source.wait(0)
    server.forget_tokens()
    server.announce(Kind.TERMINATE, clock.now() + 120)
    assert isinstance(source.wait(0), Notice)
    assert tokens(server) == 2


def test_a_token_that_is_no_token_is_not_kept(source: AwsSource, server: MetadataServer, clock: HandClock) -> None:
    server.faults = Faults(body=b"not a\ntoken")
    assert source.wait(0) is None
    server.faults = Faults()
    server.announce(Kind.TERMINATE, clock.now() + 120)
    assert isinstance(source.wait(0), Notice)


def test_a_rebalance_recommendation_is_a_risk_without_a_deadline(
    source: AwsSource, server: MetadataServer, clock: HandClock
) -> None:
    server.announce(Kind.REBALANCE, clock.now())
    risk = source.wait(0)
    assert isinstance(risk, Notice)
    assert (risk.kind, risk.deadline) == (Kind.REBALANCE, None)
    assert source.wait(0) is None
    server.announce(Kind.TERMINATE, clock.now() + 120)
    end = source.wait(0)
    assert isinstance(end, Notice)
    assert (end.kind, end.deadline) == (Kind.TERMINATE, clock.now() + 120)
    assert source.wait(0) is None
    server.withdraw()
    assert {source.wait(0), source.wait(0)} == {Withdrawal(risk.id, "aws"), Withdrawal(end.id, "aws")}


def test_garbage_withdraws_no_rebalance_recommendation(
    source: AwsSource, server: MetadataServer, clock: HandClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.announce(Kind.REBALANCE, clock.now())
    risk = source.wait(0)
    assert isinstance(risk, Notice)
    with monkeypatch.context() as patched:
        patched.setattr("spotweld.preemption.metadata_server.iso", lambda _: 1)
        assert source.wait(0) is None
    server.withdraw()
    assert source.wait(0) == Withdrawal(risk.id, "aws")


def test_another_deadline_is_another_notice(source: AwsSource, server: MetadataServer, clock: HandClock) -> None:
    server.announce(Kind.TERMINATE, clock.now() + 120)
    first = source.wait(0)
    server.announce(Kind.TERMINATE, clock.now() + 60)
    second = source.wait(0)
    assert isinstance(first, Notice)
    assert isinstance(second, Notice)
    assert second.id != first.id
    assert source.wait(0) == Withdrawal(first.id, "aws")


def test_asks_for_the_end_before_the_risk(source: AwsSource, server: MetadataServer) -> None:
    source.wait(0)
    assert list(server.asked) == [f"PUT {SESSION}", f"GET {ACTION}", f"GET {REBALANCE}"]


@pytest.mark.parametrize("action", ["terminate", "stop", "hibernate"])
def test_all_three_actions_take_the_machine(action: str) -> None:
    notice = read_action(b'{"action": "%s", "time": "2027-01-15T08:00:30Z"}' % action.encode(), 1.0)
    assert notice is not None
    assert (notice.kind, notice.deadline, notice.received) == (Kind.TERMINATE, 1_800_000_030.0, 1.0)


def test_an_end_without_a_readable_time_is_still_an_end() -> None:
    for body in (b'{"action": "terminate"}', b'{"action": "terminate", "time": "soon"}'):
        notice = read_action(body, 1.0)
        assert notice is not None
        assert notice.deadline is None


def test_the_id_depends_on_what_was_said_alone() -> None:
    said = b'{"action": "stop", "time": "2027-01-15T08:00:30Z"}'
    again = b'{"time":"2027-01-15T08:00:30Z","action":"stop"}'
    first, second = read_action(said, 1.0), read_action(again, 2.0)
    assert first is not None
    assert second is not None
    assert first.id == second.id


@pytest.mark.parametrize(
    "body", [b"", b"null", b'{"action": "dance"}', b'{"action": 1}', b'["terminate"]', b'{"a":' * 12_000]
)
def test_garbage_is_no_notice(body: bytes) -> None:
    assert read_action(body, 1.0) is None
    assert read_rebalance(body, 1.0) is None


@given(st.binary() | st.builds(lambda time: b'{"action":"stop","time":"' + time + b'"}', st.binary()))
def test_no_body_raises(body: bytes) -> None:
    read_action(body, 1.0)
    read_rebalance(body, 1.0)


@given(st.text())
def test_no_time_raises(text: str) -> None:
    instant(text)
