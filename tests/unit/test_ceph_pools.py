"""One `ceph` for all hypervisors that ask the same, as long as one of them asks."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from exporter.recorder import Recorder
from exporter.virt.storage.ceph_pools import CephAccess, CephPools
from tests.support.hosts import Clock
from tests.support.programs import CEPH_DF, find_marked, write_program
from tests.support.waiting import wait_until

FSID = "3f6a52bc-1c2c-4b5e-9d5c-3f6b2ad1a111"
ACCESS = CephAccess(pool="vms", user=None, ceph_conf=None)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a `ceph` that takes down what it is asked."""
    write_program(
        tmp_path,
        "ceph",
        f"""echo "$*" >> {tmp_path}/asked
[ "$1" = fsid ] && echo {FSID} && exit
while [ -e {tmp_path}/hangs ]; do sleep 0.02; done
cat <<END
{CEPH_DF}
END""",
    )
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def count(programs: Path) -> int:
    return (programs / "asked").read_text().count("df")


def borrow(pools: CephPools, access: CephAccess = ACCESS) -> object:
    return pools.borrow(access, Recorder(clock=Clock()))


def test_hypervisors_that_ask_the_same_run_one_command(programs: Path) -> None:
    """Also if all of them ask at once, and for the first time: each waits for the one answer."""
    pools = CephPools(clock=Clock())
    readers = [pools.borrow(ACCESS, Recorder(clock=Clock())) for _ in range(5)]
    owners: list[str | None] = []
    threads = [threading.Thread(target=lambda each=each: owners.append(each.get().owner)) for each in readers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert owners == [FSID] * 5
    assert count(programs) == 1


def test_another_pool_client_or_configuration_is_asked_for_itself(programs: Path) -> None:
    pools = CephPools(clock=Clock())
    others = [
        ACCESS,
        CephAccess(pool="device_health_metrics", user=None, ceph_conf=None),
        CephAccess(pool="vms", user="nova", ceph_conf=None),
        CephAccess(pool="vms", user=None, ceph_conf="/etc/ceph/b.conf"),
    ]
    assert len({id(borrow(pools, access)) for access in others}) == 4


def test_who_gives_it_back_takes_it_from_nobody_else_and_the_last_one_ends_it(
    programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HX_CEPH_TEST", str(programs))
    pools = CephPools(clock=Clock())
    first = pools.borrow(ACCESS, Recorder(clock=Clock()))
    second = pools.borrow(ACCESS, Recorder(clock=Clock()))
    assert first is second
    first.get()
    pools.give_back(ACCESS)
    second.read()
    assert count(programs) == 2
    (programs / "hangs").touch()
    reading = threading.Thread(target=second.read)
    reading.start()
    wait_until(lambda: find_marked("HX_CEPH_TEST", str(programs)), "the command to run")
    pools.give_back(ACCESS)
    reading.join(timeout=10)
    assert find_marked("HX_CEPH_TEST", str(programs)) == []
    assert borrow(pools) is not second
