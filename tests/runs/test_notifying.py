"""Alerts reach real receivers: at least once wherever somebody is killed, and once otherwise."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace
from tests.runs.receivers import Hook, Mail, certificate, serving
from tests.runs.test_budgeting import SMALL, enforcer, project
from tests.runs.world import ManualClock

from spotweld.project.nouns import Receiver
from spotweld.runs import drive, sending
from spotweld.runs.notifying import CLAIM, LEAST_WAIT, AlertLog, Teller, note, send_test, tell

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HOOK, SLACK = Receiver(webhook="HOOK"), Receiver(slack="SLACK")
PERSON = Receiver(email="me@example.org", smtp="SMTP")
WATCHED = replace(SMALL, alerts=(Decimal("0.8"), Decimal(1)), notify=(HOOK,))
SECRET = "hush-hush"
KILLED = """
import sys
from pathlib import Path
from spotweld.runs.budgeting import Enforcer
from spotweld.runs.notifying import AlertLog, note, tell
from tests.runs.dying import die_after
from tests.runs.world import ManualClock
folder, left, clock = Path(sys.argv[1]), int(sys.argv[2]), ManualClock()
clock.sleep(3605)
log = AlertLog(folder / "events.db", clock)
die_after(log, left)
note(log, Enforcer(log, folder / "pools.db", clock))
tell(log)
"""


@pytest.fixture(autouse=True)
def _direct(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def hook() -> Iterator[Hook]:
    with serving(Hook()) as server:
        yield server


def spent(folder: Path, clock: ManualClock, *receivers: Receiver) -> AlertLog:
    """A project whose budget has reached both thresholds."""
    log = project(folder, clock)
    log.keep([replace(WATCHED, notify=receivers or (HOOK,))])
    log.close()
    clock.sleep(3600)
    alerts = AlertLog(folder / "events.db", clock)
    note(alerts, enforcer(alerts, folder, clock))
    return alerts


def test_a_web_hook_is_told_once_of_each_threshold(tmp_path: Path, hook: Hook) -> None:
    clock = ManualClock()
    log = spent(tmp_path, clock)
    urls = {"HOOK": f"{hook.url}/{SECRET}"}
    assert [(one.threshold, one.trouble) for one in tell(log, urls)] == [(Decimal("0.8"), ""), (Decimal(1), "")]
    clock.sleep(CLAIM + 1)
    note(log, enforcer(log, tmp_path, clock))
    assert tell(log, urls) == []
    assert [(path, body["threshold"], body["id"]) for path, _, body in hook.got] == [
        (f"/{SECRET}", share, known) for share, known in zip(("0.8", "1"), hook.ids(), strict=True)
    ]
    assert len(set(hook.ids())) == 2


def test_each_kind_of_receiver_gets_its_own_shape(tmp_path: Path, hook: Hook) -> None:
    with serving(Mail()) as mail:
        urls = {"SLACK": hook.url, "SMTP": f"smtp://bot%40example.org:p%40ss%2Fword@127.0.0.1:{mail.port}"}
        log = spent(tmp_path, ManualClock(), SLACK, PERSON)
        assert [one.trouble for one in tell(log, urls)] == [""] * 4
        recipient, message = mail.got[0]
    assert [list(body) for _, _, body in hook.got] == [["text"]] * 2
    assert "me@example.org" in recipient
    assert "From: bot@example.org" in message
    assert f"Message-ID: <{hook.ids()[0]}@spotweld>" in message
    assert "It has reached 80%" in message.replace("=\r\n", "")


def test_a_password_is_not_sent_in_the_clear_over_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "_HERE", set())
    with serving(Mail()) as mail:
        log = spent(tmp_path, ManualClock(), PERSON)
        (one,) = tell(log, {"SMTP": f"smtp://bot:hush@127.0.0.1:{mail.port}"})
        assert one.trouble == "it offers no STARTTLS, and a password is not sent in the clear"
        assert mail.got == []


@pytest.mark.parametrize(("scheme", "at_once"), [("smtp", False), ("smtps", True)])
def test_a_password_goes_over_a_network_once_it_is_encrypted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str, at_once: bool
) -> None:
    monkeypatch.setattr(sending, "_HERE", set())
    context, trusted = certificate(tmp_path)
    with serving(Mail(context, at_once=at_once)) as mail:
        url = f"{scheme}://bot%40example.org:p%40ss%2Fword@127.0.0.1:{mail.port}"
        clock = ManualClock()
        log = spent(tmp_path, clock, PERSON)
        found = {one.trouble for one in tell(log, {"SMTP": url})}
        assert found == {"its certificate is not one that this machine trusts"}
        assert (mail.heard, mail.got) == ([], [])
        monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
        clock.sleep(7200)
        assert {one.trouble for one in tell(log, {"SMTP": url})} == {""}
        assert mail.heard == [True, True]
        assert [recipient.lower() for recipient, _ in mail.got] == ["rcpt to:<me@example.org>"] * 2


def test_a_receiver_that_is_down_is_tried_again_later_and_keeps_no_other_waiting(tmp_path: Path, hook: Hook) -> None:
    clock = ManualClock()
    log = spent(tmp_path, clock, HOOK, SLACK)
    with serving(Hook()) as other:
        urls = {"HOOK": hook.url, "SLACK": other.url}
        hook.status = 503
        assert [one.trouble for one in tell(log, urls)] == ["it answered 503", "", ""]
        assert [one.trouble for one in tell(log, urls)] == ["it answered 503"]
        assert tell(log, urls) == []
        clock.sleep(LEAST_WAIT)
        assert len(tell(log, urls)) == 1
        clock.sleep(LEAST_WAIT)
        hook.status = 200
        assert [one.threshold for one in tell(log, urls)] == [Decimal(1)]
        clock.sleep(LEAST_WAIT)
        assert [one.threshold for one in tell(log, urls)] == [Decimal("0.8")]
    first, second = hook.ids()[0], hook.ids()[1]
    assert hook.ids() == [first, second, first, second, first]
    assert len(other.got) == 2


def test_a_receiver_that_hangs_keeps_no_run_from_being_stopped(
    tmp_path: Path, hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    driven: list[str] = []
    said: list[str] = []
    monkeypatch.setenv("HOOK", hook.url)
    monkeypatch.setattr(drive, "ensure_driven", lambda _, run: driven.append(run))
    clock = ManualClock()
    log = project(tmp_path, clock)
    log.keep([WATCHED])
    clock.sleep(3600)
    looker = drive.Looker(tmp_path, clock, said.append)
    hook.may_answer.clear()
    looker.look()
    assert sorted(driven) == ["low-2", "low-3"]
    clock.sleep(60)
    looker.look()
    assert sorted(set(driven)) == ["low-1", "low-2", "low-3", "mid"]
    assert not any("was told" in line for line in said)
    hook.may_answer.set()
    looker.finish()
    assert [line for line in said if "was told" in line] == [
        "small at 80%: webhook HOOK was told",
        "small at 100%: webhook HOOK was told",
    ]
    assert len(hook.got) == 2


def test_a_claim_keeps_others_off_until_it_expires(tmp_path: Path, hook: Hook) -> None:
    clock = ManualClock()
    log = spent(tmp_path, clock)
    other = AlertLog(tmp_path / "events.db", clock)
    one, noted, receiver, _ = log.due()[0]
    claim = log.claim(one, noted, receiver)
    assert claim is not None
    assert other.claim(one, noted, receiver) is None
    clock.sleep(CLAIM)
    late = other.claim(one, noted, receiver)
    assert late is not None
    log.failed(claim)
    assert log.claim(one, noted, receiver) is None
    other.told(late)
    clock.sleep(CLAIM)
    assert log.claim(one, noted, receiver) is None
    assert len(tell(log, {"HOOK": hook.url})) == 1


@pytest.mark.slow
def test_of_two_processes_at_once_one_tells(tmp_path: Path, hook: Hook) -> None:
    clock = ManualClock()
    project(tmp_path, clock).keep([WATCHED])
    environ = os.environ | {"HOOK": hook.url, "no_proxy": "*", "PYTHONPATH": os.pathsep.join(sys.path)}
    two = [subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path), "1000000"], env=environ) for _ in range(2)]
    assert [one.wait(60) for one in two] == [0, 0]
    assert len(set(hook.ids())) == len(hook.ids()) == 2


def test_who_lacks_the_url_leaves_the_delivery_to_others(tmp_path: Path, hook: Hook) -> None:
    log = spent(tmp_path, ManualClock())
    assert [one.trouble for one in tell(log, {})] == ["HOOK is not set here"]
    assert len(tell(log, {"HOOK": hook.url})) == 2


@pytest.mark.slow
def test_a_kill_at_any_statement_loses_no_alert_and_keeps_its_id(tmp_path: Path, hook: Hook) -> None:
    environ = os.environ | {"HOOK": hook.url, "no_proxy": "*", "PYTHONPATH": os.pathsep.join(sys.path)}
    twice = 0
    for left in range(100):
        folder, clock = tmp_path / str(left), ManualClock()
        project(folder, clock).keep([WATCHED])
        clock.sleep(3600)
        AlertLog(folder / "events.db", clock).close()
        hook.got.clear()
        done = subprocess.run([sys.executable, "-c", KILLED, str(folder), str(left)], env=environ, check=False)
        log = AlertLog(folder / "events.db", clock)
        clock.sleep(CLAIM)
        note(log, enforcer(log, folder, clock))
        tell(log, environ)
        assert {body["threshold"] for _, _, body in hook.got} == {"0.8", "1"}
        assert len(set(hook.ids())) == 2
        assert len(hook.ids()) <= 3
        twice += len(hook.ids()) == 3
        log.close()
        if done.returncode == 0:
            assert len(hook.ids()) == 2
            break
        assert done.returncode == -signal.SIGKILL
    else:
        pytest.fail("it never came to its end")
    assert twice


def test_no_redirect_leads_to_another_host(tmp_path: Path, hook: Hook) -> None:
    log = spent(tmp_path, ManualClock())
    enforced = enforcer(log, tmp_path, ManualClock()).standings()[0]
    with serving(Hook()) as other:
        for status, where in ((307, other.url), (302, f"{hook.url}/moved")):
            hook.status, hook.elsewhere = status, where
            found = send_test(enforced, "x", 0.0, {"HOOK": hook.url})
            assert [one.trouble for one in found] == ["it redirects elsewhere"]
        assert other.got == []
    hook.got.clear()
    hook.status, hook.elsewhere = 307, "/moved"
    assert [one.trouble for one in send_test(enforced, "x", 0.0, {"HOOK": hook.url})] == [""]
    assert [path for path, _, _ in hook.got] == ["/", "/moved"]
    assert len(set(hook.ids())) == 1


@pytest.mark.parametrize(
    ("receiver", "url"),
    [
        (HOOK, "http://127.0.0.1:{closed}/hush-hush"),
        (HOOK, "http://user:hush-hush@127.0.0.1:{closed}/"),
        (HOOK, "ftp://127.0.0.1/hush-hush"),
        (HOOK, "hush-hush"),
        (HOOK, "http://127.0.0.1:hush-hush/"),
        (HOOK, "http://[hush-hush/"),
        (HOOK, "http://127.0.0.1:{closed}/hush-hush two"),
        (SLACK, "{answers}/hush-hush"),
        (PERSON, "smtp://me:hush-hush@127.0.0.1:{mail}"),
        (PERSON, "smtp://me:hush-hush@127.0.0.1:{closed}"),
        (PERSON, "smtps://me:hush-hush@127.0.0.1:{mail}"),
        (PERSON, "http://me:hush-hush@127.0.0.1"),
    ],
)
def test_a_secret_is_in_no_word_and_no_file(tmp_path: Path, hook: Hook, receiver: Receiver, url: str) -> None:
    hook.status = 500
    said: list[str] = []
    with serving(Hook()) as gone:
        closed = gone.server_port
    with serving(Mail()) as mail, pytest.MonkeyPatch.context() as patch:
        patch.setenv(receiver.variable, url.format(closed=closed, answers=hook.url, mail=mail.port))
        clock = ManualClock()
        log = spent(tmp_path, clock, receiver)
        teller = Teller(tmp_path / "events.db", clock, said.append)
        teller.wake()
        teller.wait(60)
    assert len(said) == 1
    assert "was not told" in said[0]
    assert "hush" not in said[0]
    log.close()
    assert not [file for file in tmp_path.rglob("*") if file.is_file() and b"hush" in file.read_bytes()]
