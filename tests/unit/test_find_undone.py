"""Work that a commit on an older tree undid is found; whatever else happens to code is not."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from scripts.find_undone import FOLDER, CannotLookError, find_undone

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")

OLD = """def count_cells(host):
    return len(host.cells)


def describe(host):
    return f"host {host.name} has {count_cells(host)} cells"
"""
NEW = """def count_cells(host):
    # A cell that holds memory alone takes no guest.
    fitting = [cell for cell in host.cells if cell.cpus]
    offline = [cell for cell in fitting if not cell.is_online]
    return len(fitting) - len(offline)


def describe(host):
    return f"host {host.name} has {count_cells(host)} cells"
"""


class Repository:
    """A history of files in a folder; `commit` returns the short hash."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.git("init", "--quiet", "--initial-branch=main")

    def git(self, *words: str) -> str:
        settings = (
            "-c",
            "user.name=nobody",
            "-c",
            "user.email=nobody@example.org",
            "-c",
            "commit.gpgsign=false",
        )
        command = ["git", "-C", str(self.folder), *settings, *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def commit(self, message: str, **files: str | None) -> str:
        """Write these files, of which None is removed; a name's `__` stands for a dot."""
        for name, text in files.items():
            path = self.folder / name.replace("__", ".")
            if text is None:
                path.unlink()
            else:
                path.write_text(text)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", f"--message={message}")
        return self.git("rev-parse", "--short=7", "HEAD").strip()

    def undone(self) -> list[str]:
        return [undone.commit.name[:7] for undone in find_undone(self.folder)]


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    repository = Repository(tmp_path)
    repository.commit("Begin", cells__py=OLD, other__py="def other():\n    return 'something else'\n")
    return repository


def test_what_a_commit_on_an_older_tree_undid_is_found(repository: Repository) -> None:
    """It brings work of its own, and the old text of the file that it should have left alone."""
    work = repository.commit(
        "Count fitting cells", cells__py=NEW, test_cells__py="def test():\n    assert fitting_of(1)\n"
    )
    repository.commit(
        "Something else",
        cells__py=OLD,
        test_cells__py=None,
        other__py="def other():\n    return 'quite another'\n",
    )
    (undone,) = find_undone(repository.folder)
    assert undone.commit.name.startswith(work)
    assert [commit.subject for commit in undone.by] == ["Something else"]
    assert "cells.py: " in str(undone)


def test_a_new_file_that_vanished_is_found(repository: Repository) -> None:
    work = repository.commit("Describe cells", describe__py=NEW)
    repository.commit("Something else", describe__py=None)
    assert repository.undone() == [work]


def test_lines_that_came_back_are_found(repository: Repository) -> None:
    """A commit that only removes is work, too."""
    rest = OLD.partition("\n\n\n")[0] + "\n"
    repository.commit("Say what this is", cells__py="# Cells of a host.\n" + NEW)
    work = repository.commit("Nobody describes hosts", cells__py="# Cells of a host.\n" + rest)
    repository.commit("Something else", cells__py="# Cells of a host.\n" + NEW)
    assert repository.undone() == [work]


def test_a_whole_commit_of_one_line_is_found(repository: Repository) -> None:
    work = repository.commit("Mend it", other__py="def other():\n    return 'something better'\n")
    repository.commit(
        "Something else", other__py="def other():\n    return 'something else'\n", cells__py=NEW
    )
    assert repository.undone() == [work]


def test_code_that_moved_is_not_undone(repository: Repository) -> None:
    """Neither in a file that has another name nor in another file; nor when it is rewritten there later."""
    repository.commit("Count fitting cells", cells__py=NEW)
    repository.commit(
        "Describe them", describe__py="def describe_all(hosts):\n    return map(describe, hosts)\n"
    )
    repository.commit("Sort", cells__py=OLD, counting__py=NEW)
    repository.commit(
        "Sort more",
        describe__py=None,
        description__py="def describe_all(hosts):\n    return map(describe, hosts)\n",
    )
    assert repository.undone() == []
    repository.commit("Describe better", description__py="def describe_each(host):\n    return host.words\n")
    assert repository.undone() == []


def test_what_a_trailer_says_is_not_found(repository: Repository) -> None:
    """The commit that undoes it says so; or a later one, for what is there already cannot be changed."""
    first = repository.commit("Count fitting cells", cells__py=NEW)
    repository.commit(f"All cells fit after all\n\nUndoes: {first}", cells__py=OLD)
    assert repository.undone() == []
    second = repository.commit("Mend it", other__py="def other():\n    return 'something better'\n")
    repository.commit("It was right", other__py="def other():\n    return 'something else'\n")
    assert repository.undone() == [second]
    repository.commit(f"Say that it was right\n\nUndoes: {second}")
    assert repository.undone() == []


def test_gits_own_revert_says_what_it_undoes(repository: Repository) -> None:
    repository.commit("Count fitting cells", cells__py=NEW)
    repository.git("revert", "--no-edit", "HEAD")
    assert repository.undone() == []


def test_what_later_work_rewrote_is_not_undone(repository: Repository) -> None:
    """Nor is a file that was rewritten first and removed then."""
    repository.commit("Count fitting cells", cells__py=NEW, describe__py=NEW.replace("cells", "hosts"))
    repository.commit("Count better", cells__py=OLD.replace("len(host.cells)", "sum(map(fits, host.cells))"))
    repository.commit(
        "Describe better", describe__py="def describe_hosts(hosts):\n    return ', '.join(hosts)\n"
    )
    repository.commit("Describe elsewhere", describe__py=None)
    assert repository.undone() == []


def test_what_was_added_at_the_end_and_rewritten_is_not_undone(repository: Repository) -> None:
    """Before it stands what stood there before, but it ends the file no more."""
    more = "\n\ndef describe_all(hosts):\n    words = map(describe, hosts)\n    return ', '.join(words)\n"
    work = repository.commit("Describe all", cells__py=OLD + more)
    repository.commit("Describe the fitting", cells__py=OLD + "\n\ndef describe_fitting():\n    return ''\n")
    assert repository.undone() == []
    repository.commit("Something else", cells__py=OLD)
    assert work in repository.undone()


def test_what_was_put_back_is_not_found_nor_who_undid_it(repository: Repository) -> None:
    work = repository.commit("Count fitting cells", cells__py=NEW)
    repository.commit("Something else", cells__py=OLD, other__py="def other():\n    return 'quite another'\n")
    repository.git("cherry-pick", work)
    assert repository.undone() == []


def test_in_a_shallow_clone_it_says_that_it_cannot_look(repository: Repository, tmp_path: Path) -> None:
    repository.commit("Count fitting cells", cells__py=NEW)
    repository.commit("Something else", cells__py=OLD)
    clone = tmp_path / "clone"
    repository.git("clone", "--quiet", "--depth=1", repository.folder.as_uri(), str(clone))
    with pytest.raises(CannotLookError, match="shallow clone"):
        find_undone(clone)


def test_where_there_is_no_history_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(CannotLookError, match="not a git repository"):
        find_undone(tmp_path)


def test_the_projects_own_history() -> None:
    """Of its three commits that once were undone, each is found there; and nothing is undone today."""
    try:
        then, now = find_undone(FOLDER, "6168071"), find_undone(FOLDER)
    except CannotLookError as error:
        pytest.skip(str(error))
    assert {undone.commit.name[:7] for undone in then} == {"026304c", "c169631", "8810b1a"}
    assert [str(undone) for undone in now] == []
