"""Real machines of the local cloud, with trivial guests."""

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from spotweld.errors import NoCapacity, ProviderError
from spotweld.providers.local import cloud as cloud_module
from spotweld.providers.local import launches, processes
from spotweld.providers.provider import Boot, MachineEnd, MachineState
from spotweld.values.offers import CapacityType

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Clouds

STUBBORN = "trap 'echo heard TERM' TERM; echo ready; while :; do sleep 0.02; done"
DAEMON = """
import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        open(sys.argv[1], "w").write(str(os.getpid()))
        time.sleep(100000)
    os._exit(0)
os.wait()
while not os.path.exists(sys.argv[1]) or not open(sys.argv[1]).read():
    time.sleep(0.01)
print("ready", flush=True)
if sys.argv[2] == "stay":
    time.sleep(100000)
"""
START = """
import sys
from pathlib import Path
from spotweld.project.nouns import LocalProvider
from spotweld.providers.local import records
from spotweld.providers.local.cloud import LocalCloud
from spotweld.providers.provider import Boot
from spotweld.errors import NoCapacity
import msgspec
folder, config, token, *argv = sys.argv[1:]
config = msgspec.json.decode(config, type=LocalProvider, dec_hook=records._from_text)
cloud = LocalCloud(Path(folder), config)
offer = cloud.offers()[0]
print("ready", flush=True)
sys.stdin.read()
try:
    print(cloud.start(offer, Boot(tuple(argv), {}), token=token, labels={}).id)
except NoCapacity:
    print("refused")
"""


def alive(pid: int) -> bool:
    found = processes.look_up(pid)
    return found is not None and not found.zombie


