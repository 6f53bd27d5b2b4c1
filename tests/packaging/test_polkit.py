"""libvirtd that asks polkit who may read: with libvirt's own policy, and the rule of docs/deployment.md."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.exporter_process import scrape_once
from tests.support.libvirtd import LibvirtDaemon
from tests.support.waiting import wait_until

POLKITD = Path("/usr/lib/polkit-1/polkitd")
RULES = Path("/etc/polkit-1/rules.d")
GUIDE = (Path(__file__).resolve().parents[2] / "docs/deployment.md").read_text()
(RULE,) = re.findall(r"```javascript\n(.*?)```", GUIDE, re.DOTALL)
DENY_ALL = """polkit.addRule(function (action, subject) {
  if (action.id == "org.libvirt.unix.monitor") { return polkit.Result.NO; }
});
"""
# The actions that docs/deployment.md names for CPUs, memory and guests.
ALLOW_SOME = """polkit.addRule(function (action, subject) {
  var allowed = ["connect.getattr", "connect.read", "connect.search-domains",
    "domain.getattr", "domain.read"];
  if (action.id.indexOf("org.libvirt.api.") != 0) { return; }
  return allowed.indexOf(action.id.slice(16)) >= 0 ? polkit.Result.YES : polkit.Result.NO;
});
"""
_BUS = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
  "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>system</type><listen>unix:path={bus}</listen><policy context="default">
  <allow user="*"/><allow own="*"/><allow send_destination="*"/><allow receive_sender="*"/>
  </policy></busconfig>
"""
# Only polkitd sees the rules.
_START = f"""mount -t tmpfs -o mode=755 tmpfs {RULES}; cp "$1" {RULES}/60-test.rules; chmod 644 {RULES}/*
exec {POLKITD} --no-debug"""

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can start polkitd and mount"),
    pytest.mark.skipif(not POLKITD.exists(), reason=f"{POLKITD} (polkitd) is missing"),
    pytest.mark.skipif(not RULES.is_dir(), reason=f"{RULES} (polkitd) is missing"),
    pytest.mark.skipif(shutil.which("dbus-daemon") is None, reason="dbus-daemon is missing"),
]


@contextlib.contextmanager
def polkit(rules: str) -> Iterator[str]:
    """Run polkitd with these rules on a bus of its own, and yield the bus' address."""
    with tempfile.TemporaryDirectory(prefix="hx-polkit-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # polkitd has a user of its own
        yield from _run(folder, rules)


def _run(folder: Path, rules: str) -> Iterator[str]:
    (folder / "rules").write_text(rules)
    (folder / "bus.conf").write_text(_BUS.format(bus=folder / "bus"))
    address = f"unix:path={folder / 'bus'}"
    environment = {**os.environ, "DBUS_SYSTEM_BUS_ADDRESS": address}
    quiet = {"stderr": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
    bus = ["dbus-daemon", f"--config-file={folder / 'bus.conf'}", "--nofork"]
    with contextlib.ExitStack() as stack:
        stack.callback(_end, subprocess.Popen(bus, **quiet))
        wait_until((folder / "bus").exists, "the bus")
        command = ["unshare", "--mount", "--propagation=private", "sh", "-ec", _START, "sh"]
        started = subprocess.Popen([*command, str(folder / "rules")], env=environment, **quiet)
        stack.callback(_end, started)
        asked = ["dbus-send", "--system", "--print-reply", "--dest=org.freedesktop.DBus", "/"]
        owner = [*asked, "org.freedesktop.DBus.GetNameOwner", "string:org.freedesktop.PolicyKit1"]
        wait_until(
            lambda: subprocess.run(owner, env=environment, check=False, **quiet).returncode == 0, "polkitd"
        )
        yield address


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait(timeout=20)


@pytest.mark.parametrize(
    ("rules", "is_allowed"),
    [("", True), (DENY_ALL, False), (RULE + DENY_ALL, True)],
    ids=["libvirt's own policy", "closed", "closed, with the rule of the guide"],
)
def test_polkit_decides_over_the_read_only_socket(rules: str, *, is_allowed: bool) -> None:
    with (
        polkit(rules) as address,
        LibvirtDaemon(auth_unix_ro="polkit", environment={"DBUS_SYSTEM_BUS_ADDRESS": address}) as libvirtd,
    ):
        hypervisor = {"uri": libvirtd.uri_read_only, "instances_path": str(libvirtd.images)}
        scrape = scrape_once([hypervisor], as_nobody=True)
    assert (scrape.exit_status == 0) is is_allowed, scrape.log
    assert is_allowed or "access denied by policy" in scrape.log


def test_an_action_that_is_not_allowed_costs_its_own_numbers() -> None:
    """With access_drivers, each call is an action of its own."""
    settings = 'listen_tls = 0\naccess_drivers = ["polkit"]\n'
    with (
        polkit(ALLOW_SOME) as address,
        LibvirtDaemon(
            settings=settings, auth_unix_ro="polkit", environment={"DBUS_SYSTEM_BUS_ADDRESS": address}
        ) as libvirtd,
    ):
        hypervisor = {"uri": libvirtd.uri_read_only, "instances_path": str(libvirtd.images)}
        scrape = scrape_once([hypervisor], as_nobody=True)
    assert scrape.exit_status == 0, scrape.log
    assert scrape.value("hypervisor_running_vms") == 0
    assert "virtnodedevd denies it" in scrape.log
