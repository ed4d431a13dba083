from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from spotweld.errors import DockerfileError
from spotweld.images.dockerfiles.ignore import Ignore, read
from spotweld.images.dockerfiles.patterns import clean
from spotweld.images.steps.context import Context, NotInContext
from spotweld.images.steps.filedigests import FileDigests

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    for name in ("a.txt", "b.txt", "c.md", "src/x.py", "src/sub/y.py", "src/sub/z.md", ".hidden"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (folder / "link").symlink_to("src/x.py")
    (folder / "folderlink").symlink_to("src/sub")
    (folder / "src/dangling").symlink_to("nowhere")
    (folder / "outside").symlink_to("../../../a.txt")
    (folder / "loop").symlink_to("loop")
    return folder


def paths(context: Context, source: str) -> list[str]:
    return [entry.path for entry in context.named(source)]


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("a.txt", ["a.txt"]),
        ("/a.txt", ["a.txt"]),
        ("../../a.txt", ["a.txt"]),
        ("src/", ["src", "src/dangling", "src/sub", "src/sub/y.py", "src/sub/z.md", "src/x.py"]),
        ("*.txt", ["a.txt", "b.txt"]),
        ("[^a].txt", ["b.txt"]),
        ("s*/*.py", ["src/x.py"]),
        ("src/**/*.py", ["src/sub/y.py", "src/x.py"]),
        ("**/sub", ["src/sub", "src/sub/y.py", "src/sub/z.md"]),
        ("**/loo*", ["loop"]),
        ("**/l*k", ["link", "src/x.py"]),
        ("**/f*link", ["folderlink", "src/sub", "src/sub/y.py", "src/sub/z.md"]),
        ("link", ["link", "src/x.py"]),
        ("folderlink/y.py", ["folderlink", "src/sub/y.py"]),
        ("outside", ["a.txt", "outside"]),
    ],
)
def test_a_source_names_what_the_builder_copies(root: Path, source: str, found: list[str]) -> None:
    assert paths(Context(root), source) == found


def test_kinds_and_values(root: Path) -> None:
    (root / "a.txt").chmod(0o700)
    entries = {entry.path: entry for entry in Context(root).named(".")}
    assert entries["a.txt"].kind == "executable"
    assert entries["b.txt"].kind == "file"
    assert entries["b.txt"].value.startswith("blake3:")
    assert (entries["src/dangling"].kind, entries["src/dangling"].value) == ("link", "nowhere")
    assert entries["src"].kind == "folder"
    assert (entries["a.txt"].mode, entries["b.txt"].mode, entries["src"].mode) == ("700", "", "")


@pytest.mark.parametrize(
    ("mode", "counts"),
    [
        (0o644, ""),
        (0o664, ""),
        (0o755, ""),
        (0o775, ""),
        (0o600, "600"),
        (0o666, "646"),
        (0o640, "640"),
        (0o4755, "4755"),
    ],
)
def test_what_is_unusual_of_a_mode_counts_and_what_the_group_may_write_does_not(
    root: Path, mode: int, counts: str
) -> None:
    (root / "b.txt").chmod(mode)
    assert Context(root).named("b.txt")[0].mode == counts


def test_a_missing_file_is_guessed_and_an_ignored_one_is_explained(root: Path) -> None:
    context = Context(root, Ignore("# rules\n*.md\n"))
    with pytest.raises(NotInContext) as caught:
        context.named("src/xy.py")
    assert (caught.value.what, caught.value.todo) == (
        "there is no 'src/xy.py' in the context",
        "did you mean 'src/x.py'?",
    )
    with pytest.raises(NotInContext) as caught:
        context.named("c.md")
    assert caught.value.why == "line 2 of .dockerignore leaves it out: *.md"


@pytest.mark.parametrize(("source", "target"), [("src/dangling", "nowhere"), ("folderlink", "src/sub")])
def test_a_link_that_leads_to_nothing_in_the_context_is_explained(root: Path, source: str, target: str) -> None:
    with pytest.raises(NotInContext, match=f"'{source}' leads nowhere") as caught:
        Context(root, Ignore("src/sub\n")).named(source)
    assert caught.value.why == f"it is a link to '{target}'"
    assert ".dockerignore leaves out" in caught.value.todo


@pytest.mark.parametrize("source", ["*.rs", "src/?", "src/**/*.rs", "folderlink/[a]"])
def test_a_pattern_may_name_nothing_yet(root: Path, source: str) -> None:
    assert Context(root).named(source) == ()


