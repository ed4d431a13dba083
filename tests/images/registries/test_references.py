import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from spotweld.errors import UsageError
from spotweld.images.registries.references import Reference, is_digest, parse_reference
from spotweld.values.digests import Digest

SHA = Digest("sha256:" + "0123456789abcdef" * 4)
hosts = st.sampled_from(
    ["", "localhost", "localhost:5000", "ghcr.io", "a.b-c.example:443", "127.0.0.1:1", "[::1]:5000", "Host"]
)
words = st.text(alphabet="a0z", min_size=1, max_size=5)
parts = st.builds(
    lambda first, mark, last: f"{first}{mark}{last}", words, st.sampled_from(["", ".", "_", "__", "---"]), words
)
repositories = st.lists(parts, min_size=1, max_size=4).map("/".join)
tags = st.one_of(
    st.just(""), st.text(alphabet="aZ0_.-", min_size=1, max_size=128).filter(lambda tag: tag[0] not in ".-")
)
digests = st.sampled_from([None, SHA, Digest("sha512:" + "a" * 128)])


@given(hosts, repositories, tags, digests)
def test_what_is_written_is_read_again(host: str, repository: str, tag: str, digest: Digest | None) -> None:
    first, slash, _ = repository.partition("/")
    reference = Reference(repository, host, tag, digest)
    text = str(reference)
    # Without a host, a repository whose first part looks like one cannot be written.
    assume(host or not slash or ("." not in first and first != "localhost"))
    assert parse_reference(text) == reference


@given(st.one_of(st.text(), st.text(alphabet="aA0./:@-_[]", max_size=20)))
def test_whatever_is_read_is_written_the_same(text: str) -> None:
    try:
        reference = parse_reference(text)
    except UsageError:
        return
    assert str(reference) == text
    assert parse_reference(str(reference.full())) == reference.full() == reference.full().full()


@pytest.mark.parametrize(
    ("text", "full"),
    [
        ("debian", "docker.io/library/debian:latest"),
        ("debian:bookworm", "docker.io/library/debian:bookworm"),
        ("index.docker.io/me/x", "docker.io/me/x:latest"),
        ("me/x", "docker.io/me/x:latest"),
        ("ghcr.io/me/x", "ghcr.io/me/x:latest"),
        ("localhost/x:1", "localhost/x:1"),
        ("localhost:5000/x", "localhost:5000/x:latest"),
        (f"x@{SHA}", f"docker.io/library/x@{SHA}"),
        (f"a.b:1/x:2@{SHA}", f"a.b:1/x:2@{SHA}"),
    ],
)
def test_the_full_name(text: str, full: str) -> None:
    assert str(parse_reference(text).full()) == full


@pytest.mark.parametrize(
    "text",
    ["", ":", "x:", "x@", "X", "a//b", "/a", "a/", "a b", "x:-1", "x:a/b", "http://a/b", "x@sha256:12", f"x@{SHA}0",
     "a.b:123456/x", "-a.b/x", "a..b/x", "x" * 255, "x:" + "t" * 129, "a/../b", "x\n"],
)  # fmt: skip
def test_what_names_no_image(text: str) -> None:
    with pytest.raises(UsageError, match="does not name an image"):
        parse_reference(text)


def test_capital_letters_are_explained() -> None:
    with pytest.raises(UsageError, match="capital letters") as caught:
        parse_reference("Team/Trainer:v1")
    assert "does not name" in str(caught.value)
    assert caught.value.todo == "Write it in small letters."


def test_the_name_to_ask_for() -> None:
    assert [parse_reference(text).name for text in ("x", "x:1", f"x:1@{SHA}")] == ["latest", "1", SHA]
    assert is_digest(SHA)
    assert not is_digest("latest")
