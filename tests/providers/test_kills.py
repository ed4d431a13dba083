"""Whoever starts a machine, and whoever supervises one, killed at every step of it.

The process kills itself at the n-th of its steps, counted by an audit hook: every file it opens for writing, every
rename, removal, folder, lock, fork and new process. The slow tests go through all of them, and through system calls
with strace.
"""

import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from spotweld.errors import ProviderError
from spotweld.providers.local import launches, processes
from spotweld.providers.provider import Boot, Machine, MachineEnd, MachineState

if TYPE_CHECKING:
    from conftest import Clouds
    from spotweld.providers.local.cloud import LocalCloud

HOOK = """
import os, signal, sys
left = int(sys.argv.pop(1))
STEPS = "os.rename os.remove os.mkdir os.rmdir os.fork fcntl.flock subprocess.Popen shutil.rmtree".split()
def step(event, args):
    global left
    if event in STEPS or event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR):
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(step)
"""
STARTER = """
import json
from pathlib import Path
from spotweld.project.nouns import LocalProvider, LocalZone
from spotweld.providers.local.cloud import LocalCloud
from spotweld.providers.provider import Boot
from spotweld.values.money import parse_money
folder, births = sys.argv[1:]
zone = LocalZone("a", spot=parse_money("0.3 USD"), on_demand=parse_money("1 USD"))
cloud = LocalCloud(Path(folder), LocalProvider((zone,), up=1e9))
cloud.start(cloud.offers()[0], Boot(("sh", "-c", f"echo born >> {births}; sleep 100000"), {}), token="t", labels={})
"""
SUPERVISOR = """
import runpy
runpy.run_module("spotweld.providers.local.supervisor", run_name="__main__", alter_sys=False)
"""
# The tracer must hold nothing that the supervisor holds, above all not its lock, and be none of its descendants.
TRACED = """
import json, os, sys, time
options, folder, lock = sys.argv[1:]
tracee = os.getpid()
if os.fork() == 0:
    if os.fork() == 0:
        os.close(int(lock))
        os.dup2(2, 1)
        tracer = json.loads(options)
        os.execvp(tracer[0], [*tracer, "-p", str(tracee)])
    os._exit(0)
os.wait()
while "TracerPid:\\t0" in open("/proc/self/status").read():
    time.sleep(0.001)
os.execv(sys.executable, [sys.executable, "-P", "-m", "spotweld.providers.local.supervisor", folder, lock])
"""


def quiet_cloud(clouds: "Clouds", folder: str) -> "LocalCloud":
    import msgspec

    zone = msgspec.structs.replace(clouds.zone(), trace=None)
    return clouds.make(zone, folder=folder, up=1e9)


def check(folder: Path, machine: Machine) -> None:
    """The machine is over and has left nothing behind but its records."""
    assert machine.ended is not None
    assert processes.marked(folder) == []
    assert not (folder / "disk").exists()


def check_starter(clouds: "Clouds", name: str, command: list[str]) -> bool:
    """Whether the starter got through unharmed; asserts that its call can be repeated either way."""
    births = clouds.folder / f"{name}.births"
    arguments = [str(clouds.folder / name), str(births)]
    status = subprocess.run([*command, *arguments], check=False, stdin=subprocess.DEVNULL).returncode
    assert status in {0, -9, 137}
    cloud = quiet_cloud(clouds, name)
    boot = Boot(("sh", "-c", f"echo born >> {births}; sleep 100000"), {})
    machine = cloud.start(clouds.offer(cloud), boot, token="t", labels={})
    assert machine.state is not MachineState.ENDED
    clouds.wait_for(lambda: births.exists() and births.read_text())
    assert [m.id for m in cloud.machines({})] == [machine.id]
    cloud.stop(machine.id)
    (ended,) = cloud.machines({})
    assert ended.end is MachineEnd.STOPPED
    assert births.read_text() == "born\n"
    check(clouds.folder / name / "machines" / machine.id, ended)
    return status == 0