@pytest.mark.parametrize("source", ["loop", "a.txt/b", "src/dangling", "scr/*.py", "a.txt/*", r"\*.txt"])
def test_what_names_nothing_is_refused(root: Path, source: str) -> None:
    with pytest.raises(NotInContext):
        Context(root).named(source)


@pytest.mark.parametrize("source", ["[b-a].txt", "a[", "a\\", "**/[b-a]"])
def test_what_is_no_pattern_is_refused(root: Path, source: str) -> None:
    with pytest.raises(NotInContext, match="is no pattern"):
        Context(root).named(source)


def test_a_negation_reaches_into_an_ignored_folder(root: Path) -> None:
    assert paths(Context(root, Ignore("src\n!src/sub/y.py")), ".")[-3:] == ["src", "src/sub", "src/sub/y.py"]


def test_an_ignored_folder_that_nothing_takes_back_is_not_entered(root: Path) -> None:
    ignore = Ignore("src\n!other/x\n!sr")
    assert not ignore.may_keep_below("src")
    assert Ignore("src\n!s*/x").may_keep_below("src")
    assert [name for name in paths(Context(root, ignore), ".") if name.startswith("src")] == []


def test_names_that_are_no_text_are_shown_and_told_apart(root: Path) -> None:
    for name in (b"\xff\\", b"\xfe\\"):
        os.close(os.open(os.fsencode(root) + b"/src/" + name, os.O_CREAT))
    shown = [name for name in paths(Context(root), "src") if "\\x" in name]
    assert shown == ["src/\\xfe\\\\", "src/\\xff\\\\"]


def test_the_dockerfiles_own_rules_go_first(tmp_path: Path) -> None:
    assert read(tmp_path, tmp_path / "Dockerfile").rules == ()
    (tmp_path / ".dockerignore").write_text("\ufeff# x\n\n a \n!b\n")
    assert [rule.text for rule in read(tmp_path, tmp_path / "Dockerfile").rules] == ["a", "!b"]
    (tmp_path / "my.dockerignore").write_text("c")
    assert [rule.text for rule in read(tmp_path, tmp_path / "my").rules] == ["c"]


def test_rules_may_hold_bytes_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / ".dockerignore").write_bytes(b"# d\xe9j\xe0\nd\xe9j\xe0\n")
    ignore = read(tmp_path, tmp_path / "Dockerfile")
    assert ignore.decides(os.fsdecode(b"d\xe9j\xe0")) is not None
    assert ignore.decides("other") is None


@pytest.mark.parametrize("rule", ["!", "[a", "[b-a]", "a\\"])
def test_a_bad_rule_is_refused_at_its_line(rule: str) -> None:
    with pytest.raises(DockerfileError) as caught:
        Ignore(f"a\n{rule}")
    assert (caught.value.file, caught.value.line) == (".dockerignore", 2)


def test_paths_are_cleaned() -> None:
    assert [clean(path) for path in ("", ".", "/", "./a/", "a//b/../c", "../..")] == [".", ".", ".", "a", "a/c", "."]


def later() -> int:
    return 1 << 62


def test_a_file_is_read_once_until_its_inode_says_otherwise(root: Path, tmp_path: Path) -> None:
    memory = tmp_path / "memory"

    def reads() -> tuple[int, str]:
        with FileDigests(memory, clock=later) as digests:
            entry = Context(root, digests=digests).named("a.txt")[0]
        return digests.read, entry.value

    first = reads()
    assert first[0] == 1
    assert reads() == (0, first[1])
    before = (root / "a.txt").stat()
    # The same size, and the time of modification set back: only the time of the inode's change tells.
    (root / "a.txt").write_text("b.txt")
    os.utime(root / "a.txt", ns=(before.st_atime_ns, before.st_mtime_ns))
    second = reads()
    assert second[0] == 1
    assert second[1] != first[1]


def test_a_file_changed_just_now_is_not_remembered(root: Path, tmp_path: Path) -> None:
    now = (root / "a.txt").stat().st_ctime_ns
    for _ in range(2):
        with FileDigests(tmp_path / "memory", clock=lambda: now) as digests:
            Context(root, digests=digests).named("a.txt")
        assert digests.read == 1


@pytest.mark.parametrize("damage", [b"", b"{", b"[1]", b'{"a.txt": 1}', b"\xff"])
def test_a_damaged_memory_costs_reading_only(root: Path, tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "memory").write_bytes(damage)
    with FileDigests(tmp_path / "memory", clock=later) as digests:
        assert Context(root, digests=digests).named("a.txt")[0].value.startswith("blake3:")
    assert digests.read == 1
