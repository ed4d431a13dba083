"""What is on accelerators. A device once registered stays for good, so these tests have a process of their own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

INSIDE = Path(__file__).with_name("device") / "inside.py"


def test_all_that_is_in_inside(request: pytest.FixtureRequest) -> None:
    cache = request.config.cache
    assert cache is not None
    told = {"EMULATED_DEVICE": str(cache.mkdir("emulated-device"))}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", INSIDE]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | told)
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(re.findall(r"(\d+) passed", done.stdout)[0]) >= 10
