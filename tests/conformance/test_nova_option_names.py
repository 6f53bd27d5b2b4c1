"""Every option that the installed Nova has is on docs/nova-options.md: whoever adds one has to look at it."""

from __future__ import annotations

import re
from pathlib import Path

from tests.support.nova_programs import ask_program

PAGE = Path(__file__).parents[2] / "docs" / "nova-options.md"
# Prints the names of Nova's own options by group.
NOVA = """
import json
from nova.conf import opts

found = {}
for group, options in opts.list_opts():
    name = getattr(group, "name", group) or "DEFAULT"
    found.setdefault(name, []).extend(option.name for option in options)
print(json.dumps(found))
"""
GROUPS = ("DEFAULT", "compute", "libvirt", "devices", "pci", "workarounds", "spice", "image_cache")


def read_page() -> dict[str, set[str]]:
    """Return the names on the page by group: those of the table, and those that move no number."""
    table, _, others = PAGE.read_text().partition("## Options that move no number")
    found: dict[str, set[str]] = {}
    for group, name in re.findall(r"^\| `\[(\w+)\] (\w+)`", table, re.MULTILINE):
        found.setdefault(group, set()).add(name)
    for group, names in re.findall(r"^`\[(\w+)\]`: (.*?)\.$", others, re.MULTILINE | re.DOTALL):
        found.setdefault(group, set()).update(re.findall(r"`(\w+)`", names))
    return found


def test_every_option_of_the_installed_nova_was_looked_at() -> None:
    """If it fails with a new Nova: see whether the option moves a number, then add it to the page."""
    installed, page = ask_program(NOVA), read_page()
    assert set(GROUPS) <= installed.keys()
    unseen = {group: sorted(set(installed[group]) - page[group]) for group in GROUPS}
    assert {group: names for group, names in unseen.items() if names} == {}
