"""The states of the random number generators that a training loop draws from, as plain values and arrays.

Reading a state draws nothing, so a run that saves draws the same numbers as one that does not. A generator is captured
only if the program has imported it: what has never been seeded or drawn from has nothing to repeat.
"""

from __future__ import annotations

import array
import random
import sys
from typing import Any

from spotweld.errors import StateMismatch

_WORDS = "I"


def capture_rng() -> dict[str, Any]:
    """The states of Python's ``random``, of NumPy's global generator, and of PyTorch's on the CPU and accelerators."""
    version, words, spare = random.getstate()
    states: dict[str, Any] = {"python": {"version": version, "words": pack_words(words), "spare": spare}}
    if sys.modules.get("numpy.random"):  # None: its import is blocked
        import numpy as np  # noqa: PLC0415

        states["numpy"] = dict(np.random.get_state(legacy=False))  # noqa: NPY002 - the generator that programs use
    if sys.modules.get("torch"):
        import torch  # noqa: PLC0415

        states["torch"] = torch.get_rng_state()
        name, module = _accelerator()
        if hasattr(module, "get_rng_state_all"):
            states[name] = module.get_rng_state_all()
        elif hasattr(module, "get_rng_state"):  # of a sort that there is one of
            states[name] = [module.get_rng_state()]
    return states


def restore_rng(states: Any) -> None:  # noqa: ANN401
    """Set every generator that was captured.

    On a machine with fewer accelerators than the captured one, or other ones, those that are there are set.

    Raises:
        StateMismatch: a generator of another sort than the captured one is in use.
    """
    if not isinstance(states, dict):
        raise StateMismatch("The random number generators cannot be restored", f"a {type(states).__name__} is no state")
    if not states:
        return  # of an imported checkpoint: the program's own seeds count
    try:
        python = states["python"]
        random.setstate((python["version"], unpack_words(python["words"]), python["spare"]))
        if "numpy" in states:
            import numpy as np  # noqa: PLC0415

            np.random.set_state(states["numpy"])  # noqa: NPY002
        if "torch" in states:
            import torch  # noqa: PLC0415

            torch.set_rng_state(states["torch"])
            _restore_accelerators(states)
    except (TypeError, ValueError, LookupError, RuntimeError) as error:
        raise StateMismatch("A random number generator cannot be restored", str(error)) from error


def _accelerator() -> tuple[str, Any]:
    """The sort of accelerator that the program uses, and PyTorch's module for it; None for both: it uses none."""
    import torch  # noqa: PLC0415

    device = torch.accelerator.current_accelerator()
    if device is None:
        return "", None
    module = torch.get_device_module(device)
    in_use = getattr(module, "is_initialized", lambda: True)()
    return (device.type, module) if in_use else ("", None)


def _restore_accelerators(states: Any) -> None:  # noqa: ANN401
    import torch  # noqa: PLC0415

    device = torch.accelerator.current_accelerator()
    if device is None or device.type not in states:
        return
    module = torch.get_device_module(device)
    if not hasattr(module, "get_rng_state_all"):
        module.set_rng_state(states[device.type][0])
        return
    for number, state in enumerate(states[device.type][: module.device_count()]):
        module.set_rng_state(state, number)


def pack_words(words: tuple[int, ...]) -> bytes:
    """A state of Python's generator as little-endian words."""
    packed = array.array(_WORDS, words)
    if sys.byteorder == "big":
        packed.byteswap()
    return packed.tobytes()


def unpack_words(data: bytes) -> tuple[int, ...]:
    """What ``pack_words`` was given.

    Raises:
        ValueError: they are no whole words.
    """
    words = array.array(_WORDS, data)
    if sys.byteorder == "big":
        words.byteswap()
    return tuple(words)
