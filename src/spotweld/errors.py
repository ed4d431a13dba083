"""Every error that Spotweld raises on purpose.

::

    SpotweldError
    ├── Unexpected                 SW0000  exit 1   a fault in Spotweld itself
    ├── SystemRefused              SW0002  exit 1   the operating system refused: disk full, no permission
    ├── UsageError                 SW10xx  exit 2   the caller asked for something impossible
    │   └── ProjectError           SW11xx           the project file is wrong, at a line and a column
    ├── StoreError                 SW20xx  exit 1   bytes that should survive
    │   ├── NotFound               SW2001           nothing under that key
    │   ├── Conflict               SW2002           somebody else was first (create, compare-and-swap)
    │   ├── Fenced                 SW2003  exit 75  a later attempt owns the run: stop writing
    │   ├── Corrupt                SW2004           bytes differ from their digest
    │   ├── Unavailable            SW2005           the store did not answer; worth a retry
    │   └── StoreRefused           SW2006           the store ignores conditions; unsafe
    ├── CheckpointError            SW30xx  exit 1   a state that cannot be saved or restored
    │   ├── UnsupportedState       SW3001           a value with no safe representation
    │   ├── StateMismatch          SW3002           the checkpoint does not fit the program
    │   ├── UnknownFormat          SW3003           written by a newer Spotweld
    │   ├── NoWholeCheckpoint      SW3004           every stored checkpoint is damaged
    │   └── Unsettled              SW3005           a directory changes while it is copied
    ├── ProviderError              SW40xx  exit 1   a machine could not be had or reached
    │   └── NoCapacity             SW4001  exit 5   the offer cannot be had now
    ├── RunError                   SW50xx  exit 1   a run that cannot go on
    │   ├── StaleWriter            SW5001           another controller drives this run
    │   ├── IllegalTransition      SW5002           the event does not fit the run's state
    │   └── BudgetSpent            SW5003  exit 3   a budget of the project stands against it
    └── ImageError                 SW60xx  exit 1   an image that cannot be built, kept or fetched
        ├── ImageNotFound          SW6001           no image under that name
        ├── RegistryUnavailable    SW6002           the registry did not answer; worth a retry
        │   └── RegistryFull       SW6006           no space left there
        ├── RegistryRefused        SW6003           wrong credentials, read-only, not allowed: no use in a retry
        ├── ImageDamaged           SW6004           a blob is gone, or differs from its digest
        ├── TagMoved               SW6005           somebody else moved the tag meanwhile
        ├── DockerfileError        SW6011           the Dockerfile is wrong, at a line
        │   ├── ContextError       SW6012           a file that the Dockerfile names is not in the context
        │   └── BaseUnresolved     SW6013           nobody knows which image a base's name means now
        ├── BuildFailed            SW6021           an instruction failed, or the builder refused the Dockerfile
        ├── BuilderUnavailable     SW6022           the builder is not installed, or does not answer
        ├── CacheUnsaved           SW6023           a finished instruction could not be sent to the registry
        ├── ImageRecordUnreadable  SW6031           what the store remembers of an image is damaged, or too new
        ├── CacheUnfetched         SW6032           a cached step could not be brought to this machine
        ├── ContainerRefused       SW6041           a job cannot run in its image here
        ├── TeardownRefused        SW6051  exit 2   runs are active
        └── LeftBehind             SW6052  exit 6   a teardown left something

An error says *what* happened, *why*, and *what to do*. Its code is stable; ``spotweld explain CODE`` prints the
docstring of its class.
"""

from __future__ import annotations

from typing import ClassVar


class SpotweldError(Exception):
    """Something that Spotweld knows how to explain.

    Args:
        what: one sentence: what happened.
        why: the cause, as far as it is known.
        todo: what the reader can do about it.
    """

    code: ClassVar[str] = "SW0001"
    exit_status: ClassVar[int] = 1

    def __init__(self, what: str, why: str = "", todo: str = "") -> None:
        super().__init__(what, why, todo)
        self.what = what
        self.why = why
        self.todo = todo

    def __str__(self) -> str:
        return ": ".join(part for part in (self.what, self.why) if part)


