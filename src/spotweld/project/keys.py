"""The keys of the project file and of the user file: which there are, what they take, and what they become.

Checks, messages, the JSON Schema and ``init`` all start from here.
"""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path as FilePath
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from spotweld.project.imagekeys import IMAGES, JOB_IMAGE, REGISTRIES
from spotweld.project.nouns import (
    LEAST_STAGING,
    Budget,
    CheckpointPolicy,
    Compress,
    Egress,
    Every,
    EveryAuto,
    EverySeconds,
    EverySteps,
    Job,
    LocalProvider,
    LocalZone,
    Period,
    PlacementRules,
    PolicyName,
    Pool,
    Receiver,
    Retry,
    RetryOn,
    SpotUse,
    Tier,
)
from spotweld.project.shapes import Choice, Key, Named, Number, Path, Several, Table, Text, Truth, Whole
from spotweld.project.texts import PRINTABLE, VALUE, money, some
from spotweld.project.urls import DEFAULT_STORE, STORE_URL, TIER_URL, absolute_store, check_store
from spotweld.values.durations import DURATION, parse_duration
from spotweld.values.money import parse_money
from spotweld.values.offers import Disk
from spotweld.values.sizes import SIZE, parse_size

if TYPE_CHECKING:
    from collections.abc import Callable

_STEPS = r"([1-9][0-9]{0,8}) steps?"
_PART = r"(?!\.\.?(?:/|$))[^/\\\u0000-\u001f\u007f]+"
_UNITS = "a number and a unit: ms, s, m, h or d"


def _positive(text: str) -> float:
    seconds = parse_duration(text)
    if not seconds:
        raise ValueError("it has to be longer than nothing")
    return seconds


def _share(text: str) -> Decimal:
    share = Decimal(text.removesuffix("%")) / 100
    if not share:
        raise ValueError("it has to be more than nothing")
    return share


def _late(given: dict[str, Any]) -> tuple[str, str, str] | None:
    """A job's deadline stands on how much there is to do, and on machines that are never lost."""
    if "deadline" not in given:
        return None
    if "work" not in given:
        return "deadline", "what has to be done until then is not known", "say how long the program takes: work: 48h"
    if given["deadline"] <= given["work"]:
        todo = "allow more time, or correct work"
        return "deadline", "the work alone takes as long", todo
    if given.get("spot_policy") is SpotUse.SPOT:
        todo = "write spot_policy: auto, or leave the deadline out"
        return "spot_policy", "with spot alone nobody can promise a deadline", todo
    return None


def _every(text: str) -> Every:
    if text == "auto":
        return EveryAuto()
    if steps := re.fullmatch(_STEPS, text):
        return EverySteps(int(steps[1]))
    return EverySeconds(_positive(text))


def _tier(text: str) -> str:
    return absolute_store(check_store(text), FilePath("/"))


def _staging(text: str) -> int:
    size = parse_size(text)
    if size < LEAST_STAGING:
        raise ValueError(f"a save needs {LEAST_STAGING // 2**20} MiB at least")
    return size


def _inside(text: str) -> str:
    return str(PurePosixPath(text))


def _misfit(given: dict[str, Any]) -> tuple[str, str, str] | None:
    for name in ("ready", "quiesce", "resume"):
        if name in given and "directory" not in given:
            return name, "it says when a directory is consistent", "add directory: out/, or remove it"
    if "ready" in given and "quiesce" in given:
        return "quiesce", "the program says by itself when the directory is ready", "keep one of ready and quiesce"
    if "resume" in given and "quiesce" not in given:
        return "resume", "it undoes what quiesce has done", "add quiesce, or remove it"
    if "directory" in given and isinstance(given.get("every"), EverySteps):
        return "every", "Spotweld sees a directory change, and no steps", "write every: auto, or every: 30s"
    if "directory" in given:
        return next(((name, why, f"remove {name}") for name, why in _NOT_OF_DIRECTORIES.items() if name in given), None)
    return _tiers_misfit(given)


