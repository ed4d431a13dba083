"""The device of ``emulated.cpp``, made ready in this process."""

from __future__ import annotations

import subprocess
import types
from pathlib import Path

import torch

from spotweld.values.digests import digest

SOURCE = Path(__file__).with_name("emulated.cpp")


def install(cache: Path) -> None:
    """Build the device, unless that has been done, and register it with PyTorch for good, as ``emulated``."""
    torch.ops.load_library(_built(cache))
    torch.utils.rename_privateuse1_backend("emulated")
    torch.ops.emulated.register()
    module = types.ModuleType("torch.emulated")
    module.is_available = lambda: True  # type: ignore[attr-defined]
    module.device_count = lambda: 2  # type: ignore[attr-defined]
    module.current_device = torch.accelerator.current_device_index  # type: ignore[attr-defined]
    module._is_in_bad_fork = lambda: False  # type: ignore[attr-defined]
    generators = [torch.Generator(), torch.Generator()]
    module.manual_seed_all = lambda seed: [one.manual_seed(seed) for one in generators]  # type: ignore[attr-defined]
    module.generators = generators  # type: ignore[attr-defined]
    module.get_rng_state_all = lambda: [one.get_state() for one in generators]  # type: ignore[attr-defined]
    module.set_rng_state = lambda state, at: generators[at].set_state(state)  # type: ignore[attr-defined]
    torch._register_device_module("emulated", module)
    torch.utils.generate_methods_for_privateuse1_backend()


def _built(cache: Path) -> Path:
    home = Path(torch.__file__).parent
    name = digest(f"{torch.__version__} {home}".encode() + SOURCE.read_bytes()).rpartition(":")[2][:16]
    built = cache / f"{name}.so"
    if not built.exists():
        made = cache / f"{name}.new"
        command = ["g++", "-std=c++20", "-O1", "-shared", "-fPIC", "-o", made, SOURCE]
        command += [f"-I{home}/include", f"-I{home}/include/torch/csrc/api/include", f"-L{home}/lib"]
        command += [f"-Wl,-rpath,{home}/lib", "-ltorch_cpu", "-lc10"]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
        made.rename(built)
    return built