class Unexpected(SpotweldError):
    """Something went wrong that Spotweld did not foresee: a fault in Spotweld itself, not in your project.

    Published checkpoints are not touched by it. Set ``SPOTWELD_DEBUG=1`` and run the command again to see the whole
    traceback, and report it together with the output of ``spotweld doctor --json``.
    """

    code = "SW0000"


class SystemRefused(SpotweldError):
    """The operating system refused what a verb needed: a disk is full, a file may not be written, memory is short.

    The message names the file where there is one; without one it was most likely where the output goes. Published
    checkpoints are not touched by it, and every verb can be called again.
    """

    code = "SW0002"


class UsageError(SpotweldError):
    """A verb was called with something that does not exist or does not fit.

    Nothing was changed. The message names the nearest thing that does exist.
    """

    code = "SW1001"
    exit_status = 2


class ProjectError(UsageError):
    """The project file cannot be used as it stands.

    The message carries the file, the line and the column of the first offending place, and for an unknown key the
    nearest key that is known. Nothing was changed. ``spotweld init --schema`` prints the JSON Schema that editors
    can use to check the file while it is written.
    """

    code = "SW1101"

    def __init__(
        self, what: str, why: str = "", todo: str = "", *, file: str = "", line: int = 0, column: int = 0
    ) -> None:
        super().__init__(what, why, todo)
        self.file = file
        self.line = line
        self.column = column

    def __str__(self) -> str:
        place = ":".join(str(part) for part in (self.file, self.line, self.column) if part)
        return f"{place}: {super().__str__()}" if place else super().__str__()


class StoreError(SpotweldError):
    """The store could not do what was asked of it."""

    code = "SW2000"


class NotFound(StoreError):
    """There is no object under that key.

    A checkpoint or a log that was there before may have been removed by retention or by hand.
    """

    code = "SW2001"


class Conflict(StoreError):
    """Somebody else wrote the object first.

    A create found the key taken, or a replace found another version than the one that was read. The caller reads again
    and decides anew.
    """

    code = "SW2002"


class Fenced(StoreError):
    """A later attempt has taken over this run, so this one may not publish any more.

    That is the protection against two machines writing the same run: the older one was declared dead and came back.
    It stops with exit status 75; the later attempt goes on. Nothing is lost.
    """

    code = "SW2003"
    exit_status = 75


class Corrupt(StoreError):
    """The bytes that were read are not the bytes that were written.

    The digest or the size differs: a damaged disk, a truncated copy, or a file changed by hand. Spotweld never uses
    such bytes; it falls back to the previous whole checkpoint and says so.
    """

    code = "SW2004"


class Unavailable(StoreError):
    """The store did not answer, or answered that it cannot now: no network, no space, too many requests.

    Training goes on; the save is tried again. If it stays so, look at the store's URL and credentials with
    ``spotweld doctor``, and at the free space of the disk.
    """

    code = "SW2005"


class StoreRefused(StoreError):
    """The store accepts conditional writes and then ignores the condition.

    Two machines could overwrite each other without noticing. Use a store that honours ``If-None-Match`` and
    ``If-Match`` (AWS S3, GCS, Azure Blob, SeaweedFS, MinIO and local folders do), or append ``?single-writer=true`` to
    its URL if you are sure that only one machine writes at any time.
    """

    code = "SW2006"


class CheckpointError(SpotweldError):
    """A state could not be saved or restored."""

    code = "SW3000"


class UnsupportedState(CheckpointError):
    """The state holds a value that cannot be stored safely.

    Spotweld stores tensors, arrays and plain values (numbers, strings, bytes, booleans, None, and lists, tuples and
    dicts of them) and nothing that would need pickle, because reading a pickle can run any code. Turn the value into
    plain ones in ``state_dict()``.
    """

    code = "SW3001"