_NOT_OF_DIRECTORIES = {
    "tiers": "the files of a directory go straight to the store",
    "store_every": "the files of a directory go straight to the store",
    "compress": "the files of a directory are stored as they are",
    "staging_memory": "the files of a directory are read a few at a time",
}


def _tiers_misfit(given: dict[str, Any]) -> tuple[str, str, str] | None:
    stores = [tier.store for tier in given.get("tiers", ())]
    if "store_every" in given and not stores:
        why = "it says how often the store gets a checkpoint from the tiers"
        return "store_every", why, "add tiers: [file:/dev/shm/spotweld], or write every instead"
    if len(set(stores)) < len(stores):
        return "tiers", "two of them are the same place", "keep each place once"
    return None


def _receiver_misfit(given: dict[str, Any]) -> tuple[str, str, str] | None:
    kinds = [kind for kind in ("webhook", "slack", "email") if kind in given]
    if not kinds:
        return "webhook", "nobody is named", "give one of webhook, slack and email"
    if len(kinds) > 1:
        return kinds[1], f"this receiver is a {kinds[0]} already", "make it an entry of the list of its own"
    if ("email" in given) != ("smtp" in given):
        why = "an e-mail is handed to a server, and nothing else is"
        return ("email", why, "add smtp: NAME_OF_A_VARIABLE") if "email" in given else ("smtp", why, "remove it")
    return None


def _budget_misfit(given: dict[str, Any]) -> tuple[str, str, str] | None:
    for name in ("at_most", "every"):
        if name in given and "stop" not in given:
            return name, "it says how runs are stopped, and none is", "add stop: 100%, or remove it"
    if given.get("alerts") and not given.get("notify"):
        return "alerts", "nobody would be told", "add notify: [{webhook: NAME_OF_A_VARIABLE}]"
    if given.get("notify") and not given.get("alerts"):
        return "notify", "nothing would be told", "add alerts: [80%, 100%]"
    return None


def _notice(text: str) -> float | None:
    return None if text == "none" else parse_duration(text)


def _duration(read: Callable[[str], Any], example: str) -> Text:
    return Text("a duration", f"a duration is {_UNITS}", example, DURATION, read)


def _command(example: str) -> Text:
    rule = "it takes a shell command line"
    return Text("a command", rule, example, rf"{PRINTABLE}*[^\s\u0000-\u001f]{PRINTABLE}*", longest=32_768)


def _path(noun: str, example: str) -> Text:
    rule = "it takes a relative path without .. and \\"
    return Text(noun, rule, example, rf"(?:\./)?{_PART}(?:/{_PART})*/?", _inside, 1000)


NAME = Text(
    "a name",
    "names are lower-case letters, digits, - and _, at most 63, and begin with a letter or a digit",
    "digits-2",
    "[a-z0-9][a-z0-9_-]{0,62}",
)
_LABEL_KEY = Text(
    "a label's key",
    "it takes lower-case letters, digits, - and _, at most 63, and begins with a letter",
    "team",
    "[a-z][a-z0-9_-]{0,62}",
)
_LABEL = Text("a label", "labels are lower-case letters, digits, - and _, at most 63", "vision", "[a-z0-9_-]{0,63}")
_VARIABLE = Text(
    "the name of an environment variable",
    "it takes letters, digits and _, does not begin with a digit, and SPOTWELD_ is ours",
    "EPOCHS",
    "(?!SPOTWELD_)[A-Za-z_][A-Za-z0-9_]{0,199}",
)
_STORE = Text(
    "a store's URL",
    "a store is a URL that begins with file:, s3://, gs:// or az://",
    DEFAULT_STORE,
    STORE_URL,
    check_store,
    2000,
)

_SIZE = Text("a size", "it takes a number and a unit: MB, GB, MiB or GiB", "2GB", SIZE, parse_size)

