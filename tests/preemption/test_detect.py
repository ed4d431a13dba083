"""Which sources are heard where."""

from __future__ import annotations

import threading
from signal import SIGTERM
from typing import TYPE_CHECKING

import pytest

from spotweld.preemption.aws import AwsSource
from spotweld.preemption.detect import sources_here

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from spotweld.preemption.notices import Source

    Here = Callable[..., list[Source]]

METADATA = {"SPOTWELD_METADATA": "http://127.0.0.1:1"}
FILE = {"SPOTWELD_NOTICE_FILE": "/nowhere/notice"}
SLURM = {"SLURM_JOB_ID": "7"}
KUBERNETES = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Here]:
    opened: list[Source] = []

    def here(environ: Mapping[str, str], vendor: str = "", bios: str = "") -> list[Source]:
        (tmp_path / "sys_vendor").write_text(vendor + "\n")
        (tmp_path / "bios_version").write_text(bios + "\n")
        found = sources_here(environ, sys_vendor=tmp_path / "sys_vendor")
        opened.extend(found)
        return found

    yield here
    for source in reversed(opened):
        source.close()


@pytest.mark.parametrize(
    ("environ", "vendor", "names"),
    [
        ({}, "", ["signal"]),
        ({}, "Dell Inc.", ["signal"]),
        ({}, "Amazon EC2", ["aws", "signal"]),
        ({}, "Google", ["gcp", "signal"]),
        ({}, "Microsoft Corporation", ["azure", "signal"]),
        (FILE, "Amazon EC2", ["file", "signal"]),
        (METADATA, "Google", ["aws", "signal"]),
        (FILE | METADATA, "", ["file", "signal"]),
        (SLURM, "", ["slurm"]),
        (SLURM, "Amazon EC2", ["aws", "slurm"]),
        (KUBERNETES, "Microsoft Corporation", ["azure", "kubernetes"]),
        (FILE | SLURM, "", ["file", "slurm"]),
        (METADATA | KUBERNETES | SLURM, "", ["aws", "signal"]),
    ],
)
def test_who_is_heard(here: Here, environ: dict[str, str], vendor: str, names: list[str]) -> None:
    assert [source.name for source in here(environ, vendor)] == names


def test_old_ec2_machines_are_known_by_their_bios(here: Here) -> None:
    assert [source.name for source in here({}, "Xen", "4.11.amazon")] == ["aws", "signal"]
    assert [source.name for source in here({}, "Xen", "4.11")] == ["signal"]


def test_a_gke_spot_node_leaves_pods_less_time(here: Here) -> None:
    leads = [here(KUBERNETES, vendor)[-1]._rules.leads[SIGTERM] for vendor in ("", "Google")]
    assert leads == [30.0, 15.0]


def test_a_service_of_the_machines_own_is_asked_more_often(here: Here) -> None:
    own, clouds = here(METADATA)[0], here({}, "Amazon EC2")[0]
    assert isinstance(own, AwsSource)
    assert isinstance(clouds, AwsSource)
    assert own.interval < 0.5 < clouds.interval <= 5


def test_a_machine_without_that_file_has_signals(tmp_path: Path) -> None:
    (source,) = sources_here({}, sys_vendor=tmp_path / "none")
    source.close()
    assert source.name == "signal"


def test_another_thread_than_the_main_one_gets_no_signals(here: Here) -> None:
    found: list[Source] = []
    thread = threading.Thread(target=lambda: found.extend(here({}, "Google")))
    thread.start()
    thread.join()
    assert [source.name for source in found] == ["gcp"]
