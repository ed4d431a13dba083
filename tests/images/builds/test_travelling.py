"""What travels to a machine that builds: all that the keys see, as it is, and nothing of Spotweld's own."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import pytest
from tests.images.workshop import Shop

from spotweld.errors import UsageError
from spotweld.images.builds import travelling
from spotweld.images.builds.freshness import standings
from spotweld.images.builds.travelling import Order, pack, unpack


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    folder = tmp_path / "project"
    folder.mkdir()
    return Shop(folder)


def travel(shop: Shop, *names: str, to: str = "machine") -> tuple[Order, Path]:
    out = shop.folder.parent / f"{to}-order"
    out.mkdir()
    pack(shop.project, names, "buildah", 3, out)
    return unpack(out, shop.folder.parent / to), shop.folder.parent / to


def test_the_keys_are_the_same_there(shop: Shop) -> None:
    shop.write("tool/Dockerfile", "FROM scratch\nCOPY . /\n")
    (shop.folder / "tool/run").write_text("#!/bin/sh\n")
    (shop.folder / "tool/run").chmod(0o755)
    (shop.folder / "tool/link").symlink_to("../../outside")
    os.link(shop.folder / "tool/run", shop.folder / "tool/second")
    (shop.folder / "tool/empty").mkdir()
    os.mkfifo(shop.folder / "tool/fifo")
    shop.write("tool/.dockerignore", "secret\nfifo\n")
    shop.write("tool/secret", "secret")
    order, there = travel(shop, "tool", "base")
    assert (order.names, order.builder, order.at_once) == (("tool", "base"), "buildah", 3)
    assert order.project.file.parent == there
    here = standings(shop.project, ["tool", "base"])
    assert [one.key for one in standings(order.project, ["tool", "base"])] == [one.key for one in here]
    assert (there / "tool/run").stat().st_mode & 0o777 == 0o755
    assert (there / "tool/second").read_text() == "#!/bin/sh\n"
    assert (there / "tool/link").readlink() == Path("../../outside")
    assert not (there / "tool/secret").exists()


def test_only_what_the_images_need_travels(shop: Shop) -> None:
    _, there = travel(shop, "stack")
    assert sorted(path.name for path in there.iterdir()) == ["base", "stack"]


def test_a_context_that_is_the_project_comes_without_spotwelds_own(shop: Shop) -> None:
    shop.write("spotweld.yaml", "name: x\nimages: {all: {dockerfile: tool/Dockerfile}}\njobs: {t: {command: a}}\n")
    shop.write("tool/Dockerfile", "FROM scratch\nCOPY . /\n")
    (shop.folder / ".spotweld").mkdir()
    (shop.folder / ".spotweld/events.db").touch()
    (shop.folder / "store").rename(shop.folder.parent / "store")
    order, there = travel(shop, "all")
    assert not (there / ".spotweld").exists()
    assert standings(order.project)[0].key == standings(shop.project)[0].key


def test_the_same_files_make_the_same_bytes(shop: Shop) -> None:
    made = []
    for to in ("one", "two"):
        for path in shop.folder.rglob("*"):
            os.utime(path, (1, 1 if to == "one" else 2))
        travel(shop, "trainer", to=to)
        made.append((shop.folder.parent / f"{to}-order/contexts.tar").read_bytes())
    assert made[0] == made[1]


def test_registries_and_store_stay_where_they_are(shop: Shop) -> None:
    order, _ = travel(shop, "tool")
    assert order.project.registries == shop.project.registries
    assert order.project.store == shop.project.store


def test_too_many_bytes_are_refused_with_what_to_do(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(travelling, "_LARGEST", 3)
    with pytest.raises(UsageError, match="too large") as caught:
        travel(shop, "tool")
    assert ".dockerignore" in caught.value.todo


@pytest.mark.parametrize(("where", "name"), [(os, "scandir"), (tarfile.TarFile, "gettarinfo")])
def test_what_cannot_be_read_is_one_clear_error(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, where: object, name: str
) -> None:
    (shop.folder / "tool/data").mkdir()
    standings(shop.project, ["tool"])  # no instruction names the folder
    whole = getattr(where, name)

    def refuse(*words: object) -> object:
        if any(str(word).endswith("tool/data") for word in words):
            raise PermissionError(13, "Permission denied", "tool/data")
        return whole(*words)

    monkeypatch.setattr(where, name, refuse)
    with pytest.raises(UsageError, match=r"cannot be (read|packed): Permission denied") as caught:
        travel(shop, "tool")
    assert ".dockerignore" in caught.value.todo
