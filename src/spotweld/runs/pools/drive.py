"""The keeper as a process of its own, which outlives the terminal that started it.

``python -m spotweld.runs.pools.drive STATE POOL LOCK`` keeps a pool until it is down. A lock that the kernel gives back
when the process dies says whether one is at work; the log's generations, not this lock, keep two apart.
"""

from __future__ import annotations

import fcntl
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from spotweld.errors import SpotweldError
from spotweld.placement.hedging import OnDemand, SpotOnly
from spotweld.placement.keeping import Ours
from spotweld.project.nouns import SpotUse
from spotweld.providers.opening import open_provider
from spotweld.runs.pools.keeper import Keeper
from spotweld.runs.pools.log import PoolLog
from spotweld.store.opening import open_store
from spotweld.values.clocks import SystemClock, iso

if TYPE_CHECKING:
    from spotweld.placement.fleets import FleetPolicy

if TYPE_CHECKING:
    from spotweld.placement.fleets import FleetPolicy

_LOCK = 3
"""The descriptor that a keeper inherits the pool's lock under."""


def pools_path(state: Path) -> Path:
    """The log of the pools of a project whose state folder this is."""
    return state / "pools.db"


def keeper_log(state: Path, pool: str) -> Path:
    """What the pool's keepers say about themselves."""
    return _folder(state, pool) / "keeper.log"


def is_kept(state: Path, pool: str) -> bool:
    """Whether a keeper is at work on the pool."""
    with (_folder(state, pool) / "lock").open("a") as lock:
        # Shared, so that two who ask at once do not take each other for a keeper.
        return not _try_lock(lock.fileno(), fcntl.LOCK_SH)


def ensure_kept(state: Path, pool: str) -> bool:
    """Start a keeper for the pool unless one is at work; whether one was started. Returns at once."""
    with (_folder(state, pool) / "lock").open("a") as lock, keeper_log(state, pool).open("ab") as output:
        if not _try_lock(lock.fileno(), fcntl.LOCK_EX):
            return False
        # The keeper inherits the lock itself: there is no instant at which nobody holds it.
        arguments = [sys.executable, "-P", "-m", "spotweld.runs.pools.drive", str(state), pool, str(_LOCK)]
        # Not subprocess: that wants its children waited for, and this one outlives us.
        os.posix_spawn(
            sys.executable,
            arguments,
            os.environ,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, output.fileno(), 1),
                (os.POSIX_SPAWN_DUP2, output.fileno(), 2),
                (os.POSIX_SPAWN_DUP2, lock.fileno(), _LOCK),
            ],
            setsid=True,
        )
    return True


def main(state: Path, pool: str, lock: int) -> None:
    """Keep the pool until it is down.

    Args:
        state: the project's state folder.
        pool: which one.
        lock: descriptor of the pool's lock.
    """
    os.set_inheritable(lock, False)
    # The folder that it was started in may vanish.
    os.chdir(state)
    _say(f"keeper {os.getpid()} keeps {pool}")
    log = PoolLog(pools_path(state))
    try:
        while True:
            while not log.state(pool).down:
                _keep(state, pool, log)
            # Whoever wants it again from here on finds the lock free; who did so just before is heard now.
            fcntl.flock(lock, fcntl.LOCK_UN)
            if log.state(pool).down or not _try_lock(lock, fcntl.LOCK_EX):
                _say("down")
                return
    except SpotweldError as error:
        _say(str(error))


def policy_of(use: SpotUse) -> FleetPolicy:
    """What decides which machines a pool holds."""
    return {SpotUse.SPOT: SpotOnly, SpotUse.ON_DEMAND: OnDemand}.get(use, Ours)()


def _keep(state: Path, pool: str, log: PoolLog) -> None:
    wanted = log.state(pool).wanted
    provider = open_provider(state, wanted.local)
    # Tested when the pool was opened; a store that is down now is waited for.
    objects = open_store(wanted.recipe.store, verify=False)
    Keeper(pool, log, objects, provider, policy_of(wanted.pool.spot_policy), SystemClock(), _say).keep()


def _folder(state: Path, pool: str) -> Path:
    folder = state / "pools" / pool
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _try_lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _say(text: str) -> None:
    print(f"{iso(SystemClock().now())} {text}", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
