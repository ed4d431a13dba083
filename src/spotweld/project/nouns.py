"""What a project file says, once it has been checked."""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum
from pathlib import Path

import msgspec

from spotweld.values.money import Money
from spotweld.values.offers import Disk


class EveryAuto(msgspec.Struct, frozen=True, tag="auto"):
    """Save as often as Young/Daly advises from the measured cost of a save and the observed hazard."""


class EverySteps(msgspec.Struct, frozen=True, tag="steps"):
    """Save after every ``steps`` steps."""

    steps: int


class EverySeconds(msgspec.Struct, frozen=True, tag="seconds"):
    """Save when ``seconds`` have passed since the last save."""

    seconds: float


Every = EveryAuto | EverySteps | EverySeconds


class Compress(StrEnum):
    """Whether checkpoints are made smaller."""

    AUTO = "auto"
    """Where that makes them durable sooner: on the way to a store behind a slow link."""
    BYTES = "bytes"
    """As far as it goes, whatever time it takes."""
    NONE = "none"


LEAST_STAGING = 12 * 2**20
"""Bytes: three chunks, one being copied, one being written, one waiting."""


class Tier(msgspec.Struct, frozen=True):
    """A store near the machine, filled before the run's own store and read before it."""

    store: str
    """URL; ``file:/dev/shm/spotweld`` is memory that outlives the process, though not the machine."""
    keep_last: int = 1
    """The newest this many checkpoints are kept there."""
    every: float = 0.0
    """Seconds between two checkpoints that it gets, at least; the fastest tier gets all."""


class CheckpointPolicy(msgspec.Struct, frozen=True):
    """When to save and what to keep."""

    every: Every = EveryAuto()
    keep_last: int = 3
    """The newest this many checkpoints are kept."""
    keep_every: int = 0
    """Of the older ones every n-th is kept as well; 0: none."""
    max_lost_work: float | None = None
    """Seconds of work that the loss of a machine may cost at most, where saves are quick enough; None: no bound."""
    tiers: tuple[Tier, ...] = ()
    """Fastest first; none: checkpoints go straight to the store."""
    compress: Compress = Compress.AUTO
    store_every: float = 0.0
    """Seconds between two checkpoints that the store gets from the tiers, at least; 0: one follows the other."""
    staging_memory: int | None = None
    """Bytes of memory that each process may use for the copy of its state, ``LEAST_STAGING`` at least; None: as many
    as the state has. With less, a save holds the training up until the rest is written."""
    directory: str = ""
    """A folder of the job's folder that is saved and restored around the process; empty: the process saves itself."""
    ready: str = ""
    """A pattern of files in the job's folder that are renewed whenever the directory is consistent; empty: none are."""
    quiesce: str = ""
    """A shell command line that makes the directory consistent and lets it be; empty: there is none."""
    resume: str = ""
    """A shell command line that lets the program go on after ``quiesce``."""


class RetryOn(StrEnum):
    """After which endings a run tries again."""

    NO_CAPACITY = "no-capacity"
    INTERRUPTION = "interruption"
    ERROR = "error"


class Retry(msgspec.Struct, frozen=True):
    """When a run tries again, and how often a failing program may."""

    on_events: tuple[RetryOn, ...] = (RetryOn.NO_CAPACITY, RetryOn.INTERRUPTION, RetryOn.ERROR)
    failures: int = 2
    """Failures after which the run still tries again; interruptions do not count."""


class SpotUse(StrEnum):
    """Which capacity a job may use (SkyPilot's and dstack's ``spot_policy``)."""

    AUTO = "auto"
    SPOT = "spot"
    ON_DEMAND = "on-demand"


class Lifetime(StrEnum):
    """What a teardown does to a thing."""

    PERSISTENT = "persistent"
    """It stays."""
    EPHEMERAL = "ephemeral"
    """It goes."""


class Image(msgspec.Struct, frozen=True):
    """A container image that the project builds."""

    name: str
    context: Path = Path()
    """The folder that ``COPY`` and ``ADD`` take files from. Absolute once the file is read, like ``dockerfile``."""
    dockerfile: Path = Path("Dockerfile")
    args: dict[str, str] = {}
    bases: dict[str, str] = {}
    """Names that the Dockerfile takes images by, as it has them, each with the project's image that it means."""
    platform: str = ""
    """``OS/ARCHITECTURE[/VARIANT]``; empty: that of the machine that builds."""
    target: str = ""
    """A stage's name or number; empty: the last one."""
    lifetime: Lifetime = Lifetime.EPHEMERAL
    keep: int = 3
    """The newest this many builds are kept, besides those in use."""


