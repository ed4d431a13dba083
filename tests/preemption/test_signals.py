"""Signals, really sent, mostly to processes of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from signal import SIGTERM, SIGUSR1
from typing import TYPE_CHECKING, Self

import pytest

from spotweld.errors import UsageError
from spotweld.preemption.notices import Kind, Notice
from spotweld.preemption.signals import PLAIN, Rules, SignalSource, kubernetes, slurm

if TYPE_CHECKING:
    from conftest import HandClock

START = """
import os, signal, threading, time
from spotweld.preemption.signals import SignalSource, slurm
def say(*words): print(*words, flush=True)
def idle():
    while True: time.sleep(0.01)
"""


class Process:
    """A Python program that speaks in lines; it and what it forked are killed at the end."""

    def __init__(self, program: str) -> None:
        self._child = subprocess.Popen(
            [sys.executable, "-c", START + program], stdout=subprocess.PIPE, text=True, start_new_session=True
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._child.pid, signal.SIGKILL)
        self._child.communicate()

    def hears(self) -> str:
        assert self._child.stdout is not None
        return self._child.stdout.readline().strip()

    def send(self, number: int) -> None:
        self._child.send_signal(number)

    def status(self) -> int:
        return self._child.wait(30)


def test_a_term_is_heard_while_the_main_thread_works() -> None:
    program = """
source = SignalSource()
heard = threading.Thread(target=lambda: say(source.wait(60).id), daemon=True)
heard.start()
say('ready')
while heard.is_alive():
    sum(range(1000))
"""
    with Process(program) as process:
        assert process.hears() == "ready"
        process.send(SIGTERM)
        assert process.hears().startswith("signal-SIGTERM-")
        assert process.status() == 0


def test_a_slurm_job_hears_the_warning_and_then_the_end() -> None:
    program = """
source = SignalSource(slurm())
say('ready')
for _ in range(2):
    notice = source.wait(60)
    say(notice.source, notice.kind, round(notice.deadline - notice.received))
"""
    with Process(program) as process:
        assert process.hears() == "ready"
        process.send(SIGUSR1)
        assert process.hears() == "slurm terminate 60"
        process.send(signal.SIGCONT)  # means nothing by itself
        process.send(SIGTERM)
        assert process.hears() == "slurm terminate 30"
        assert process.status() == 0


def test_after_close_the_default_is_back() -> None:
    with Process("source = SignalSource()\nsource.close()\nsource.close()\nsay('ready')\nidle()") as process:
        assert process.hears() == "ready"
        process.send(SIGTERM)
        assert process.status() == -SIGTERM


def test_closed_in_another_thread_the_next_signal_finds_the_default() -> None:
    program = """
source = SignalSource()
closing = threading.Thread(target=source.close)
closing.start()
closing.join()
say('ready')
idle()
"""
    with Process(program) as process:
        assert process.hears() == "ready"
        process.send(SIGTERM)
        assert process.status() == -SIGTERM


def test_a_forked_child_dies_of_a_term_and_the_parent_hears_nothing() -> None:
    program = """
source = SignalSource()
reading, writing = os.pipe()
child = os.fork()
if not child:
    os.write(writing, b'.')
    idle()
os.read(reading, 1)
os.kill(child, signal.SIGTERM)
_, status = os.waitpid(child, 0)
say(os.waitstatus_to_exitcode(status), source.wait(0.2))
"""
    with Process(program) as process:
        assert process.hears() == f"{-SIGTERM} None"


def test_a_handler_of_the_users_own_is_put_back() -> None:
    program = """
signal.signal(signal.SIGTERM, lambda *_: (say('mine'), os._exit(7)))
source = SignalSource()
say('ready')
source.wait(60)
source.close()
say('closed')
idle()
"""
    with Process(program) as process:
        assert process.hears() == "ready"
        process.send(SIGTERM)
        assert process.hears() == "closed"
        process.send(SIGTERM)
        assert process.hears() == "mine"
        assert process.status() == 7


RULES = Rules("drill", {SIGUSR1: 12.0})


def test_a_signal_repeated_is_the_same_notice(clock: HandClock) -> None:
    source = SignalSource(RULES, clock=clock)
    signal.raise_signal(SIGUSR1)
    first = source.wait(20)
    clock.sleep(5)
    signal.raise_signal(SIGUSR1)
    assert source.wait(20) == first
    source.close()
    assert isinstance(first, Notice)
    assert (first.kind, first.source) == (Kind.TERMINATE, "drill")
    assert first.deadline == first.received + 12


def test_close_wakes_a_thread_that_waits() -> None:
    source = SignalSource(RULES)
    waiting = threading.Thread(target=source.wait, args=(600,))
    waiting.start()
    source.close()
    waiting.join(20)
    assert not waiting.is_alive()


def test_silence_says_nothing() -> None:
    source = SignalSource(RULES)
    assert source.wait(0.01) is None
    source.close()


def test_a_handler_installed_later_is_left_alone() -> None:
    source = SignalSource(RULES)
    signal.signal(SIGUSR1, signal.SIG_IGN)
    source.close()
    assert signal.signal(SIGUSR1, signal.SIG_DFL) == signal.SIG_IGN


def test_only_the_main_thread_can_install_it() -> None:
    caught: list[UsageError] = []

    def install() -> None:
        with pytest.raises(UsageError) as info:
            SignalSource(RULES)
        caught.append(info.value)

    thread = threading.Thread(target=install)
    thread.start()
    thread.join()
    assert "main thread" in str(caught[0])
    assert signal.getsignal(SIGUSR1) == signal.SIG_DFL


def test_the_wakeup_descriptor_of_an_event_loop_stays() -> None:
    reading, writing = os.pipe2(os.O_NONBLOCK)
    earlier = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    try:
        source = SignalSource(RULES)
        signal.raise_signal(SIGUSR1)
        assert isinstance(source.wait(20), Notice)
        source.close()
        assert os.read(reading, 1) == bytes([SIGUSR1])
    finally:
        assert signal.set_wakeup_fd(earlier) == writing
        os.close(reading)
        os.close(writing)


def test_rules() -> None:
    assert PLAIN.leads == {SIGTERM: None}
    assert slurm(warning=120.0, kill_wait=5.0).leads == {SIGUSR1: 120.0, SIGTERM: 5.0}
    assert kubernetes(grace=30.0, pre_stop=12.0).leads == {SIGTERM: 18.0}
    assert kubernetes(grace=5.0, pre_stop=12.0).leads == {SIGTERM: 0.0}
