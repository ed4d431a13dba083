"""What happens in a run, told in lines for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spotweld.checkpoint import events as told
from spotweld.checkpoint.risk import Level
from spotweld.preemption.notices import Kind
from spotweld.report.markup import clean
from spotweld.report.words import last_save, origin, sighted
from spotweld.runs import events as logged
from spotweld.runs.following import Told
from spotweld.runs.states import RunState, apply, fold
from spotweld.values.durations import format_duration
from spotweld.values.sizes import format_size

if TYPE_CHECKING:
    from spotweld.runs.following import Happening


INDENT = 15
"""Where the text of a line begins: behind the time and the attempt."""
_SAVES_EVERY = 10.0
"""Seconds between two lines about saves that the cadence asked for."""


class Teller:
    """Follows a run's happenings and keeps what a progress line shows.

    Attributes:
        state: the run, as far as it has been told; None before the first entry.
        step: steps finished, as far as is known.
        total: steps to do; 0: not known yet.
        metrics: the newest value of each metric.
        saves: checkpoints saved.
        durable: newest step in the run's store, where saves go to a fast tier first; None: they do not, or none is.
        lost: steps that had to be done again.
    """

    def __init__(self) -> None:
        self.state: RunState | None = None
        self.step = 0
        self.total = 0
        self.metrics: dict[str, float] = {}
        self.saves = 0
        self.durable: int | None = None
        self.lost = 0
        self._save_told = self._carried_told = float("-inf")
        self._awaited: int | None = None

    def tell(self, happening: Happening) -> str | None:
        """The line for this happening; None: it only moves the progress line."""
        if isinstance(happening, Told):
            text = self._process(happening.event)
            number = happening.attempt
        else:
            self.state = fold([happening]) if self.state is None else apply(self.state, happening)
            text = self._controller(happening.event)
            number = getattr(happening.event, "attempt", 0)
        if text is None:
            return None
        since = max(0.0, happening.time - self.state.opened) if self.state is not None else 0.0
        line = " ".join(clean(text).splitlines())
        return f"{since:7.1f} s  {f'#{number}' if number else '':<3} {line}"

    def _controller(self, event: logged.Event) -> str | None:  # noqa: C901 - one case for each kind
        match event:
            case logged.Opened(job=job):
                return f"run opened: {job.command}"
            case logged.AttemptOpened(offer=offer, drawn=logged.Drawn(pool=pool)):
                return f"from pool {pool}: {offer.zone} {offer.capacity_type}, ready and waiting"
            case logged.AttemptOpened(offer=offer, why=why):
                return f"renting {offer.zone} {offer.capacity_type}: {why}"
            case logged.MachineStarted(machine=machine):
                drawn = self.state is not None and self.state.current is not None and self.state.current.drawn
                return f"machine {machine} is {'taken' if drawn else 'starting'}"
            case logged.Running():
                return "the machine is up"
            case logged.AttemptEnded(cause=cause, detail=detail):
                return f"ended: {cause}{f' ({detail})' if detail else ''}"
            case logged.Waiting(why=why):
                return f"waiting: {why}"
            case logged.Sighted(up=up) if up:
                return sighted(up)
            case logged.CancelRequested():
                return "somebody asked to cancel the run"
            case logged.Ended(outcome=outcome, why=why):
                return f"run ended: {outcome}{f' ({why})' if why else ''}"
            case logged.Reopened(budget=budget):
                return "the run goes on" if budget is None else f"the run goes on: its budget is {budget} now"
            case _:
                return None

    def _process(self, event: told.Event) -> str | None:  # noqa: C901, PLR0912 - one case for each kind
        match event:
            case told.Start(total=total):
                self.total = total
                return None
            case told.Fresh():
                return "starts from the beginning: there is no checkpoint yet"
            case told.Restored():
                return self._restored(event)
            case told.Remark(text=text):
                return text
            case told.ImageFetching(image=image, done=done):
                return f"fetching the image {image}: {format_size(done)}"
            case told.ImageReady(image=image, seconds=seconds):
                come = f"{format_size(event.moved)} came over the network" if event.moved else "unpacked"
                come = "this host had it" if event.here else come
                return f"in the image {image} after {format_duration(seconds)}: {come}"
            case told.Step(step=step) | told.Finished(step=step):
                self.step = step
                return None
            case told.Metrics(step=step, values=values):
                self.step = max(self.step, step)
                self.metrics |= {name: value for name, value in values.items() if value is not None}
                return None
            case told.Saved():
                return self._saved(event)
            case told.Carried(published=True):
                return self._carried(event)
            case told.SaveFailed(step=step, why=why):
                return f"the save of step {step} failed and will be tried again: {why}"
            case told.Risk(level=Level.ELEVATED, why=why):
                return f"this machine is at an elevated risk: {why}"
            case told.Noticed(notice=notice):
                if notice.kind is Kind.REBALANCE:
                    return f"{notice.source} says that this machine is at risk"
                left = "" if notice.deadline is None else f" in {format_duration(max(0, notice.deadline - event.t))}"
                return f"notice from {notice.source}: this machine goes{left}"
            case told.Withdrawn():
                return "the notice was withdrawn"
            case told.Emergency():
                return last_save(event)
            case told.Fenced():
                return "a later attempt owns the run; this one stops"
            case told.Leaving(step=step, why=why):
                return f"left at step {step}: {why}"
            case _:
                return None

    def _saved(self, event: told.Saved) -> str | None:
        self.saves += 1
        # They come by the clock, and the progress line counts them; all other saves have a reason worth a line.
        if event.reason == "cadence" and event.t - self._save_told < _SAVES_EVERY:
            return None
        self._save_told = event.t
        if event.tier and event.reason != "cadence":
            self._awaited = event.step
        where = f"saved in {event.tier}" if event.tier else "durable"
        return (
            f"step {event.step} is {where} ({event.reason}): {format_size(event.size)} in "
            f"{format_duration(event.seconds)}, stall {format_duration(event.stall)}"
        )

    def _carried(self, event: told.Carried) -> str | None:
        self.durable = event.step
        awaited = self._awaited is not None and event.step >= self._awaited
        if event.t - self._carried_told < _SAVES_EVERY and not awaited:
            return None
        self._carried_told, self._awaited = event.t, None
        return f"step {event.step} is durable: in {event.store} after {format_duration(event.seconds)}"

    def _restored(self, event: told.Restored) -> str:
        self._save_told = self._carried_told = float("-inf")
        self.durable = event.published if event.tier else None
        lost = max(0, self.step - event.step)
        self.lost += lost
        self.step = event.step
        passed = "".join(f"; passed over step {d.step}: {d.why}" for d in event.damaged)
        again = f"{lost} steps to do again" if lost else "nothing lost"
        return f"resumed from step {event.step}{origin(event)} in {format_duration(event.seconds)}: {again}{passed}"
