"""What a pool's machine runs: it prepares what the job needs, waits until a run takes it, and becomes that run's agent.

It decides one thing: a machine that learns that it will end closes its own claim, so that no run takes it. If a run has
been quicker, it goes on as that run's attempt and passes the notice on.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from spotweld.errors import Unavailable
from spotweld.preemption.detect import sources_here
from spotweld.preemption.watcher import Watcher
from spotweld.runs.agent import PATIENCE, Agent, is_over
from spotweld.runs.courier import Courier, persist, say
from spotweld.runs.pools.members import Claim, Readiness, claim, read_claim, read_orders, readiness_key
from spotweld.runs.reports import Spec, spec_key
from spotweld.store.opening import open_store
from spotweld.values import environment

if TYPE_CHECKING:
    from spotweld.runs.pools.members import Orders
    from spotweld.store.objects import Objects

_LOOK = 0.1
_LOOK_FAR = 1.0
"""Seconds between two looks where each costs a request."""
_GLANCE = 0.05
_FAREWELL = 5.0
"""Seconds for the last sign of life."""
_TAIL = 2000
"""Bytes of a failing set-up's output that are told."""


class Standby:
    """A member of a pool.

    Args:
        member: its prefix in the store.
        orders: what to prepare.
        objects: the store.
        folder: the machine's disk.
        environ: the machine's environment.
    """

    def __init__(self, member: str, orders: Orders, objects: Objects, folder: Path, environ: dict[str, str]) -> None:
        recipe = orders.recipe
        spec = Spec(
            run="",
            attempt=0,
            source=recipe.source,
            command="",
            setup=recipe.setup,
            env=recipe.env,
            checkpoint=recipe.checkpoint,
            hazard=orders.hazard,
            image=recipe.image,
        )
        self._member = member
        self._objects = objects
        self._console = folder / "console.txt"
        self._agent = Agent(spec, objects, folder, environ)
        self._beat = 0
        self._ready = False
        self._look = _LOOK if objects.url.startswith(("file:", "memory:")) else _LOOK_FAR

    def work(self, environ: dict[str, str]) -> Claim:
        """Prepare, wait, and do what the claim says; the claim."""
        with Watcher(sources_here(environ)) as watcher:
            self._agent.listen()
            courier = Courier(self._say_alive, (), self._objects.url)
            courier.start()
            why = self._prepare(watcher)
            self._ready = not why
            courier.hurry()
            found = self._close(why, failed=not self._agent.noticed) if why else self._wait(watcher)
            courier.finish(_FAREWELL)
            if found.run:
                self._go_on(found, watcher)
            return found

    def _prepare(self, watcher: Watcher) -> str:
        """Why it failed; empty: it did not."""
        try:
            failed = self._agent.prepare(watcher)
        except Exception as error:  # noqa: BLE001  whoever looks at the pool has to see it
            return f"{type(error).__name__}: {error}"
        if failed is None:
            return ""
        tail = self._console.read_bytes()[-_TAIL:].decode(errors="replace").strip() if self._console.exists() else ""
        return f"{failed.detail}: {tail}" if tail else failed.detail

    def _wait(self, watcher: Watcher) -> Claim:
        due = 0.0
        while True:
            self._agent.hear(watcher)
            if self._agent.noticed:
                return self._close("the machine was told that it will be taken", failed=False)
            if time.monotonic() >= due:
                due = time.monotonic() + self._look
                try:
                    found = read_claim(self._objects, self._member)
                except Unavailable as error:
                    say(f"{error}; trying again")
                    found = None
                if found is not None:
                    return found
            time.sleep(_GLANCE)

    def _close(self, why: str, *, failed: bool) -> Claim:
        mine = Claim(time=time.time(), why=why, failed=failed)
        return persist(lambda: claim(self._objects, self._member, mine), PATIENCE)

    def _go_on(self, found: Claim, watcher: Watcher) -> None:
        if persist(lambda: is_over(self._objects, found.run, found.attempt), PATIENCE):
            say(f"attempt {found.attempt} of {found.run} is over; nothing to do")
            return
        data = persist(lambda: self._objects.get(spec_key(found.run, found.attempt)), PATIENCE)
        self._agent.assign(msgspec.json.decode(data, type=Spec))
        self._agent.attempt(watcher)

    def _say_alive(self) -> None:
        self._beat += 1
        readiness = Readiness(self._beat, self._ready, "ready" if self._ready else self._agent.stage)
        self._objects.put(readiness_key(self._member), msgspec.json.encode(readiness))


def main() -> None:
    """Run the member that the environment names."""
    environ = dict(os.environ)
    member = environ[environment.POOL_MEMBER]
    objects = open_store(environ[environment.STORE], verify=False)
    found = persist(lambda: read_claim(objects, member), PATIENCE)
    orders = persist(lambda: read_orders(objects, member), PATIENCE) if found is None else None
    if orders is None:
        say(f"{member} is closed; nothing to do")
        return
    Standby(member, orders, objects, Path.cwd(), environ).work(environ)


if __name__ == "__main__":
    main()
