"""An agent on a store that fails or hangs: ``python agent_driver.py FAULT FROM TO [VERB/KEY]``.

The fault befalls the calls between FROM and TO seconds after the start, or only those of which ``VERB KEY`` holds the
last word given. A slow call waits until TO.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import msgspec

from spotweld.runs import agent
from spotweld.runs.reports import Spec, spec_key
from spotweld.store.opening import open_store
from spotweld.testing.stores import Call, Fault, FaultyObjects

fault, begin, end = Fault(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])
part = sys.argv[4] if len(sys.argv) > 4 else ""
started = time.monotonic()
if fault is Fault.SLOW:
    agent._FAREWELL = 0.5


def plan(call: Call) -> Fault | None:
    since = time.monotonic() - started
    return fault if begin <= since < end and part in f"{call.verb} {call.key}" else None


def hang(_: float) -> None:
    sys.stderr.write("hanging\n")
    time.sleep(max(0.0, started + end - time.monotonic()))


store = open_store(os.environ["SPOTWELD_STORE"], verify=False)
spec = msgspec.json.decode(store.get(spec_key("r", 1)), type=Spec)
agent.Agent(spec, FaultyObjects(store, plan, sleep=hang), Path.cwd(), dict(os.environ)).work()
