"""What a ``Checkpointer`` was asked for: its arguments, else the environment, else the defaults."""

from __future__ import annotations

import math
from operator import index
from typing import TYPE_CHECKING

import msgspec

from spotweld.checkpoint import hazard as hazards
from spotweld.checkpoint.format import RUN_NAME
from spotweld.errors import UsageError
from spotweld.project.nouns import (
    LEAST_STAGING,
    CheckpointPolicy,
    Compress,
    Every,
    EveryAuto,
    EverySeconds,
    EverySteps,
    Tier,
)
from spotweld.values.durations import parse_duration
from spotweld.values.environment import ATTEMPT, CHECKPOINT, EVENTS_FILE, HAZARD, MACHINE_STARTED, RUN_ID, STORE
from spotweld.values.sizes import parse_size

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

DEFAULT_STORE = "file:.spotweld/store"
DEFAULT_RUN = "default"


class Settings(msgspec.Struct, frozen=True):
    """Checked."""

    store: str
    run: str
    attempt: int
    """0: nobody counts attempts."""
    policy: CheckpointPolicy
    hazard: hazards.Hazard | None
    """Interruptions per machine-hour by age; None: not observed."""
    events: str | None
    """Where events are appended."""
    started: float | None = None
    """When the machine came up, seconds since 1970 UTC; None: nobody says so."""


def settings(
    environ: Mapping[str, str],
    *,
    store: str | None = None,
    run: str | None = None,
    every: Every | int | str | None = None,
    keep_last: int | None = None,
    keep_every: int | None = None,
    max_lost_work: float | str | None = None,
    tiers: Sequence[str | Tier] | None = None,
    compress: str | None = None,
    staging_memory: int | str | None = None,
) -> Settings:
    """Join what the caller said with what the environment says.

    Raises:
        UsageError: a value makes no sense; the message says whose.
    """
    given = _policy(environ.get(CHECKPOINT))
    policy = CheckpointPolicy(
        every=given.every if every is None else _every(every),
        keep_last=given.keep_last if keep_last is None else keep_last,
        keep_every=given.keep_every if keep_every is None else keep_every,
        max_lost_work=given.max_lost_work if max_lost_work is None else _seconds(max_lost_work),
        tiers=given.tiers if tiers is None else _tiers(tiers),
        store_every=given.store_every,
        compress=given.compress if compress is None else _compress(compress),
        staging_memory=given.staging_memory if staging_memory is None else _size(staging_memory),
    )
    _check(policy)
    if given.directory and not run:
        raise UsageError(
            f"The job's checkpoint is its directory {given.directory}",
            "the agent saves this run, and two would fence each other off",
            "Remove directory from the job's checkpoint, or the Checkpointer from the program.",
        )
    name = run or environ.get(RUN_ID) or DEFAULT_RUN
    if not RUN_NAME.fullmatch(name):
        raise UsageError(f"{name[:80]!r} cannot be a run's name", "letters, digits and ._- only, 128 at most")
    return Settings(
        store or environ.get(STORE) or DEFAULT_STORE,
        name,
        _attempt(environ.get(ATTEMPT)),
        policy,
        hazards.read(environ.get(HAZARD)),
        environ.get(EVENTS_FILE) or None,
        _moment(environ.get(MACHINE_STARTED)),
    )


def _policy(text: str | None) -> CheckpointPolicy:
    if not text:
        return CheckpointPolicy()
    try:
        return msgspec.json.decode(text, type=CheckpointPolicy)
    except msgspec.MsgspecError as error:
        raise UsageError(f"{CHECKPOINT} cannot be read", str(error)) from None


def _every(text: Every | int | str) -> Every:
    if text == "auto":
        return EveryAuto()
    if isinstance(text, Every):
        return text
    try:
        return EverySeconds(parse_duration(text)) if isinstance(text, str) else EverySteps(index(text))
    except (ValueError, TypeError) as error:
        raise UsageError(
            f"every={text!r} cannot be read", str(error), "Give 'auto', a number of steps, or '30s'."
        ) from None


def _tiers(given: Sequence[str | Tier]) -> tuple[Tier, ...]:
    if isinstance(given, str):
        raise UsageError(f"tiers={given!r} cannot be read", "it is one URL, not a list of them", f"Give [{given!r}].")
    return tuple(Tier(tier) if isinstance(tier, str) else tier for tier in given)


def _compress(given: str) -> Compress:
    try:
        return Compress(given)
    except ValueError:
        choices = ", ".join(Compress)
        raise UsageError(f"compress={given!r} cannot be read", "", f"Give one of {choices}.") from None


def _seconds(given: float | str) -> float:
    if not isinstance(given, str):
        return given
    try:
        return parse_duration(given)
    except ValueError as error:
        raise UsageError(f"max_lost_work={given!r} cannot be read", str(error), "Give seconds, or '5m'.") from None


def _size(given: int | str) -> int:
    if not isinstance(given, str):
        return given
    try:
        return parse_size(given)
    except ValueError as error:
        raise UsageError(f"staging_memory={given!r} cannot be read", str(error), "Give bytes, or '2GB'.") from None


def _check(policy: CheckpointPolicy) -> None:
    match policy.every:
        case EverySteps(steps) if steps < 1:
            raise UsageError("Saves are at least one step apart", f"{steps} steps were asked for")
        case EverySeconds(seconds) if not 0 <= seconds < math.inf:
            raise UsageError("Saves are some seconds apart", f"{seconds} were asked for")
        case _:
            pass
    if policy.max_lost_work is not None and not 0 < policy.max_lost_work < math.inf:
        raise UsageError("Some work can always be lost", f"max_lost_work={policy.max_lost_work} was asked for")
    if policy.staging_memory is not None and policy.staging_memory < LEAST_STAGING:
        raise UsageError(
            f"A save needs {LEAST_STAGING} bytes of staging memory at least", f"{policy.staging_memory} were given"
        )
    if len({tier.store for tier in policy.tiers}) < len(policy.tiers):
        raise UsageError("Every tier is a place of its own", ", ".join(tier.store for tier in policy.tiers))
    if policy.keep_last < 1 or policy.keep_every < 0:
        raise UsageError(
            "At least the newest checkpoint is kept", f"keep_last={policy.keep_last}, keep_every={policy.keep_every}"
        )


def _attempt(text: str | None) -> int:
    if not text:
        return 0
    if not text.isascii() or not text.isdigit():
        raise UsageError(f"{ATTEMPT} is no number", repr(text[:40]))
    return int(text)


def _moment(text: str | None) -> float | None:
    # Advice only: what cannot be read is as good as nothing said.
    try:
        moment = float(text or "")
    except ValueError:
        return None
    return moment if 0 < moment < math.inf else None