def start_at_once(clouds: "Clouds", config: str, tokens: list[str], *argv: str) -> list[str]:
    """What processes that all start a machine at the same moment print: its id, or ``refused``."""
    running = [
        subprocess.Popen(
            [sys.executable, "-c", START, str(clouds.folder / "cloud"), config, token, *argv],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for token in tokens
    ]
    for process in running:
        process.stdout.readline()
    for process in running:
        process.stdin.close()
    printed = [process.stdout.read().strip() for process in running]
    for process in running:
        assert process.wait() == 0
        process.stdout.close()
    return printed


def encoded(config: object) -> str:
    import msgspec

    return msgspec.json.encode(config, enc_hook=str).decode()


def test_four_processes_with_one_token_start_one_machine(clouds: "Clouds", tmp_path: Path) -> None:
    # Room for one only: none of the four may take its own machine for somebody else's.
    cloud = clouds.make(clouds.zone(levels=[1]))
    births = tmp_path / "births"
    guest = ("sh", "-c", f"echo born >> {births}; sleep 100000")
    ids = start_at_once(clouds, encoded(cloud._config), ["same"] * 4, *guest)
    assert len(set(ids)) == 1
    clouds.wait_for(lambda: births.exists() and births.read_text())
    assert [machine.id for machine in cloud.machines({})] == ids[:1]
    cloud.stop(ids[0])
    assert births.read_text() == "born\n"


def test_a_machine_that_came_and_went_while_its_starter_waited_is_not_started_again(
    clouds: "Clouds", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud, births = clouds.make(), tmp_path / "births"
    guest = ("sh", "-c", f"echo born >> {births}")
    first = clouds.ended(cloud, clouds.started(cloud, *guest))
    clouds.wait_for(lambda: not alive(clouds.supervisor(first)))
    settled, looks = cloud._settled, iter([None])
    # As if it had looked for the machine just before the other one started it.
    monkeypatch.setattr(cloud, "_settled", lambda folder: next(looks, settled(folder)))
    assert clouds.started(cloud, *guest) == first
    assert births.read_text() == "born\n"


def test_four_processes_share_the_room_there_is(clouds: "Clouds") -> None:
    cloud = clouds.make(clouds.zone(levels=[1], machines=2))
    printed = start_at_once(clouds, encoded(cloud._config), ["1", "2", "3", "4"], "sleep", "100000")
    assert printed.count("refused") == 2
    assert {machine.id for machine in cloud.machines({})} == set(printed) - {"refused"}


def test_room_is_counted_by_zone_and_on_demand_takes_none(clouds: "Clouds") -> None:
    cloud = clouds.make(clouds.zone(levels=[1]), clouds.zone("b", levels=[1]), clouds.zone("none", levels=[0]))
    first = clouds.started(cloud, token="1")
    with pytest.raises(NoCapacity, match="1 run there"):
        clouds.started(cloud, token="2")
    boot = Boot(("sleep", "100000"), {})
    cloud.start(clouds.offer(cloud, "b"), boot, token="3", labels={})
    for token in ("4", "5"):
        cloud.start(clouds.offer(cloud, "a", CapacityType.ON_DEMAND), boot, token=token, labels={})
    with pytest.raises(NoCapacity, match="capacity for 0"):
        cloud.start(clouds.offer(cloud, "none"), boot, token="6", labels={})
    cloud.stop(first.id)
    assert clouds.started(cloud, token="2").state is not MachineState.ENDED


def test_a_machine_without_a_supervisor_takes_no_room(clouds: "Clouds") -> None:
    cloud = clouds.make(clouds.zone(levels=[1]))
    first = clouds.started(cloud, token="1")
    os.kill(clouds.supervisor(first), signal.SIGKILL)
    clouds.wait_for(lambda: not alive(clouds.supervisor(first)))
    clouds.wait_for(lambda: clouds.ended(cloud, first).end is MachineEnd.LOST)
    assert clouds.started(cloud, token="2").state is not MachineState.ENDED


def test_a_loss_of_capacity_takes_the_youngest(clouds: "Clouds") -> None:
    # Two, one, two, one ... so that it does not matter how long a start takes.
    cloud = clouds.make(clouds.zone(levels=[2, 1], gap=0.7), notices=(0.2,))
    older = clouds.started(cloud, token="1")

    def started() -> bool:
        try:
            clouds.started(cloud, token="2")
        except NoCapacity:
            return False
        return True

    clouds.wait_for(started)
    younger = next(machine for machine in cloud.machines({}) if machine.id != older.id)
    taken = clouds.ended(cloud, younger)
    assert taken.end is MachineEnd.INTERRUPTED
    assert taken.noticed is not None
    assert next(machine for machine in cloud.machines({}) if machine.id == older.id).ended is None
    cloud.stop(older.id)
    assert clouds.ended(cloud, older).end is MachineEnd.STOPPED


def test_a_loss_without_warning(clouds: "Clouds") -> None:
    cloud = clouds.make(clouds.zone(levels=[1, 0], gap=0.5), notices=(None,))

    def started() -> bool:
        try:
            clouds.started(cloud, "sh", "-c", STUBBORN)
        except NoCapacity:
            return False
        return True

    clouds.wait_for(started)
    (machine,) = cloud.machines({})
    taken = clouds.ended(cloud, machine)
    assert (taken.end, taken.noticed) == (MachineEnd.INTERRUPTED, None)
    assert "TERM" not in clouds.console(machine)


def test_no_loss_of_capacity_touches_an_on_demand_machine(clouds: "Clouds") -> None:
    cloud = clouds.make(clouds.zone(levels=[1, 0], gap=0.1), notices=(None,))
    offer = clouds.offer(cloud, "a", CapacityType.ON_DEMAND)
    machine = cloud.start(offer, Boot(("sh", "-c", "sleep 0.5; echo done"), {}), token="t", labels={})
    assert clouds.ended(cloud, machine).end is MachineEnd.EXITED
    assert clouds.console(machine) == "done\n"


def ask(url: str, headers: dict[str, str], method: str = "GET") -> tuple[int, str]:
    request = urllib.request.Request(url, headers=headers, method=method)
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, ""


def test_a_notice_is_announced_in_the_clouds_protocols_then_term_then_kill(clouds: "Clouds", tmp_path: Path) -> None:
    cloud = clouds.make()
    where = tmp_path / "metadata"
    script = f"printf %s $SPOTWELD_METADATA > {where}.new; mv {where}.new {where}; {STUBBORN}"
    machine = clouds.started(cloud, "sh", "-c", script)
    clouds.wait_for(where.exists)
    base = where.read_text()
    life = {"X-aws-ec2-metadata-token-ttl-seconds": "600"}
    _, token = ask(f"{base}/latest/api/token", life, "PUT")
    aws = lambda: ask(f"{base}/latest/meta-data/spot/instance-action", {"X-aws-ec2-metadata-token": token})  # noqa: E731
    gcp = lambda: ask(f"{base}/computeMetadata/v1/instance/preempted", {"Metadata-Flavor": "Google"})  # noqa: E731
    assert aws() == (404, "")
    assert gcp() == (200, "FALSE")
    cloud.interrupt(machine.id, notice=1.0)
    clouds.wait_for(lambda: aws()[0] == 200)
    assert json.loads(aws()[1])["action"] == "terminate"
    assert gcp() == (200, "TRUE")
    assert cloud.machines({})[0].state is not MachineState.ENDED
    ended = clouds.ended(cloud, machine)
    assert ended.end is MachineEnd.INTERRUPTED
    assert ended.noticed is not None
    assert "heard TERM" in clouds.console(machine)


def test_a_guest_that_leaves_after_the_notice_has_exited(clouds: "Clouds") -> None:
    cloud = clouds.make()
    machine = clouds.started(cloud, "sh", "-c", "echo ready; until [ -e leave ]; do sleep 0.02; done")
    clouds.wait_for(lambda: "ready" in clouds.console(machine))
    cloud.interrupt(machine.id, notice=10_000.0)
    clouds.wait_for(lambda: cloud.machines({})[0].noticed is not None)
    (clouds.disk(machine) / "leave").touch()
    ended = clouds.ended(cloud, machine)
    assert ended.end is MachineEnd.EXITED
    assert ended.noticed is not None


def test_a_kill_without_notice_is_not_announced(clouds: "Clouds") -> None:
    cloud = clouds.make()
    machine = clouds.started(cloud, "sh", "-c", STUBBORN)
    clouds.wait_for(lambda: "ready" in clouds.console(machine))
    cloud.interrupt(machine.id, notice=None)
    clouds.ended(cloud, machine)
    assert clouds.console(machine) == "ready\n"


def test_a_guest_that_goes_at_term_is_stopped_and_its_last_words_are_kept(clouds: "Clouds") -> None:
    cloud = clouds.make()
    machine = clouds.started(
        cloud, "sh", "-c", "trap 'echo bye; exit 3' TERM; echo ready; while :; do sleep 0.02; done"
    )
    clouds.wait_for(lambda: "ready" in clouds.console(machine))
    cloud.stop(machine.id)
    assert cloud.machines({})[0].end is MachineEnd.STOPPED
    assert clouds.console(machine).endswith("bye\n")


@pytest.fixture(params=["stop", "exit", "interrupt", "supervisor killed"])
def way_out(request: pytest.FixtureRequest) -> str:
    assert isinstance(request.param, str)
    return request.param


def test_daemons_end_with_their_machine(clouds: "Clouds", tmp_path: Path, way_out: str) -> None:
    cloud = clouds.make()
    pid_file = tmp_path / "daemon"
    stay = "leave" if way_out == "exit" else "stay"
    machine = clouds.started(cloud, sys.executable, "-c", DAEMON, str(pid_file), stay)
    clouds.wait_for(lambda: "ready" in clouds.console(machine))
    daemon = int(pid_file.read_text())
    ways: dict[str, Callable[[], object]] = {
        "stop": lambda: cloud.stop(machine.id),
        "exit": lambda: None,
        "interrupt": lambda: cloud.interrupt(machine.id, notice=0.1),
        "supervisor killed": lambda: os.kill(clouds.supervisor(machine), signal.SIGKILL),
    }
    ways[way_out]()
    ended = clouds.ended(cloud, machine)
    assert not alive(daemon)
    assert not clouds.disk(machine).exists()
    expected = {"stop": "stopped", "exit": "exited", "interrupt": "interrupted", "supervisor killed": "lost"}
    assert ended.end == expected[way_out]


def test_the_first_process_ends_with_the_supervisor_even_if_nobody_looks(clouds: "Clouds", tmp_path: Path) -> None:
    cloud = clouds.make()
    pid_file = tmp_path / "pid"
    machine = clouds.started(cloud, "sh", "-c", f"echo $$ > {pid_file}; echo ready; exec sleep 100000")
    clouds.wait_for(lambda: "ready" in clouds.console(machine))
    os.kill(clouds.supervisor(machine), signal.SIGKILL)
    clouds.wait_for(lambda: not alive(int(pid_file.read_text())))


def test_a_lost_machine_has_ended_at_its_last_sign_of_life(clouds: "Clouds") -> None:
    cloud = clouds.make()
    machine = clouds.started(cloud)
    supervisor = clouds.supervisor(machine)
    os.kill(supervisor, signal.SIGKILL)
    clouds.wait_for(lambda: not alive(supervisor))
    os.utime(clouds.folder_of(machine) / "alive", (0, machine.started + 0.001))
    assert clouds.ended(cloud, machine).ended == pytest.approx(machine.started + 0.001, abs=1e-5)


def test_a_supervisor_that_is_told_to_go_takes_its_machine_along(clouds: "Clouds") -> None:
    cloud = clouds.make()
    machine = clouds.started(cloud)
    os.kill(clouds.supervisor(machine), signal.SIGTERM)
    assert clouds.ended(cloud, machine).end is MachineEnd.LOST


def test_a_hung_supervisor_does_not_keep_a_machine_from_being_stopped(
    clouds: "Clouds", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cloud_module, "PATIENCE", 0.2)
    cloud = clouds.make()
    machine = clouds.started(cloud)
    os.kill(clouds.supervisor(machine), signal.SIGSTOP)
    cloud.stop(machine.id)
    assert cloud.machines({})[0].end is MachineEnd.STOPPED
    assert not alive(clouds.supervisor(machine))


def test_a_machine_outlives_its_starter(clouds: "Clouds") -> None:
    cloud = clouds.make()
    (machine,) = start_at_once(clouds, encoded(cloud._config), ["t"], "sleep", "100000")
    assert [m.id for m in cloud.machines({})] == [machine]
    assert cloud.machines({})[0].ended is None


def test_end_records_survive_and_consoles_stay(clouds: "Clouds") -> None:
    cloud = clouds.make()
    machine = clouds.started(cloud, "sh", "-c", "mkdir -p a/b; touch a/b/c; chmod 500 a/b a; echo hello; echo oops >&2")
    ended = clouds.ended(cloud, machine)
    assert list(clouds.make().machines({})) == [ended]
    assert clouds.console(machine) == "hello\noops\n"
    assert not clouds.disk(machine).exists()


def test_a_guest_sees_a_machine_and_not_its_users_shell(clouds: "Clouds", monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_SECRET", "from the shell")
    cloud = clouds.make()
    machine = clouds.started(
        cloud, "sh", "-c", "env; pwd; cat; python -c 'import sys; print(sys.executable)'", MINE="1"
    )
    clouds.ended(cloud, machine)
    console = clouds.console(machine)
    lines = console.splitlines()
    disk = str(clouds.disk(machine))
    assert "MY_SECRET" not in console
    assert {"MINE=1", f"HOME={disk}", disk} <= set(lines)
    assert any(line.startswith("SPOTWELD_METADATA=http://127.0.0.1:") for line in lines)
    assert Path(lines[-1]).parent == Path(sys.executable).parent


@pytest.mark.parametrize("argv", [("no-such-program",), ()])
def test_a_guest_that_cannot_be_run_says_so_on_the_console(clouds: "Clouds", argv: tuple[str, ...]) -> None:
    cloud = clouds.make()
    machine = cloud.start(clouds.offer(cloud), Boot(argv, {}), token="t", labels={})
    assert clouds.ended(cloud, machine).end is MachineEnd.EXITED
    assert "Error" in clouds.console(machine)


def test_a_machine_boots_before_it_runs(clouds: "Clouds", tmp_path: Path) -> None:
    cloud = clouds.make(boot=100_000.0)
    machine = clouds.started(cloud, "touch", str(tmp_path / "ran"))
    assert machine.state is MachineState.STARTING
    cloud.stop(machine.id)
    assert cloud.machines({})[0].end is MachineEnd.STOPPED
    assert not (tmp_path / "ran").exists()
    quick = clouds.make(boot=0.2)
    clouds.ended(quick, clouds.started(quick, "touch", str(tmp_path / "ran"), token="2"))
    assert (tmp_path / "ran").exists()


def test_a_supervisor_that_does_not_come_up_leaves_no_machine(
    clouds: "Clouds", monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud = clouds.make()
    with monkeypatch.context() as patch:
        patch.setattr(launches, "command", lambda *_: [sys.executable, "-c", "raise SystemExit('out of order')"])
        with pytest.raises(ProviderError, match="out of order"):
            clouds.started(cloud)
    assert cloud.machines({}) == []
    assert clouds.started(cloud).state is not MachineState.ENDED


def test_a_supervisor_that_says_nothing_is_given_up(clouds: "Clouds", monkeypatch: pytest.MonkeyPatch) -> None:
    cloud = clouds.make()
    with monkeypatch.context() as patch:
        # Like a supervisor it is not the child of whoever started it.
        patch.setattr(launches, "command", lambda *_: ["sh", "-c", "sleep 100000 &"])
        patch.setattr(launches, "PATIENCE", 0.1)
        with pytest.raises(ProviderError, match="said nothing"):
            clouds.started(cloud)
    assert clouds.started(cloud).state is not MachineState.ENDED


def test_any_folder_will_do(clouds: "Clouds") -> None:
    folder = "a long name with blanks ünd umlauts/" + "/".join(["deep" * 10] * 4)
    cloud = clouds.make(folder=folder)
    machine = clouds.started(cloud)
    cloud.stop(machine.id)
    assert cloud.machines({})[0].end is MachineEnd.STOPPED


def test_a_bad_notice_or_zone_is_refused(clouds: "Clouds") -> None:
    cloud = clouds.make()
    machine = clouds.started(cloud)
    for notice in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ProviderError, match="notice"):
            cloud.interrupt(machine.id, notice=notice)
    other = clouds.make(clouds.zone("other"))
    with pytest.raises(ProviderError, match="no zone"):
        cloud.start(clouds.offer(other, "other"), Boot(("true",), {}), token="2", labels={})


def test_a_damaged_record_is_named(clouds: "Clouds") -> None:
    cloud = clouds.make()
    machine = clouds.started(cloud)
    cloud.stop(machine.id)
    record = clouds.folder_of(machine) / "machine.json"
    whole = record.read_bytes()
    record.write_bytes(b"{")
    with pytest.raises(ProviderError, match=r"machine\.json"):
        clouds.make().machines({})
    record.write_bytes(whole)


@pytest.mark.slow
def test_a_machine_whose_cloud_was_removed_ends(clouds: "Clouds", tmp_path: Path) -> None:
    import shutil

    cloud = clouds.make()
    pid_file = tmp_path / "pid"
    machine = clouds.started(cloud, "sh", "-c", f"echo $$ > {pid_file}; echo ready; exec sleep 100000")
    clouds.wait_for(lambda: "ready" in clouds.console(machine))
    supervisor = clouds.supervisor(machine)
    shutil.rmtree(clouds.folder / "cloud")
    clouds.wait_for(lambda: not alive(supervisor))
    assert not alive(int(pid_file.read_text()))