_TIER = Table(
    "a tier",
    {
        "store": Key(
            Text(
                "a tier's URL",
                "it begins with file:/, s3://, gs:// or az://, and a path is one of the machine",
                "file:/dev/shm/spotweld",
                TIER_URL,
                _tier,
                2000,
            ),
            "Where it is; file:/dev/shm/... is the machine's memory.",
            required=True,
        ),
        "keep_last": Key(Whole(1, 10_000), "The newest this many checkpoints are kept there."),
        "every": Key(
            _duration(parse_duration, "5m"), "Time between two checkpoints that it gets; the first tier gets all."
        ),
    },
    Tier,
    short="store",
)

_CHECKPOINT = Table(
    "a job's checkpoint",
    {
        "every": Key(
            Text(
                "a cadence",
                "it takes auto, a number of steps, or a duration",
                "100 steps",
                rf"auto|{_STEPS}|{DURATION}",
                _every,
            ),
            "When to save: auto (from the measured cost of a save and the observed hazard), 100 steps, or 30s.",
        ),
        "keep_last": Key(Whole(1, 10_000), "The newest this many checkpoints are kept."),
        "keep_every": Key(Whole(0, 1_000_000), "Of the older ones every n-th is kept as well; 0: none."),
        "max_lost_work": Key(
            _duration(_positive, "5m"), "Saved so often that losing the machine never costs more than this."
        ),
        "tiers": Key(
            Several(_TIER, most=8),
            "Places near the machine that are filled before the store and read before it, fastest first.",
        ),
        "store_every": Key(
            _duration(parse_duration, "10m"), "Time between two checkpoints that the store gets from the tiers."
        ),
        "compress": Key(
            Choice(Compress), "Smaller checkpoints; auto: where that makes them durable sooner, bytes: at any price."
        ),
        "staging_memory": Key(
            replace(_SIZE, read=_staging),
            "Memory for the copy of the state; less than the state has makes saves hold the training up longer.",
        ),
        "directory": Key(
            _path("a folder in the job's folder", "out/"),
            "A folder that is saved while any program runs, and restored before it is started again.",
        ),
        "ready": Key(
            _path("a file in the job's folder, or a pattern of files", "out/READY"),
            "The program renews such a file whenever the directory is consistent, and only then it is saved.",
        ),
        "quiesce": Key(_command("kill -STOP -$SPOTWELD_GROUP"), "Makes the directory consistent before it is saved."),
        "resume": Key(_command("kill -CONT -$SPOTWELD_GROUP"), "Lets the program go on after quiesce."),
    },
    CheckpointPolicy,
    _misfit,
)

_RETRY = Table(
    "a job's retry",
    {
        "on_events": Key(Several(Choice(RetryOn), most=len(RetryOn)), "After which endings a run tries again."),
        "failures": Key(Whole(0, 1000), "How often a failing program is tried again; interruptions do not count."),
    },
    Retry,
)

_JOB = Table(
    "a job",
    {
        "command": Key(_command("python train.py"), "A shell command line, run in the job's folder.", required=True),
        "setup": Key(_command("pip install -r requirements.txt"), "Run before the command on every machine."),
        "workdir": Key(Path(folder=True), "The folder that is copied to every machine; by default the project's own."),
        "image": Key(JOB_IMAGE, "What to run it in: an image of this file, or any other; by default none."),
        "env": Key(Named(_VARIABLE, VALUE), "Environment variables of both commands."),
        "spot_policy": Key(
            Choice(SpotUse), "Which capacity to use; auto: spot, and on-demand when spot keeps failing."
        ),
        "checkpoint": Key(_CHECKPOINT, "When to save and what to keep."),
        "retry": Key(_RETRY, "When a run tries again."),
        "work": Key(
            _duration(_positive, "48h"), "How long the program takes on one machine that is never lost, about."
        ),
        "deadline": Key(
            _duration(_positive, "60h"), "The run has to be done so long after its launch, for as little as possible."
        ),
        "max_duration": Key(_duration(_positive, "8h"), "The run is stopped after this long."),
        "budget": Key(money(some, "12.50 USD"), "The run is stopped before it costs more."),
        "priority": Key(Whole(-1000, 1000), "When a budget of the project breaks, lower ones are stopped first."),
        "protected": Key(Truth(), "No budget of the project stops its runs."),
        "labels": Key(Named(_LABEL_KEY, _LABEL, most=50), "Carried by the machines and the ledger's rows."),
    },
    Job,
    _late,
)