class StateMismatch(CheckpointError):
    """The checkpoint does not fit the program that wants to resume from it.

    A name, shape or dtype differs: the code changed between attempts, or the run's name was used for another
    model. Use the code that wrote it, or another run name.
    """

    code = "SW3002"


class UnknownFormat(CheckpointError):
    """The checkpoint was written by a newer Spotweld, in a format that this one does not know. Upgrade Spotweld."""

    code = "SW3003"


class NoWholeCheckpoint(CheckpointError):
    """The run has checkpoints, and every one of them is damaged.

    Starting silently from step 0 would hide that, so the run stops. To start over on purpose, use another run name.
    """

    code = "SW3004"


class Unsettled(CheckpointError):
    """A directory was not left alone for as long as it takes to copy what changes in it, so it could not be saved.

    The program goes on and it is tried again; the last snapshot stands. Somebody writes there who is not in the job's
    process group and so was not stopped, or the job's ``quiesce`` does not quiesce it.
    """

    code = "SW3005"


class ProviderError(SpotweldError):
    """A provider refused or failed."""

    code = "SW4000"


class NoCapacity(ProviderError):
    """The provider has no such machine now in that zone. Spotweld tries the next offer, and later this one again."""

    code = "SW4001"
    exit_status = 5


class RunError(SpotweldError):
    """A run cannot go on."""

    code = "SW5000"


class StaleWriter(RunError):
    """Another controller has written to this run's log since this one last read it.

    This one stops; the other one drives the run.
    """

    code = "SW5001"


class IllegalTransition(RunError):
    """An event does not fit the state that the run is in.

    The log was changed by hand, or this is a fault in Spotweld.
    """

    code = "SW5002"


class BudgetSpent(RunError):
    """A budget of the project that covers the job is broken, so that its run would be stopped at once.

    Nothing was rented. Raise the budget's ``amount`` in the project file, or wait until its next period begins
    (``spotweld budget ls``). Jobs with ``protected: true`` are never held up by budgets of the project.
    """

    code = "SW5003"
    exit_status = 3


class ImageError(SpotweldError):
    """An image could not be built, kept or fetched."""

    code = "SW6000"


class ImageNotFound(ImageError):
    """The registry has no image under that name.

    A tag may have been removed by clean-up or by hand, or the name is spelled otherwise there.
    """

    code = "SW6001"


class RegistryUnavailable(ImageError):
    """The registry did not answer, or answered that it cannot now: no network, too many requests, a fault of its own.

    Every layer that had arrived is kept; when the copy is tried again, it is not sent again.
    """

    code = "SW6002"


class RegistryFull(RegistryUnavailable):
    """The registry, or the disk that an image layout lies on, has no space left.

    Every layer that had arrived is kept, and no tag has moved. Free some space there and try again.
    """

    code = "SW6006"


class RegistryRefused(ImageError):
    """The registry will not do it, however often it is asked.

    The credentials are missing or wrong, the account may not do this, the registry is read-only, does not delete, or
    takes no layer of that size. Every layer that had arrived is kept.
    """

    code = "SW6003"


class ImageDamaged(ImageError):
    """Part of an image is gone, or its bytes are not those that its digest promises.

    A damaged disk, a truncated copy, or a file changed by hand. Spotweld never passes such bytes on. Copy the image
    from another registry, or build it again.
    """

    code = "SW6004"


class TagMoved(ImageError):
    """The tag names another image than the one that was to be replaced: somebody else moved it meanwhile.

    Nothing was changed, and the new image is stored under its digest. Look at what the tag names now, then decide.
    """

    code = "SW6005"


