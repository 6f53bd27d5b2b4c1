"""What deploy/ holds names only what is there; no container engine and no cluster runs here to start it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from exporter import __version__

CHECKOUT = Path(__file__).resolve().parents[2]
DEPLOY = CHECKOUT / "deploy"


def read(name: str) -> list[Any]:
    return list(yaml.safe_load_all((DEPLOY / name).read_text()))


def test_the_compose_files_mounts_are_there() -> None:
    """Every path of the checkout that a service mounts exists, and so does every volume."""
    (compose,) = read("compose/compose.yaml")
    mounts = [mount for service in compose["services"].values() for mount in service.get("volumes", ())]
    sources = {mount.split(":")[0] for mount in mounts if mount.startswith(".")}
    assert sources
    assert [source for source in sources if not (DEPLOY / "compose" / source).exists()] == []
    named = {mount.split(":")[0] for mount in mounts if mount[0].isalpha()}
    assert named == set(compose["volumes"])


def test_the_compose_files_prometheus_is_one_that_promtool_takes(tmp_path: Path) -> None:
    """With the rules where the container has them."""
    config = (DEPLOY / "compose/prometheus.yaml").read_text()
    written = tmp_path / "prometheus.yaml"
    written.write_text(config.replace("/etc/prometheus/rules", str(CHECKOUT / "prometheus/rules")))
    command = ["promtool", "check", "config", written]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_daemon_set_runs_with_next_to_no_rights() -> None:
    """A number for its user, nothing writable, no capability; what it mounts is what it declares."""
    _, daemon_set = read("kubernetes/daemonset.yaml")
    spec = daemon_set["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    security = container["securityContext"]
    assert security["runAsNonRoot"] is True
    assert isinstance(security["runAsUser"], int)
    assert security["readOnlyRootFilesystem"] is True
    assert security["capabilities"] == {"drop": ["ALL"]}
    mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
    assert set(mounts) == {volume["name"] for volume in spec["volumes"]}
    assert all(mount["readOnly"] for mount in mounts.values())
    assert container["image"].endswith(f":{__version__}")


@pytest.mark.parametrize("name", ["kubernetes/daemonset.yaml", "config.yaml"])
def test_the_configuration_in_it_has_no_mistake(name: str, tmp_path: Path) -> None:
    """The exporter itself says so."""
    document = read(name)[0]
    text = document["data"]["config.yaml"] if "data" in document else yaml.safe_dump(document)
    config = tmp_path / "config.yaml"
    config.write_text(text)
    command = [sys.executable, "-m", "exporter", "--config.check", "--config.file", config]
    result = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr


def test_the_playbook_installs_the_package_that_is_built() -> None:
    """Its version is the exporter's, and each task uses a module of Ansible's own."""
    (play,) = read("ansible/playbook.yaml")[0]
    assert re.search(rf"_{re.escape(__version__)}-1_all\.deb$", play["vars"]["package"])
    for task in play["tasks"]:
        assert [key for key in task if key.startswith("ansible.builtin.")]


def test_the_playbook_changes_nothing_of_the_service_after_it_has_looked_what_to_take_up() -> None:
    """User and groups come before the package, which starts the service. What restarts or reloads it is last.

    tests/packaging/test_ansible.py runs it.
    """
    (play,) = read("ansible/playbook.yaml")[0]
    kinds = [next(key for key in task if "." in key).rpartition(".")[2] for task in play["tasks"]]
    looks = next(place for place, task in enumerate(play["tasks"]) if task.get("register") == "present")
    assert (
        kinds.index("user") < kinds.index("apt") < kinds.index("lineinfile") < kinds.index("systemd") < looks
    )
    assert kinds[looks + 1 :] == ["command", "systemd", "systemd", "copy"]
    restart, reload = play["tasks"][looks + 2 : looks + 4]
    assert (restart["ansible.builtin.systemd"]["state"], reload["ansible.builtin.systemd"]["state"]) == (
        "restarted",
        "reloaded",
    )
    assert play.get("handlers") is None