_REGION_NAME = Text("a region", "as its provider writes it", "us-east-1", r"[a-z0-9]+(?:[-_.][a-z0-9]+)*")

_DISK = Table(
    "a disk",
    {
        "size": Key(_SIZE, "How large it is.", required=True),
        "price": Key(money(some, "0.08 USD"), "Of a GiB and month.", required=True),
    },
    lambda size, price: Disk(size, price, "spotweld.yaml"),
)

_ZONE = Table(
    "a zone",
    {
        "spot": Key(money(parse_money, "0.92 USD"), "Price of a spot machine per hour.", required=True),
        "on_demand": Key(money(parse_money, "3.06 USD"), "Price of an on-demand machine per hour.", required=True),
        "machines": Key(Whole(1, 1000), "How many spot machines can be had while there is capacity."),
        "region": Key(_REGION_NAME, "The region that it is in; default: local."),
        "trace": Key(Path(folder=False), "A recorded availability trace; without one it is drawn from the seed."),
    },
    LocalZone,
)

_NOTICE = Text("a notice", f"a notice is a duration ({_UNITS}) or none", "30s", rf"none|{DURATION}", _notice)

_LOCAL = Table(
    "the local provider",
    {
        "zones": Key(
            Named(NAME, _ZONE, least=1, becomes=lambda zones: tuple(zones.values())),
            "What it sells; by default a, b and c.",
        ),
        "seed": Key(Whole(0, 2**32 - 1), "Draws the availability of zones without a trace, and the notices."),
        "up": Key(_duration(_positive, "1h"), "Mean time that a zone without a trace has capacity."),
        "down": Key(_duration(_positive, "10m"), "Mean time that a zone without a trace has none."),
        "speed": Key(Number(0, 1_000_000), "How many seconds of availability pass in one second."),
        "notices": Key(
            Several(_NOTICE, least=1), "Warnings before a machine is taken, drawn by the seed; none: no warning."
        ),
        "boot": Key(_duration(parse_duration, "500ms"), "How long a machine takes to come up."),
        "disk": Key(_DISK, "What every machine has and pays for apart."),
    },
    LocalProvider,
)

_ZONE_NAME = Text("a zone", "with or without its provider's name", "us-east-1a", r"[a-z0-9]+(?:[-_/.][a-z0-9]+)*")

_PLACEMENT = Table(
    "placement",
    {
        "policy": Key(Choice(PolicyName), "Who decides for jobs with a deadline."),
        "changeover": Key(
            _duration(_positive, "2m"), "From a machine's start until the program makes progress, until it is measured."
        ),
        "zones": Key(Several(_ZONE_NAME), "The only zones that are used; by default all."),
        "regions": Key(Several(_REGION_NAME), "The only regions that are used; by default all."),
        "egress": Key(Choice(Egress), "How far a run may move from the region that it began in."),
        "egress_price": Key(money(some, "0.02 USD"), "Of a GiB that moves to another region."),
        "max_price": Key(money(some, "1.20 USD"), "Spot machines that cost more an hour are not rented."),
        "min_spot_share": Key(
            Number(0, 1), "The share of machine time that has to be spot; a deadline comes before it."
        ),
        "interruptions": Key(Whole(1, 1000), "So many interruptions within the window send a run to on-demand."),
        "window": Key(_duration(_positive, "1h"), "The window; spot is tried again when it has passed."),
        "avoid": Key(_duration(parse_duration, "5m"), "How long a zone that interrupted the run comes last."),
        "back_off": Key(_duration(_positive, "30s"), "How long a zone that refused is left alone; doubles."),
    },
    PlacementRules,
)

