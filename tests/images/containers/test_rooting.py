"""Where an image's own links lead, and what is missing on a machine."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spotweld.errors import ContainerRefused
from spotweld.images.containers import preparing
from spotweld.images.containers.preparing import check_here
from spotweld.images.containers.rooting import lacking, within

NAMES = st.sampled_from(["a", "b", "c"])
TARGETS = st.builds(
    lambda absolute, parts: ("/" if absolute else "") + ("/".join(parts) or "."),
    st.booleans(),
    st.lists(st.sampled_from(["a", "b", "c", ".."]), max_size=4),
)


@given(st.dictionaries(st.tuples(NAMES, NAMES), TARGETS, max_size=6), st.lists(NAMES, min_size=1, max_size=4))
def test_no_link_of_an_image_leads_out_of_it(links: dict[tuple[str, str], str], parts: list[str]) -> None:
    with TemporaryDirectory() as folder:
        root = Path(folder) / "root"
        for (first, second), target in links.items():
            (root / first).mkdir(parents=True, exist_ok=True)
            (root / first / second).symlink_to(target)
        root.mkdir(exist_ok=True)
        try:
            found = within(root, PurePosixPath("/", *parts))
        except ContainerRefused:
            return
        assert found.is_relative_to(root)
        assert ".." not in found.parts
        assert not any(path.is_symlink() for path in (found, *found.parents) if path.is_relative_to(root))


def test_a_link_means_what_it_means_in_the_image(tmp_path: Path) -> None:
    (tmp_path / "var").mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "var/run").symlink_to("/run")
    (tmp_path / "run/up").symlink_to("../../../var")
    assert within(tmp_path, PurePosixPath("/var/run/x")) == tmp_path / "run/x"
    assert within(tmp_path, PurePosixPath("/var/run/up/y")) == tmp_path / "var/y"


def test_a_circle_of_links_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("/a")
    with pytest.raises(ContainerRefused, match="circle"):
        within(tmp_path, PurePosixPath("/a/x"))


def test_missing_programs_are_said_with_their_debian_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    assert lacking([("sh", "dash"), ("no-such-program", "none"), ("nor-this", "none")]) == ["none"]
    monkeypatch.setattr(preparing, "lacking", lambda _: ["buildah", "util-linux"])
    with pytest.raises(ContainerRefused) as caught:
        check_here()
    assert caught.value.todo == "Debian: apt-get install --no-install-recommends buildah util-linux"


def test_it_takes_linux_and_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preparing.platform, "system", lambda: "Darwin")
    with pytest.raises(ContainerRefused, match="takes Linux"):
        check_here()
    monkeypatch.undo()
    monkeypatch.setattr(preparing, "lacking", lambda _: [])
    monkeypatch.setattr(preparing.os, "geteuid", lambda: 1000)
    with pytest.raises(ContainerRefused, match="only root"):
        check_here()


def test_a_root_that_may_not_mount_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preparing, "lacking", lambda _: [])
    monkeypatch.setattr(preparing.os, "geteuid", lambda: 0)
    monkeypatch.setattr(preparing, "ALONE", ("sh", "-c", "echo not permitted >&2; exit 1"))
    with pytest.raises(ContainerRefused, match="not permitted"):
        check_here()
    monkeypatch.setattr(preparing, "ALONE", ("env",))
    check_here()
