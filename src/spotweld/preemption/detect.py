"""Which sources can be heard on this machine."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

from spotweld.preemption.signals import PLAIN, Rules, SignalSource, kubernetes, slurm
from spotweld.values.environment import METADATA, NOTICE_FILE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from spotweld.preemption.notices import Source

SYS_VENDOR = Path("/sys/class/dmi/id/sys_vendor")
"""Who made this machine, as its firmware tells: ``Amazon EC2``, ``Google``, ``Microsoft Corporation``, ``Xen`` …"""
_OWN_SERVICE_INTERVAL = 0.2
"""Seconds between questions to a metadata service that serves this machine alone; its notices can be as short."""
_GKE_GRACE = 15.0
"""Seconds that a GKE Spot node which is being taken leaves to ordinary pods."""


def sources_here(environ: Mapping[str, str], *, sys_vendor: Path = SYS_VENDOR) -> list[Source]:
    """The sources for this process: one that tells of the machine, and its signals.

    The agent's notice file comes first: whoever has an agent hears from it what the agent hears from the cloud. Then
    a metadata service named in the environment, then the cloud's own. Signals mean what the scheduler around means by
    them; they are left out when called in another thread than the main one.

    Args:
        environ: the process environment.
        sys_vendor: where the firmware tells who made the machine.
    """
    vendor = _read(sys_vendor)
    sources: list[Source] = []
    # Each source is imported only where it is used: this runs at the start of every training process.
    if environ.get(NOTICE_FILE):
        from spotweld.preemption.files import FileSource  # noqa: PLC0415

        sources.append(FileSource(Path(environ[NOTICE_FILE])))
    elif environ.get(METADATA):
        from spotweld.preemption.aws import AwsSource  # noqa: PLC0415

        sources.append(AwsSource(environ[METADATA], interval=_OWN_SERVICE_INTERVAL))
    else:
        sources += _cloud(vendor, _read(sys_vendor.with_name("bios_version")))
    if threading.current_thread() is threading.main_thread():
        sources.append(SignalSource(_rules(environ, vendor)))
    return sources


def _cloud(vendor: str, bios: str) -> list[Source]:
    # EC2's older generations, whose GPU types are still rented, run on Xen; only their BIOS names Amazon.
    if vendor == "Amazon EC2" or (vendor == "Xen" and "amazon" in bios):
        from spotweld.preemption.aws import AwsSource  # noqa: PLC0415

        return [AwsSource()]
    if vendor == "Google":
        from spotweld.preemption.gcp import GcpSource  # noqa: PLC0415

        return [GcpSource()]
    if vendor == "Microsoft Corporation":
        from spotweld.preemption.azure import AzureSource  # noqa: PLC0415

        return [AzureSource()]
    return []


def _rules(environ: Mapping[str, str], vendor: str) -> Rules:
    # A machine whose metadata service is named in the environment is the local provider's, whatever it runs inside of.
    if environ.get(METADATA):
        return PLAIN
    if environ.get("SLURM_JOB_ID"):
        return slurm()
    if environ.get("KUBERNETES_SERVICE_HOST"):
        return kubernetes(grace=_GKE_GRACE) if vendor == "Google" else kubernetes()
    return PLAIN


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
