"""The units by systemd's own judgement. systemd does not run here: they are verified, not started."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
SERVICE = DEPLOY / "hypervisor-exporter.service"
MAX_EXPOSURE = 1.5
# The processes of others are seen.
MAX_EXPOSURE_FOR_GUESTS = 1.7


@pytest.fixture(params=[(), ("ssh",), ("guests",)], ids=["as delivered", "for ssh", "for guests"])
def unit(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The unit with a command that is there, beside its socket unit; alone and with each drop-in."""
    command = str(Path(sys.executable).with_name("hypervisor-exporter"))
    unit = tmp_path / SERVICE.name
    unit.write_text(SERVICE.read_text().replace("/usr/bin/hypervisor-exporter", command))
    shutil.copy(DEPLOY / "hypervisor-exporter.socket", tmp_path)
    for name in request.param:
        drop_ins = tmp_path / f"{SERVICE.name}.d"
        drop_ins.mkdir()
        shutil.copy(DEPLOY / name / "unit.conf", drop_ins / f"{name}.conf")
    return unit


def test_systemd_finds_no_mistake_in_the_units(unit: Path) -> None:
    """`systemd-analyze verify` of service and socket says nothing of them."""
    command = ["systemd-analyze", "verify", "--man=no", unit, unit.with_suffix(".socket")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    said = [line for line in result.stderr.splitlines() if "hypervisor-exporter" in line]
    assert (result.returncode, said) == (0, [])


def test_the_service_is_as_little_exposed_as_promised(unit: Path) -> None:
    """`systemd-analyze security` scores it; docs/deployment.md says what the rest is for."""
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", unit]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    score = re.search(r"Overall exposure level for .*: ([0-9.]+)", result.stdout)
    assert score is not None
    is_for_guests = Path(f"{unit}.d/guests.conf").exists()
    assert float(score[1]) <= (MAX_EXPOSURE_FOR_GUESTS if is_for_guests else MAX_EXPOSURE)


def test_sysusers_and_tmpfiles_are_understood(tmp_path: Path) -> None:
    """systemd's own tools take both files, on an empty root."""
    for directory in ("etc", "run"):
        (tmp_path / directory).mkdir()
    root = f"--root={tmp_path}"
    subprocess.run(["systemd-sysusers", root, DEPLOY / "hypervisor-exporter.sysusers"], check=True)
    passwd = (tmp_path / "etc/passwd").read_text()
    assert re.search(r"^hypervisor-exporter:x:\d+:\d+:.*:/usr/sbin/nologin$", passwd, re.MULTILINE)
    tmpfiles = ["systemd-tmpfiles", root, "--create", DEPLOY / "hypervisor-exporter.tmpfiles"]
    subprocess.run(tmpfiles, check=True)
    assert (tmp_path / "run/hypervisor-exporter").stat().st_mode & 0o777 == 0o750
