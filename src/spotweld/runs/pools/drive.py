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
from spotweld.placement.hedging import FleetOnDemand, SpotOnly
from spotweld.placement.keeping import FleetOurs
from spotweld.project.nouns import SpotUse
from spotweld.providers.opening import open_provider
from spotweld.runs.outliving import ensure_at_work, is_at_work, say, settle, try_lock
from spotweld.runs.pools.keeper import Keeper
from spotweld.runs.pools.log import PoolLog
from spotweld.store.opening import open_store
from spotweld.values.clocks import SystemClock

if TYPE_CHECKING:
    from spotweld.placement.fleets import FleetPolicy


def pools_path(state: Path) -> Path:
    """The log of the pools of a project whose state folder this is."""
    return state / "pools.db"


def keeper_log(state: Path, pool: str) -> Path:
    """What the pool's keepers say about themselves."""
    return _folder(state, pool) / "keeper.log"


def is_kept(state: Path, pool: str) -> bool:
    """Whether a keeper is at work on the pool."""
    return is_at_work(_folder(state, pool))


def ensure_kept(state: Path, pool: str) -> bool:
    """Start a keeper for the pool unless one is at work; whether one was started. Returns at once."""
    folder = _folder(state, pool)
    return ensure_at_work(folder, "spotweld.runs.pools.drive", (str(state), pool), keeper_log(state, pool))


def main(state: Path, pool: str, lock: int) -> None:
    """Keep the pool until it is down.

    Args:
        state: the project's state folder.
        pool: which one.
        lock: descriptor of the pool's lock.
    """
    settle(state, lock)
    say(f"keeper {os.getpid()} keeps {pool}")
    log = PoolLog(pools_path(state))
    try:
        while True:
            while not log.state(pool).down:
                _keep(state, pool, log)
            # Whoever wants it again from here on finds the lock free; who did so just before is heard now.
            fcntl.flock(lock, fcntl.LOCK_UN)
            if log.state(pool).down or not try_lock(lock):
                say("down")
                return
    except SpotweldError as error:
        say(str(error))


def policy_of(use: SpotUse) -> FleetPolicy:
    """What decides which machines a pool holds."""
    return {SpotUse.SPOT: SpotOnly, SpotUse.ON_DEMAND: FleetOnDemand}.get(use, FleetOurs)()


def _keep(state: Path, pool: str, log: PoolLog) -> None:
    wanted = log.state(pool).wanted
    provider = open_provider(state, wanted.local)
    # Tested when the pool was opened; a store that is down now is waited for.
    objects = open_store(wanted.recipe.store, verify=False)
    Keeper(pool, log, objects, provider, policy_of(wanted.pool.spot_policy), SystemClock(), say).keep()


def _folder(state: Path, pool: str) -> Path:
    folder = state / "pools" / pool
    folder.mkdir(parents=True, exist_ok=True)
    return folder


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