class Registries(msgspec.Struct, frozen=True):
    """Where images live, by their lifetime: URLs as ``spotweld.images.registries.opening.open_registry`` takes them."""

    persistent: str = "oci:.spotweld/images/persistent"
    """``oci:`` URLs are absolute once the file is read."""
    ephemeral: str = "oci:.spotweld/images/ephemeral"
    price: Money | None = None
    """Of a GiB and month in them; None: not known, and not in the ledger."""

    def of(self, lifetime: Lifetime) -> str:
        """The registry for images of this lifetime."""
        return self.persistent if lifetime is Lifetime.PERSISTENT else self.ephemeral


class Job(msgspec.Struct, frozen=True):
    """What to run."""

    name: str
    command: str
    """A shell command line, run in the job's folder on the machine."""
    setup: str = ""
    """A shell command line run before it on every machine; its failure is the machine's set-up failing."""
    workdir: Path = Path()
    """Absolute; its files are frozen when the run is opened and laid out on every machine."""
    image: str = ""
    """An image of the project by its name, or any other by its reference; empty: it runs in none."""
    env: dict[str, str] = {}
    spot_policy: SpotUse = SpotUse.AUTO
    checkpoint: CheckpointPolicy = CheckpointPolicy()
    retry: Retry = Retry()
    work: float | None = None
    """Seconds that the program needs on one machine that is never lost, about; there whenever ``deadline`` is."""
    deadline: float | None = None
    """Seconds after its launch by which the run has to be done; None: none."""
    max_duration: float | None = None
    """Seconds after which the run is stopped."""
    budget: Money | None = None
    """What the run may cost before it is stopped."""
    priority: int = 0
    """When a budget of the project breaks, runs with a lower one are stopped first."""
    protected: bool = False
    """No budget of the project stops its runs."""
    labels: dict[str, str] = {}


class Period(StrEnum):
    """How long a budget lasts until it begins anew, in UTC."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    TOTAL = "total"
    """It never does."""


class Receiver(msgspec.Struct, frozen=True):
    """Who is told of a budget: a web hook, a Slack channel, or a person by e-mail; one of the three.

    Secrets are not in it: it has the names of environment variables that hold URLs.
    """

    webhook: str = ""
    """The variable with the URL that JSON is posted to."""
    slack: str = ""
    """The variable with the URL of a Slack channel's incoming web hook."""
    email: str = ""
    """The address."""
    smtp: str = ""
    """The variable with the URL of the server that takes the e-mail."""

    def __str__(self) -> str:
        if self.email:
            return f"email {self.email} by {self.smtp}"
        return f"webhook {self.webhook}" if self.webhook else f"slack {self.slack}"

    @property
    def variable(self) -> str:
        """The environment variable that has to be set."""
        return self.webhook or self.slack or self.smtp


class Budget(msgspec.Struct, frozen=True):
    """What some of the project's runs may cost together."""

    name: str
    amount: Money
    per: Period = Period.TOTAL
    jobs: tuple[str, ...] = ()
    """Only runs of these jobs count; empty: of all."""
    labels: dict[str, str] = {}
    """Only runs with all of these count."""
    stop: Decimal | None = None
    """The share of the amount at which runs are stopped; None: none ever is."""
    at_most: int = 1
    """How many runs are stopped in one round."""
    every: float = 300.0
    """Seconds between two rounds."""
    alerts: tuple[Decimal, ...] = ()
    """The shares of the amount at which the receivers are told."""
    notify: tuple[Receiver, ...] = ()
    """Who is told."""


class Pool(msgspec.Struct, frozen=True):
    """Machines that are kept ready for one job's runs."""

    name: str
    job: str
    """A job of the project by its name."""
    machines: int = 1
    """How many should be ready at all times."""
    spare: int = 0
    """How many more may be had, where losses are likely enough to pay for them."""
    spot_policy: SpotUse = SpotUse.AUTO


