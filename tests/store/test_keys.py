import pytest
from hypothesis import given
from hypothesis import strategies as st

from spotweld.errors import UsageError
from spotweld.store.keys import check_key, check_prefix


@given(st.text(max_size=30))
def test_a_good_key_stays_below_the_folder_and_starts_with_good_prefixes(key: str) -> None:
    try:
        check_key(key)
    except UsageError:
        return
    assert all(part not in {"", ".", ".."} for part in key.split("/"))
    assert not set(key) & {"\0", "\\"}
    for end in range(len(key) + 1):
        check_prefix(key[:end])


@pytest.mark.parametrize("key", ["x" * 201, "a/" * 500 + "b", "ü" * 101, "\x7f", "a/.~b"])
def test_what_some_store_cannot_hold_is_refused(key: str) -> None:
    with pytest.raises(UsageError):
        check_key(key)
    with pytest.raises(UsageError):
        check_prefix(key)
