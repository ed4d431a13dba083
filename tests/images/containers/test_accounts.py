"""What USER means, by an image's own lists of accounts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spotweld.errors import ContainerRefused
from spotweld.images.containers.accounts import Account, account, read_list
from spotweld.images.containers.rooting import _become

if TYPE_CHECKING:
    from pathlib import Path

PASSWD = """\
# a comment
root:x:0:0:root:/root:/bin/sh
app:x:1000:1001:An app,,,:/home/app:/bin/sh
damaged
odd:x:many:1:::
homeless:x:7:7:::/bin/false
"""
GROUP = "root:x:0:\napp:x:1001:\nvideo:x:44:app,other\nrender:x:105:other,app\nempty:x:9:\n"
APP = Account(1000, 1001, (44, 105), "app", "/home/app")


@pytest.mark.parametrize(
    ("user", "wanted"),
    [
        ("", Account()),
        ("root", Account()),
        ("0", Account()),
        ("app", APP),
        ("1000", APP),
        ("app:", APP),
        ("app:video", Account(1000, 44, (), "app", "/home/app")),
        ("app:9", Account(1000, 9, (), "app", "/home/app")),
        ("1000:4242", Account(1000, 4242, (), "app", "/home/app")),
        ("65534", Account(65534, 0, (), "", "/")),
        ("65534:65533", Account(65534, 65533, (), "", "/")),
        ("homeless", Account(7, 7, (), "homeless", "/")),
    ],
)
def test_what_is_in_the_lists(user: str, wanted: Account) -> None:
    assert account(user, PASSWD, GROUP) == wanted


def test_root_needs_no_lists() -> None:
    assert account("", "", "") == account("root", PASSWD, "") == Account()


@pytest.mark.parametrize(
    ("user", "why"),
    [
        ("nobody", "no user 'nobody'"),
        ("odd", "no user 'odd'"),
        ("app:none", "no group 'none'"),
        ("4294967295", "no account's number"),
        ("-1", "no user"),
    ],
)
def test_what_is_not(user: str, why: str) -> None:
    with pytest.raises(ContainerRefused, match=why):
        account(user, PASSWD, GROUP)


@given(st.text(max_size=20), st.text(max_size=60), st.text(max_size=60))
def test_whatever_stands_there_is_an_account_or_an_error(user: str, passwd: str, group: str) -> None:
    try:
        found = account(user, passwd, group)
    except ContainerRefused:
        return
    assert all(0 <= number < 2**32 - 1 for number in (found.uid, found.gid, *found.groups))
    assert found.home


def test_root_becomes_nobody_else() -> None:
    assert _become(Account()) == ()
    words = _become(Account(0, 5, (44,)))
    assert words[1:] == ("--reuid=0", "--regid=5", "--groups=44", "--")
    assert "--clear-groups" in _become(Account(7, 7))


def test_a_list_that_is_none(tmp_path: Path) -> None:
    assert read_list(tmp_path / "passwd") == ""
    assert read_list(tmp_path) == ""
    (tmp_path / "passwd").write_bytes(b"\xff:x:1:1:::\n")
    assert read_list(tmp_path / "passwd/more") == ""
    assert read_list(tmp_path / "passwd").endswith(":x:1:1:::\n")