def check_supervisor(clouds: "Clouds", name: str, monkeypatch: pytest.MonkeyPatch, prefix: list[str]) -> bool:
    """Whether the supervisor got through unharmed; asserts that whatever happened is on record, and nothing is left."""
    births = clouds.folder / f"{name}.births"
    cloud = quiet_cloud(clouds, name)
    boot = Boot(("sh", "-c", f"echo born >> {births}; sleep 100000 & setsid sleep 100000 & wait"), {})
    start = lambda: cloud.start(clouds.offer(cloud), boot, token="t", labels={})  # noqa: E731
    with monkeypatch.context() as patch:
        patch.setattr(launches, "command", lambda folder, lock: [*prefix, str(folder), str(lock)])
        try:
            machine = start()
        except ProviderError:
            machine = None
    if machine is None:
        assert cloud.machines({}) == []
        assert not births.exists()
        (log,) = (clouds.folder / name).glob("machines/*/supervisor.log")
        assert log.read_text() == ""
        machine = start()
        assert machine.state is not MachineState.ENDED
        cloud.stop(machine.id)
        check(clouds.folder / name / "machines" / machine.id, cloud.machines({})[0])
        return False
    look = lambda: cloud.machines({})[0]  # noqa: E731
    clouds.wait_for(lambda: births.exists() or look().ended is not None)
    try:
        cloud.interrupt(machine.id, notice=0.01)
    except ProviderError:
        clouds.wait_for(lambda: look().ended is not None)
    clouds.wait_for(lambda: look().ended is not None)
    # It may have died between opening that file and writing to it.
    assert not births.exists() or births.read_text() in {"", "born\n"}
    folder = clouds.folder / name / "machines" / machine.id
    assert start() == look()
    lost = look().end is not MachineEnd.INTERRUPTED
    check(folder, look())
    return not lost


def hooked(script: str, left: int) -> list[str]:
    return [sys.executable, "-P", "-c", HOOK + script, str(left)]


def traced(call: str, nth: int) -> list[str]:
    """Options of strace: a traced thread dies at its n-th system call ``call``."""
    return ["strace", "-qq", "-o", "/dev/null", "-e", f"inject={call}:signal=KILL:when={nth}"]


@pytest.mark.parametrize("left", [3, 7, 11])
def test_a_starter_killed_at_some_steps(clouds: "Clouds", left: int) -> None:
    assert not check_starter(clouds, "cloud", hooked(STARTER, left))


@pytest.mark.parametrize("left", [5, 11, 17])
def test_a_supervisor_killed_at_some_steps(clouds: "Clouds", left: int, monkeypatch: pytest.MonkeyPatch) -> None:
    check_supervisor(clouds, "cloud", monkeypatch, hooked(SUPERVISOR, left))


@pytest.mark.slow
def test_a_starter_killed_at_every_step(clouds: "Clouds") -> None:
    for left in itertools.count(1):
        if check_starter(clouds, f"cloud{left}", hooked(STARTER, left)):
            break
    assert left > 10


@pytest.mark.slow
def test_a_supervisor_killed_at_every_step(clouds: "Clouds", monkeypatch: pytest.MonkeyPatch) -> None:
    for left in itertools.count(1):
        if check_supervisor(clouds, f"cloud{left}", monkeypatch, hooked(SUPERVISOR, left)):
            break
    assert left > 10


@pytest.mark.slow
@pytest.mark.parametrize("call", ["fsync", "rename", "flock", "mkdir", "vfork"])
def test_a_starter_killed_at_every_system_call(clouds: "Clouds", call: str) -> None:
    for nth in itertools.count(1):
        # Without -f: the supervisor that it starts is not to die with it.
        command = [*traced(call, nth), "-D", sys.executable, "-P", "-c", "import sys\n" + STARTER]
        if check_starter(clouds, f"cloud{nth}", command):
            break


@pytest.mark.slow
@pytest.mark.parametrize("call", ["fsync", "rename", "prctl", "setsid", "clone", "unlink", "kill,pidfd_send_signal"])
def test_a_supervisor_killed_at_every_system_call(clouds: "Clouds", call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for nth in itertools.count(1):
        prefix = [sys.executable, "-P", "-c", TRACED, json.dumps([*traced(call, nth), "-f"])]
        if check_supervisor(clouds, f"cloud{nth}", monkeypatch, prefix):
            break
