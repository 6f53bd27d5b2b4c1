"""Find recent commits that were undone by accident. `make lint` runs it.

A commit that was made on an older tree undoes what others did in between. No test fails after it, because
the tests went with the code. So this looks at each part of each recent commit. The part was undone if the
lines that it replaced are back, and the lines that it wrote are nowhere in the tree. To undo work on purpose,
say so in the message of that commit, or of a later one:

    Undoes: 1a2b3c4

Git's own "This reverts commit ..." counts too. Code that moved, or that was changed further, is not reported.
"""

from __future__ import annotations

import io
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

COMMITS = 200  # the number of newest commits that are checked
SECONDS = 20  # timeout of each git command
ENOUGH_LINES = 3  # one or two restored lines prove little, unless they are the whole commit
FOLDER = Path(__file__).resolve().parent.parent

# Generated files change with their source, so they are not checked.
_TEXT = ("--", ".", *(f":(exclude)*.{end}" for end in ("json", "lock", "png", "svg", "txt")))
_CONTEXT = 3  # lines around a change; fewer at the beginning and end of a file
# git's default format, whatever the user's configuration is.
_PATCH = (
    *("--patch", f"--unified={_CONTEXT}", "--inter-hunk-context=0", "--src-prefix=a/", "--dst-prefix=b/"),
    *("--no-renames", "--no-ext-diff", "--no-textconv", "--no-color"),
)
_HEAD = re.compile(r"\x00(?=[0-9a-f]{40,64}\x01)")
_SAID = re.compile(r"^(?:Undoes: *|This reverts commit )([0-9a-f]{7,40})\b", re.MULTILINE | re.IGNORECASE)
_PLACE = re.compile(r"@@ -\d+(?:,(\d+))? \+\d+(?:,(\d+))? @@")


