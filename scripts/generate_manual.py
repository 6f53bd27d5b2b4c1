"""Write the man page and the shell completion from the flags' declarations."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from exporter import __version__
from exporter.collectors import COLLECTORS
from exporter.flags import PROGRAM, make_parser

_DEPLOY = Path(__file__).resolve().parent.parent / "deploy"
MANUAL = _DEPLOY / f"{PROGRAM}.1"
COMPLETION = _DEPLOY / f"{PROGRAM}.bash"

_HEAD = """.TH HYPERVISOR-EXPORTER 1 "" "hypervisor-exporter {version}" "User Commands"
.SH NAME
hypervisor-exporter \\- Prometheus exporter of a libvirt hypervisor\'s capacity
.SH SYNOPSIS
.B hypervisor-exporter
.RI [ flags ]
.SH DESCRIPTION
Reports how much CPU, memory and disk a hypervisor has, how much is used and how much can still be placed.
The numbers are those of OpenStack Nova\'s compute service. Prometheus scrapes them at
.IR http://localhost:9177/metrics .
No OpenStack is needed; one read-only libvirt connection is enough. A flag overrides the configuration file.
"""
_TAIL = """.SH EXIT STATUS
0 after a stop by SIGTERM or SIGINT, if the configuration has no mistakes
.RB ( \\-\\-config.check ),
and if every hypervisor answered
.RB ( \\-\\-once );
1 if not, if the exporter cannot listen on an address, or if its output cannot be written;
2 for an unknown flag.
.SH SIGNALS
SIGHUP reads the configuration again. A configuration with a mistake changes nothing.
.SH FILES
.TP
.I /etc/hypervisor-exporter/config.yaml
the configuration that the packages\' service reads
.SH SEE ALSO
.BR virsh (1),
.BR libvirtd (8)
"""

_COMPLETION = """# Completion of hypervisor-exporter's flags for bash. Made by `make docs`; do not edit.

_hypervisor_exporter() {{
    local current=${{COMP_WORDS[COMP_CWORD]}} previous=${{COMP_WORDS[COMP_CWORD - 1]}}
    case $previous in
        {file_flags}) mapfile -t COMPREPLY < <(compgen -f -- "$current") ;;
        {path_flags}) mapfile -t COMPREPLY < <(compgen -d -- "$current") ;;
        --log.level) mapfile -t COMPREPLY < <(compgen -W "debug info warning error" -- "$current") ;;
        --log.format) mapfile -t COMPREPLY < <(compgen -W "logfmt json" -- "$current") ;;
        *) mapfile -t COMPREPLY < <(compgen -W "{flags}" -- "$current") ;;
    esac
}}
complete -F _hypervisor_exporter hypervisor-exporter
"""


def render_manual() -> str:
    """Return the man page."""
    actions = _list_actions()
    groups = groupby(actions, key=lambda action: action.container.title or "")  # type: ignore[attr-defined] # argparse sets it
    options = "".join(f".SS {title}\n{''.join(map(_render_flag, flags))}" for title, flags in groups)
    return f"{_HEAD.format(version=__version__)}.SH OPTIONS\n{options}{_TAIL}"


def render_completion() -> str:
    """Return bash's completion."""
    actions = _list_actions()
    return _COMPLETION.format(
        flags=" ".join(flag for action in actions for flag in action.option_strings),
        file_flags="|".join(action.option_strings[0] for action in actions if action.metavar == "FILE"),
        path_flags="--instances-path",
    )


def _list_actions() -> Sequence[argparse.Action]:
    _, actions = make_parser({each.name: each.is_default for each in COLLECTORS}, __version__)
    return actions


def _render_flag(action: argparse.Action) -> str:
    flags = ", ".join(f"\\fB{_escape(flag)}\\fR" for flag in action.option_strings)
    value = f" \\fI{action.metavar}\\fR" if action.metavar else ""
    return f".TP\n{flags}{value}\n{_escape(action.help or '')}\n"


def _escape(text: str) -> str:
    """Escape text for roff: hyphens are plain hyphens, and no line begins with a request."""
    return text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("%%", "%")


if __name__ == "__main__":
    MANUAL.write_text(render_manual(), encoding="utf-8")
    COMPLETION.write_text(render_completion(), encoding="utf-8")
