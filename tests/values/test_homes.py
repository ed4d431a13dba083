from pathlib import Path

import pytest

from spotweld.values.homes import own_folder


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"XDG_X": "/x", "HOME": "/h"}, "/x"),
        ({"XDG_X": "relative", "HOME": "/h"}, "/h/.x"),
        ({"HOME": "/h"}, "/h/.x"),
        ({"HOME": ""}, "/account/.x"),
    ],
)
def test_the_variable_comes_before_the_home(
    environ: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "home", lambda: Path("/account"))
    assert own_folder(environ, "XDG_X", ".x") == Path(expected)


def test_a_user_without_an_account_has_the_home_that_containers_give(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr("os.getuid", lambda: 2**31 - 7)
    assert own_folder({}, "XDG_X", ".x") == Path("/.x")