class CannotLookError(Exception):
    """There is no history to check. The text says why."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """One hunk of a commit, without line ends.

    :ivar before: the lines before the change, with its context; empty for a new file
    :ivar is_at_start: whether these lines begin the file
    :ivar is_at_end: whether these lines end the file
    """

    path: str
    before: tuple[str, ...]
    added: tuple[str, ...]
    removed: tuple[str, ...]
    is_at_start: bool
    is_at_end: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Commit:
    """One commit. `origin` stays the same when it is applied again elsewhere."""

    name: str
    origin: str
    subject: str
    parts: tuple[Part, ...]

    @property
    def title(self) -> str:
        """The short name for people."""
        return f"{self.name[:7]} ({self.subject[:70]})"


@dataclass(frozen=True, kw_only=True, slots=True)
class Undone:
    """A commit that was undone, or a part of it.

    :ivar by: the commits that undid it; none if a merge did
    """

    commit: Commit
    by: tuple[Commit, ...]
    lines: int
    path: str
    example: str

    def __str__(self) -> str:
        by = ", ".join(commit.title for commit in self.by) or "a merge"
        return (
            f"{self.commit.title}: {self.lines} lines are as they were before, undone by {by}."
            f" In {self.path}: {self.example.strip()[:80]}"
        )


def find_undone(folder: Path, head: str = "HEAD") -> list[Undone]:
    """Return the commits up to `head` that were undone by accident, the newest first.

    :raises CannotLookError: if git or a history is missing
    """
    if _git(folder, "rev-parse", "--is-shallow-repository").strip() != b"false":
        raise CannotLookError("this is a shallow clone: `git fetch --unshallow` brings its history")
    commits = _read_commits(folder, head)
    files = _read_files(folder, head)
    # Lines that are somewhere now, or were written again later. They moved; the later commit is checked.
    written = {line.strip() for text in files.values() for line in text.splitlines()}
    said = _SAID.findall(_git(folder, "log", "--format=%B", head).decode(errors="replace"))
    found = []
    for index, commit in enumerate(commits):
        if not any(commit.name.startswith(name.lower()) for name in said):
            found.append(_look_at(commit, commits[:index], commits[index + 1 :], files, written))
        written.update(line.strip() for part in commit.parts for line in part.added)
    return [undone for undone in found if undone is not None]


def _look_at(
    commit: Commit,
    later: Sequence[Commit],
    earlier: Sequence[Commit],
    files: Mapping[str, str],
    written: set[str],
) -> Undone | None:
    """Return what is gone of a commit; None if nothing is gone, or too little to be sure."""
    gone: list[tuple[Part, list[str]]] = []
    by: dict[str, Commit] = {}
    origins = {each.origin for each in earlier}
    for part in commit.parts:
        lines = _gone(part, files, written) if part.before else _gone_with_file(part, later, files, written)
        undoers = [each for each in later if lines and _takes_away(each, part, lines)]
        # If an earlier commit was applied again, it restores what this one undid. That is no accident.
        if lines and not any(each.origin in origins for each in undoers):
            gone.append((part, lines))
            by |= {each.name: each for each in undoers}
    count = sum(len(lines) for _, lines in gone)
    whole = sum(len(_telling(part.added)) + len(_telling(part.removed)) for part in commit.parts)
    if count == 0 or count < min(ENOUGH_LINES, whole):
        return None
    part, lines = max(gone, key=lambda each: len(each[1]))
    return Undone(commit=commit, by=tuple(by.values()), lines=count, path=part.path, example=lines[0])


def _gone(part: Part, files: Mapping[str, str], written: set[str]) -> list[str]:
    """Return the lines that the part wrote and that are gone, and those it removed that are back."""
    if not _is_back(part, files.get(part.path, "")):
        return []
    added = _telling(part.added)
    missing = [line for line in added if line.strip() not in written]
    return [] if added and not missing else missing + _telling(part.removed)


def _gone_with_file(
    part: Part, later: Sequence[Commit], files: Mapping[str, str], written: set[str]
) -> list[str]:
    """Return the lines of a new file that was removed again; none if it was rewritten or moved."""
    if part.path in files:
        return []
    changes = [each for commit in later for each in commit.parts if each.path == part.path]
    rewritten = {
        line for each in changes if each.before != each.removed or each.added for line in each.removed
    }
    added = _telling(part.added)
    missing = [line for line in added if line.strip() not in written and line not in rewritten]
    return missing if 2 * len(missing) > len(added) else []


def _is_back(part: Part, text: str) -> bool:
    """Return whether a file has the lines from before the part, in order and at the same place."""
    block = "\n".join(["", *part.before, ""])
    text = "\n" + text.removesuffix("\n") + "\n"
    if part.is_at_start and not text.startswith(block):
        return False
    return text.endswith(block) if part.is_at_end else block in text


def _takes_away(commit: Commit, part: Part, lines: Sequence[str]) -> bool:
    mine = [each for each in commit.parts if each.path == part.path]
    removed = {line for each in mine for line in each.removed}
    added = {line for each in mine for line in each.added}
    return any(
        (line in removed and line in part.added) or (line in added and line in part.removed) for line in lines
    )


def _telling(lines: Sequence[str]) -> list[str]:
    """Return the lines that contain more than blanks and brackets."""
    return [line for line in lines if sum(map(str.isalnum, line)) >= 4]


def _read_commits(folder: Path, head: str) -> list[Commit]:
    """Return the newest commits, the newest first. Changes made by a merge itself are not included."""
    shape = "--format=%x00%H%x01%at %an %s%x01%s%x01"
    command = ("log", f"-{COMMITS}", shape, "--full-history", "--no-merges", *_PATCH, head, *_TEXT)
    _, *texts = _HEAD.split(_git(folder, *command).decode(errors="replace"))
    commits = []
    for text in texts:
        name, origin, subject, patch = text.split("\1", 3)
        parts = tuple(_read_parts(patch.split("\n")))
        commits.append(Commit(name=name, origin=origin, subject=subject, parts=parts))
    return commits


def _read_parts(patch: Sequence[str]) -> Iterator[Part]:
    """Yield the hunks of a patch. The length in a hunk's head says where the hunk ends."""
    path, index = "", 0
    while index < len(patch):
        line = patch[index]
        index += 1
        if line.startswith(("--- a/", "+++ b/")):
            path = line[6:].rstrip("\t")
        if (place := _PLACE.match(line)) is None:
            continue
        old, new = (int(count) if count is not None else 1 for count in place.groups())
        signs = ""
        lines: list[str] = []
        while old or new:
            sign, text = patch[index][:1], patch[index][1:]
            index += 1
            if sign != "\\":  # "\ No newline at end of file"
                old -= sign != "+"
                new -= sign != "-"
                signs += sign
                lines.append(text)
        yield Part(
            path=path,
            before=tuple(line for line, sign in zip(lines, signs, strict=True) if sign != "+"),
            added=tuple(line for line, sign in zip(lines, signs, strict=True) if sign == "+"),
            removed=tuple(line for line, sign in zip(lines, signs, strict=True) if sign == "-"),
            is_at_start=not signs.startswith(" " * _CONTEXT),
            is_at_end=not signs.endswith(" " * _CONTEXT),
        )


def _read_files(folder: Path, head: str) -> dict[str, str]:
    """Return the text of every file of a commit, by its path."""
    archive = tarfile.open(fileobj=io.BytesIO(_git(folder, "archive", "--format=tar", head, *_TEXT)))  # noqa: SIM115
    with archive:
        return {
            member.name: file.read().decode(errors="replace")
            for member in archive
            if (file := archive.extractfile(member) if member.isfile() else None) is not None
        }


def _git(folder: Path, *words: str) -> bytes:
    """Return what git prints.

    :raises CannotLookError: if it fails or takes too long
    """
    command = ["git", "-C", str(folder), "-c", "core.quotePath=false", *words]
    try:
        return subprocess.run(command, capture_output=True, check=True, timeout=SECONDS).stdout
    except subprocess.CalledProcessError as error:
        reason = error.stderr.decode(errors="replace").strip().partition("\n")[0]
        raise CannotLookError(f"git says: {reason}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CannotLookError(str(error)) from error


def main(head: str = "HEAD") -> int:
    """Print what was undone. The exit status is 1 if anything was undone."""
    try:
        found = find_undone(FOLDER, head)
    except CannotLookError as error:
        print(f"    cannot look for undone commits: {error}")
        return 0
    for undone in found:
        print(undone)
    if found:
        print(
            "\nRestore what was undone by accident. If you undid it on purpose, add `Undoes: HASH` at the end"
            " of a commit's message, one line for each (CONTRIBUTING.md)."
        )
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