class LocalZone(msgspec.Struct, frozen=True):
    """One zone of the local provider."""

    name: str
    spot: Money
    """Per machine and hour."""
    on_demand: Money
    machines: int = 1
    """How many spot machines can be had while there is capacity. On-demand ones can always be had."""
    trace: Path | None = None
    """A recorded availability trace (spot-traces JSON); None: drawn from the seed."""
    region: str = "local"


THREE_ZONES = (
    LocalZone("a", spot=Money(Decimal("0.92")), on_demand=Money(Decimal("3.06"))),
    LocalZone("b", spot=Money(Decimal("1.01")), on_demand=Money(Decimal("3.06"))),
    LocalZone("c", spot=Money(Decimal("1.15")), on_demand=Money(Decimal("3.21"))),
)
"""What the local provider sells when the project file does not say: spot at about a third of the price."""


class LocalProvider(msgspec.Struct, frozen=True):
    """The embedded provider, which behaves like a spot cloud on this machine."""

    zones: tuple[LocalZone, ...] = THREE_ZONES
    seed: int = 0
    up: float = 3600.0
    """Mean seconds that a seeded zone has capacity; lives are heavy-tailed."""
    down: float = 600.0
    """Mean seconds that a seeded zone has none."""
    speed: float = 1.0
    """Trace seconds that pass in one second (for traces and seeds alike)."""
    notices: tuple[float | None, ...] = (30.0,)
    """Seconds of warning, drawn by the seed for each loss of capacity; None: no warning."""
    boot: float = 0.0
    """Seconds a machine takes to come up."""
    disk: Disk | None = None
    """What every machine has and pays for apart; None: nothing."""


class Egress(StrEnum):
    """How far a run's state may move."""

    NONE = "none"
    """It stays in its region."""
    CONTINENTAL = "continental"
    GLOBAL = "global"


class PolicyName(StrEnum):
    """Who decides for jobs with a deadline (``spotweld.placement.policies``)."""

    OURS = "ours"
    PRICE_WINDOWS = "price-windows"
    UNIFORM_PROGRESS = "uniform-progress"
    GREEDY = "greedy"
    ON_DEMAND = "on-demand"


class PlacementRules(msgspec.Struct, frozen=True):
    """How the machines of a run are chosen."""

    policy: PolicyName = PolicyName.OURS
    """Decides for jobs with a deadline."""
    changeover: float = 120.0
    """Seconds from a machine's start until the program makes progress, until that has been measured."""
    zones: tuple[str, ...] = ()
    """Names, with or without their provider's; empty: all."""
    regions: tuple[str, ...] = ()
    """Empty: all."""
    egress: Egress = Egress.CONTINENTAL
    egress_price: Money | None = None
    """Of a GiB that moves to another region; None: not known, and not in the ledger."""
    max_price: Money | None = None
    """Spot machines that cost more an hour are not rented; None: the price does not matter."""
    min_spot_share: float | None = None
    """The share of a run's machine time that has to be spot's, at least; a deadline comes first. None: none has to."""

    interruptions: int = 3
    """The interruption with this number within the window sends a run that may use either to on-demand."""
    window: float = 3600.0
    """Seconds; also how long spot is then not considered."""
    avoid: float = 300.0
    """Seconds for which a zone that has just interrupted the run comes after all others."""
    back_off: float = 30.0
    """Seconds for which a zone that has refused is left alone; doubled with every further refusal."""

    @property
    def longest_back_off(self) -> float:
        """Seconds; what the doubling stops at."""
        return 20 * self.back_off


class Project(msgspec.Struct, frozen=True):
    """A project file."""

    file: Path
    """Absolute."""
    name: str
    store: str
    """URL; ``file:`` URLs are absolute."""
    local: LocalProvider
    jobs: dict[str, Job]
    placement: PlacementRules = PlacementRules()
    images: dict[str, Image] = {}
    """In the order of the file; their bases are there, and none needs itself."""
    registries: Registries = Registries()
    store_price: Money | None = None
    """Of a GiB and month in the store; None: not known, and not in the ledger."""
    pools: dict[str, Pool] = {}
    budgets: dict[str, Budget] = {}

    @property
    def state(self) -> Path:
        """The folder that holds the event log and the local provider's machines: ``.spotweld`` beside the file."""
        return self.file.parent / ".spotweld"
