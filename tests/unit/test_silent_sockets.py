"""Which sockets are judged to be silent, with real ones on the loopback."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from exporter.virt.silent_sockets import SilentSocket, list_sockets, shut_down
from tests.support.waiting import wait_until


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


@pytest.fixture
def client(listener: socket.socket) -> Iterator[socket.socket]:
    with socket.create_connection(listener.getsockname()) as client:
        client.settimeout(20)
        yield client


def find(wanted: socket.socket) -> SilentSocket | None:
    return next((each for each in list_sockets() if each.descriptor == wanted.fileno()), None)


def has_been_silent_for(wanted: socket.socket, seconds: float) -> bool:
    found = find(wanted)
    return found is not None and found.silent_seconds >= seconds


def test_a_connection_on_which_nothing_arrives_is_silent_since_it_was_made(client: socket.socket) -> None:
    wait_until(lambda: has_been_silent_for(client, 0.2), "silence")
    found = find(client)
    assert found is not None
    assert (found.inode, found.has_received) == (os.fstat(client.fileno()).st_ino, False)


def test_what_arrives_ends_the_silence(client: socket.socket, listener: socket.socket) -> None:
    accepted, _address = listener.accept()
    with accepted:
        wait_until(lambda: has_been_silent_for(client, 1), "silence")
        accepted.sendall(b"answer")
        client.recv(6)
        found = find(client)
        assert found is not None
        assert found.has_received
        assert found.silent_seconds < 1


def test_clients_of_a_port_that_is_listened_on_are_left_alone(
    client: socket.socket, listener: socket.socket
) -> None:
    accepted, _address = listener.accept()
    with accepted:
        assert find(client) is not None
        assert find(accepted) is None, "a connection that somebody made to us"
        assert find(listener) is None


def test_sockets_that_are_not_tcp_are_left_alone() -> None:
    pair = socket.socketpair()
    with pair[0], pair[1], socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        assert all(find(each) is None for each in (*pair, datagrams))


def test_the_longest_silence_comes_first(client: socket.socket, listener: socket.socket) -> None:
    wait_until(lambda: has_been_silent_for(client, 0.2), "silence")
    with socket.create_connection(listener.getsockname()) as younger:
        descriptors = [each.descriptor for each in list_sockets()]
        assert descriptors.index(client.fileno()) < descriptors.index(younger.fileno())


def test_who_reads_from_a_connection_that_is_shut_down_goes_on_at_once(client: socket.socket) -> None:
    found = find(client)
    assert found is not None
    shut_down(found)
    assert client.recv(1) == b""


def test_a_number_that_another_socket_has_meanwhile_is_left_alone(client: socket.socket) -> None:
    found = find(client)
    assert found is not None
    shut_down(SilentSocket(found.descriptor, found.inode + 1, 60.0, has_received=False))
    client.settimeout(0.05)
    with pytest.raises(TimeoutError):
        client.recv(1)


def test_a_connection_that_is_not_answered_at_all_is_silent_too() -> None:
    """A full queue of connections answers no SYN, as a machine that is switched off does."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        with socket.create_connection(full.getsockname()), socket.socket() as late:
            late.setblocking(False)
            late.connect_ex(full.getsockname())
            wait_until(lambda: has_been_silent_for(late, 1), "the second SYN")
            found = find(late)
            assert found is not None
            assert not found.has_received
            shut_down(found)
            late.setblocking(True)
            with pytest.raises(OSError, match=r"."):
                late.recv(1)