class DockerfileError(ImageError):
    """The Dockerfile, or its ignore file, cannot be used as it stands.

    The message carries the line on which the offending instruction begins. Nothing was built; layers that were
    finished earlier are kept.
    """

    code = "SW6011"

    def __init__(self, what: str, why: str = "", todo: str = "", *, file: str = "Dockerfile", line: int = 0) -> None:
        super().__init__(what, why, todo)
        self.file = file
        self.line = line

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {super().__str__()}"


class ContextError(DockerfileError):
    """An instruction names a file or a folder that is not in the context.

    It is missing, it lies outside the context, or the ignore file leaves it out. The message carries the instruction's
    line and, where an ignore rule is to blame, that rule. Nothing was built.
    """

    code = "SW6012"


class BaseUnresolved(DockerfileError):
    """A base image's name was not resolved to a digest, so nobody knows what would be built upon.

    The registry that holds it does not answer or has no such tag. Name a registry that does, or give the base by
    its digest.
    """

    code = "SW6013"


class BuildFailed(ImageError):
    """An instruction of the Dockerfile failed, or the builder did not understand it.

    The builder's last words are part of the message. Every instruction that had finished before is kept: mend the
    Dockerfile and build again, and only what differs and what follows it runs.
    """

    code = "SW6021"


class BuilderUnavailable(ImageError):
    """The program that builds images is not installed, cannot run here, or its daemon does not answer.

    Nothing was built. Spotweld builds with ``buildah`` (no daemon; Debian: ``apt-get install buildah``) or with
    BuildKit through ``docker buildx`` where Docker keeps its images in containerd.
    """

    code = "SW6022"


class CacheUnsaved(ImageError):
    """The instruction ran, but what it made did not reach the cache registry, so another machine would run it again.

    Instructions that had arrived are kept. Look at the registry: its address, credentials and free space; then build
    again on the same machine, which sends what it already has and runs nothing twice.
    """

    code = "SW6023"


class ImageRecordUnreadable(ImageError):
    """What the project's store remembers of an image cannot be read: it is damaged, or a newer Spotweld wrote it.

    The image itself is not touched by it. Verbs that look at many records pass over such a one with a warning. Upgrade
    Spotweld, or delete the object that the message names: the image's next build writes it anew.
    """

    code = "SW6031"


class CacheUnfetched(ImageError):
    """A cached step could not be brought into this machine's own storage ahead of time.

    Steps that came before it are here. A build fetches what is missing by itself, so nothing depends on it. Look at the
    registry and at this machine's disk, and try again.
    """

    code = "SW6032"


class ContainerRefused(ImageError):
    """A job's setup and command cannot be run in its image on this machine.

    It takes Linux, root, the right to mount, and the program ``buildah`` (Debian: ``apt-get install buildah``), which
    unpacks the image; ``spotweld doctor`` says what of that is missing. Or the image is not for this kind of machine,
    or has no ``/bin/sh``.
    """

    code = "SW6041"


class TeardownRefused(ImageError):
    """Runs are active, and a teardown would take their machines and images away. Nothing was removed.

    Wait for them, stop them with ``spotweld cancel RUN``, or let the teardown do that: ``--cancel-runs``. Their
    checkpoints stay in any case.
    """

    code = "SW6051"
    exit_status = 2


class LeftBehind(ImageError):
    """After a teardown there is still something with this project's label, or a place could not be looked into.

    The message names each. Somebody else may be building or launching, a registry may not allow deletions, or may not
    answer. Once that is mended, tear down again: it takes up where this one ended.
    """

    code = "SW6052"
    exit_status = 6


def catalogue() -> dict[str, type[SpotweldError]]:
    """Every error class by its stable code."""
    found: dict[str, type[SpotweldError]] = {}
    queue: list[type[SpotweldError]] = [SpotweldError]
    while queue:
        kind = queue.pop()
        found[kind.code] = kind
        queue.extend(kind.__subclasses__())
    return dict(sorted(found.items()))
