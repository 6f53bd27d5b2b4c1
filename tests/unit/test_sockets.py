"""The addresses that the server listens on."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from exporter.web.sockets import bind, describe
from tests.support.descriptors import count_descriptors


@contextlib.contextmanager
def listening(address: str) -> Iterator[socket.socket]:
    with bind(address) as bound:
        bound.listen()
        yield bound


def is_answered(family: socket.AddressFamily, host: str, port: int) -> bool:
    """Whether somebody listens there."""
    with socket.socket(family, socket.SOCK_STREAM) as client:
        return client.connect_ex((host, port)) == 0


IN_USE = "Address already in use"
needs_ipv6 = pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")


def test_an_address_of_ipv4_is_listened_on_and_described() -> None:
    with listening("127.0.0.1:0") as bound:
        host, port = bound.getsockname()
        assert describe(bound) == f"127.0.0.1:{port}"
        assert (host, bound.family, bound.getblocking()) == ("127.0.0.1", socket.AF_INET, False)
        assert is_answered(socket.AF_INET, "127.0.0.1", port)


@needs_ipv6
def test_an_address_of_ipv6_is_for_ipv6_alone() -> None:
    with listening("[::]:0") as bound:
        port = bound.getsockname()[1]
        assert describe(bound) == f"[::]:{port}"
        assert is_answered(socket.AF_INET6, "::1", port)
        assert not is_answered(socket.AF_INET, "127.0.0.1", port)


@needs_ipv6
def test_a_port_alone_is_for_both() -> None:
    with listening(":0") as bound:
        port = bound.getsockname()[1]
        assert is_answered(socket.AF_INET6, "::1", port)
        assert is_answered(socket.AF_INET, "127.0.0.1", port)


def test_a_name_of_the_machine_is_an_address() -> None:
    with listening("localhost:0") as bound:
        assert bound.getsockname()[1] > 0


def test_an_address_in_use_is_refused() -> None:
    with listening("127.0.0.1:0") as bound, pytest.raises(OSError, match=IN_USE):
        bind(describe(bound))


def test_a_port_that_was_just_given_up_can_be_had_again() -> None:
    """A connection of the last process may still be closing: a restart waits for nobody."""
    with listening("127.0.0.1:0") as bound:
        address = describe(bound)
        with socket.create_connection(bound.getsockname()), bound.accept()[0] as accepted:
            accepted.shutdown(socket.SHUT_RDWR)
    with listening(address) as again:
        assert describe(again) == address


def test_a_path_is_for_the_user_and_the_group_whatever_the_umask(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    before = os.umask(0o177)
    try:
        with listening(f"unix:{path}") as bound:
            assert stat.S_IMODE(path.stat().st_mode) == 0o660
            assert describe(bound) == f"unix:{path}"
            assert not bound.getblocking()
    finally:
        os.umask(before)


def test_a_socket_that_was_left_over_is_replaced(tmp_path: Path) -> None:
    address = f"unix:{tmp_path}/socket"
    bind(address).close()
    with listening(address), socket.socket(socket.AF_UNIX) as client:
        client.connect(f"{tmp_path}/socket")


@pytest.mark.parametrize("waiting", [0, 3], ids=["ready", "with a full queue"])
def test_a_socket_that_somebody_listens_on_stays(tmp_path: Path, waiting: int) -> None:
    address = f"unix:{tmp_path}/socket"
    with bind(address) as bound, contextlib.ExitStack() as clients:
        bound.listen(0)
        for _ in range(waiting):
            client = clients.enter_context(socket.socket(socket.AF_UNIX))
            client.setblocking(False)
            client.connect_ex(f"{tmp_path}/socket")
        with pytest.raises(OSError, match=IN_USE):
            bind(address)
        assert (tmp_path / "socket").is_socket()


def test_what_is_no_socket_stays(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("kept")
    with pytest.raises(OSError, match=IN_USE):
        bind(f"unix:{file}")
    assert file.read_text() == "kept"


def test_nothing_is_left_open_where_binding_fails(tmp_path: Path) -> None:
    before = count_descriptors()
    for address in (f"unix:{tmp_path}/gone/socket", "192.0.2.1:0"):
        with pytest.raises(OSError, match=r"No such file|Cannot assign"):
            bind(address)
    assert count_descriptors() == before