_POOL = Table(
    "a pool",
    {
        "job": Key(NAME, "The job whose runs take machines from it.", required=True),
        "machines": Key(Whole(1, 100), "How many should be ready at all times."),
        "spare": Key(Whole(0, 100), "How many more may be had, where losses are likely enough to pay for them."),
        "spot_policy": Key(
            Choice(SpotUse), "Which capacity it holds; auto: spot, and on-demand while spot is short of the number."
        ),
    },
    Pool,
    lambda given: (
        ("spare", "it is for losses, and on-demand machines are not taken", "raise machines instead, or remove it")
        if given.get("spare") and given.get("spot_policy") is SpotUse.ON_DEMAND
        else None
    ),
)

_SHARE = Text("a share", "it takes a percentage", "100%", r"[0-9]{1,4}(?:\.[0-9]{1,4})?%", _share)
# Secret: whoever writes the URL itself here by mistake does not want to read it in a log.
_HOLDER = replace(
    _VARIABLE, rule=f"{_VARIABLE.rule}; the URL stands in the variable", example="ALERTS_URL", secret=True
)

_RECEIVER = Table(
    "a receiver",
    {
        "webhook": Key(_HOLDER, "The environment variable that holds the URL which JSON is posted to."),
        "slack": Key(_HOLDER, "The environment variable that holds the URL of a Slack channel's incoming web hook."),
        "email": Key(
            Text("an address", "it takes NAME@HOST", "me@example.org", r"[A-Za-z0-9._+-]+@[A-Za-z0-9.-]+"),
            "Who gets an e-mail.",
        ),
        "smtp": Key(_HOLDER, "The environment variable that holds smtp://USER:PASSWORD@HOST:PORT, or smtps://..."),
    },
    Receiver,
    _receiver_misfit,
)

_BUDGET = Table(
    "a budget",
    {
        "amount": Key(money(some, "100 USD"), "What the runs may cost together.", required=True),
        "per": Key(Choice(Period), "When it begins anew, in UTC; weeks begin on Monday. Default: total, never."),
        "jobs": Key(Several(NAME), "Only runs of these jobs count; by default all."),
        "labels": Key(Named(_LABEL_KEY, _LABEL, most=50), "Only runs with all of these labels count."),
        "stop": Key(_SHARE, "Runs are stopped from this share of the amount on; without it none ever is."),
        "at_most": Key(Whole(1, 1000), "How many runs are stopped in one round."),
        "every": Key(_duration(_positive, "5m"), "Time between two rounds."),
        "alerts": Key(Several(_SHARE, most=20), "Shares of the amount at which somebody is told."),
        "notify": Key(Several(_RECEIVER, most=20), "Who is told."),
    },
    Budget,
    _budget_misfit,
)

PROJECT = Table(
    "a project file",
    {
        "name": Key(NAME, "The project's name; machines and the ledger's rows carry it.", required=True),
        "store": Key(_STORE, f"Where checkpoints live; relative file: URLs start here. Default: {DEFAULT_STORE}"),
        "store_price": Key(money(some, "0.023 USD"), "Of a GiB and month in the store, for the ledger."),
        "providers": Key(
            Table("providers", {"local": Key(_LOCAL, "A spot cloud in small, on this machine.")}, dict),
            "Who rents machines.",
        ),
        "placement": Key(_PLACEMENT, "How machines are chosen."),
        "images": Key(IMAGES, "Container images, built before the jobs that run in them."),
        "registries": Key(REGISTRIES, "Where images live; relative oci: folders start here."),
        "jobs": Key(Named(NAME, _JOB, least=1), "What to run.", required=True),
        "pools": Key(Named(NAME, _POOL), "Machines that are kept ready, so that a run begins at once."),
        "budgets": Key(Named(NAME, _BUDGET), "What runs may cost together, and when they are stopped."),
    },
    dict,
)
