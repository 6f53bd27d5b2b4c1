"""A URI tells where its hypervisor is, and is shown without passwords."""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.config.libvirt_uri import (
    LibvirtUri,
    check_parameters,
    hide_user,
    quote,
    redact_in,
    redact_uri,
)


@pytest.mark.parametrize(
    ("uri", "is_local", "is_embedded"),
    [
        ("qemu:///system", True, False),
        ("qemu:///session", True, False),
        ("qemu:///system?socket=/run/libvirt/libvirt-sock-ro", True, False),
        ("qemu:///embed?root=/srv/lab", True, False),
        ("qemu+unix:///system?socket=/run/x", True, False),
        ("QEMU+UNIX:///system", True, False),
        ("lxc:///", True, False),
        ("xen:/system", True, False),
        ("qemu://localhost/system", False, False),
        ("qemu+tcp://127.0.0.1/system", False, False),
        ("qemu+tls://[::1]:16514/system", False, False),
        ("qemu+tls://[fe80::1%eth0]/system", False, False),
        ("qemu+ssh://root@kvm02.example:22/system", False, False),
        ("qemu+ssh:///system", False, False),
        ("qemu+unix://kvm02/system", False, False),
        ("test:///default", False, True),
        ("test:///etc/hypervisor.xml", False, True),
        ("test+tcp://127.0.0.1/default", False, True),
    ],
)
def test_host_and_transport_tell_where_the_hypervisor_is(uri: str, is_local: bool, is_embedded: bool) -> None:
    parsed = LibvirtUri.parse(uri)
    assert (parsed.is_local, parsed.is_embedded) == (is_local, is_embedded)


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "kvm02",
        "//kvm02/system",
        "qemu://[::1/system",
        "qemu+tcp://kvm02:port/system",
        "qemu://kvm 02/system",
        "qemu:///system\n",
        "qemu+ssh://root:se/cret@kvm02/system",
        "qemu+ssh+tls://kvm02/system",
    ],
)
def test_what_is_no_uri_is_refused_without_being_quoted(uri: str) -> None:
    with pytest.raises(ValueError, match=r"^$"):
        LibvirtUri.parse(uri)


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("qemu:///system", "qemu:///system"),
        ("qemu+ssh://root@kvm02/system", "qemu+ssh://root@kvm02/system"),
        ("qemu+tcp://root:secret@kvm02/system", "qemu+tcp://root@kvm02/system"),
        ("qemu+tcp://:secret@kvm02/system", "qemu+tcp://@kvm02/system"),
        ("qemu+tcp://root:se:cr@et@kvm02:16509/system", "qemu+tcp://root@kvm02:16509/system"),
        ("qemu+tcp://root:se/cr?et#@kvm02/system", "qemu+tcp://root@kvm02/system"),
        ("qemu+tcp://root:se\ncret@kvm02/system", "qemu+tcp://root@kvm02/system"),
        ("qemu+tcp://root:1234@kvm02/system", "qemu+tcp://root@kvm02/system"),
        ("root:secret@kvm02", "root@kvm02"),
        ("root:se://cr:et@kvm02", "root@kvm02"),
        ("qemu+tcp://root://secret@kvm02/system", "qemu+tcp://root@kvm02/system"),
        ("see qemu+tcp://root:secret@kvm02/system", "see qemu+tcp://root@kvm02/system"),
        (
            "qemu+ssh://kvm02:22/system?keyfile=/home/a@b/key",
            "qemu+ssh://kvm02:22/system?keyfile=/home/a@b/key",
        ),
        ("qemu+tls://[::1]:16514/system?pki=/a@b", "qemu+tls://[::1]:16514/system?pki=/a@b"),
        ("qemu:///embed?root=/srv/a@b", "qemu:///embed?root=/srv/a@b"),
        ("esx://vc/?password=secret", "esx://vc/"),
        ("esx://vc/?no_verify=1&password=secret&auto_answer=1", "esx://vc/?no_verify=1&auto_answer=1"),
        ("esx://vc/?P%61ssword=secret;no_verify=1", "esx://vc/?no_verify=1"),
        ("esx://vc/?auth_token=secret", "esx://vc/"),
        ("qemu:///system?mode=direct&socket=/x;y=1", "qemu:///system?mode=direct&socket=/x;y=1"),
    ],
)
def test_passwords_are_removed_and_nothing_else(uri: str, shown: str) -> None:
    assert redact_uri(uri) == shown


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("qemu:///system", "qemu:///system"),
        ("qemu+ssh://root@kvm02:22/system", "qemu+ssh://***@kvm02:22/system"),
        ("qemu+tcp://root:p@s/s:w@kvm02/system?no_verify=1", "qemu+tcp://***@kvm02/system?no_verify=1"),
        (
            "qemu+ssh://kvm02/system?keyfile=/root/id&sshauth=agent&mode=key",
            "qemu+ssh://kvm02/system?keyfile=***&sshauth=***&mode=key",
        ),
        ("qemu+tls://kvm02/system?pkipath=/tmp&password=secret", "qemu+tls://kvm02/system?pkipath=***"),
    ],
)
def test_users_and_what_they_prove_themselves_by_can_be_hidden_too(uri: str, shown: str) -> None:
    assert hide_user(uri) == shown


def test_a_quoted_uri_shows_that_there_was_a_password() -> None:
    assert quote("qemu+tcp://root:secret@kvm02/system") == "'qemu+tcp://root:***@kvm02/system'"


def test_a_quoted_text_is_one_short_line() -> None:
    assert quote("a\nb\x1b[0m" + "x" * 100) == f"'a\\nb\\x1b[0m{'x' * 53}…'"


@given(
    user=st.text(alphabet="abcäöü._-", max_size=5),
    password=st.text(min_size=1).map(lambda text: f"S3cret{text}S3cret"),
    rest=st.sampled_from(["kvm02/system", "kvm02:16509/system?mode=direct", "[::1]/system", ""]),
)
def test_no_character_lets_a_password_through(user: str, password: str, rest: str) -> None:
    assert "S3cret" not in redact_uri(f"qemu+tcp://{user}:{password}@{rest}")
    assert "S3cret" not in quote(f"{user}:{password}@{rest}")


@pytest.mark.parametrize(
    ("uri", "message", "shown"),
    [
        (
            "qemu+tcp://root:secret@kvm02/system",
            "no connection driver available for qemu+tcp://root:secret@kvm02/system",
            "no connection driver available for qemu+tcp://root@kvm02/system",
        ),
        ("qemu+tcp://root:se%21@kvm02/system", "cannot resolve root:se!@kvm02", "cannot resolve root@kvm02"),
        ("esx://vc/?password=secret", "unexpected 'password=secret' in query", "unexpected '***' in query"),
        ("qemu:///system", "End of file while reading: I/O error", "End of file while reading: I/O error"),
    ],
)
def test_what_libvirt_says_of_a_uri_is_shown_without_its_password(uri: str, message: str, shown: str) -> None:
    assert redact_in(message, uri) == shown


@given(st.text(alphabet="abc:/@?&=%äöü ", max_size=8).map(lambda text: f"S3cret{text}S3cret"))
def test_no_quotation_of_a_uri_lets_its_password_through(password: str) -> None:
    uri = f"qemu+tcp://root:{password}@kvm02/system"
    assert "S3cret" not in redact_in(f"unable to parse URI {uri}", uri)


@given(st.text())
def test_redacting_twice_is_redacting_once(text: str) -> None:
    assert redact_uri(redact_uri(text)) == redact_uri(text)


@pytest.mark.parametrize(
    ("uri", "message", "shown"),
    [
        (
            "nosuch://admin:hunter2@kvm01/system",
            "no connection driver available for nosuch://admin:hunter2@kvm01/system",
            "no connection driver available for nosuch://admin@kvm01/system",
        ),
        (
            "qemu+tcp://admin:hunter2@kvm01/system",
            "unable to resolve 'admin:hunter2@kvm01'",
            "unable to resolve 'admin@kvm01'",
        ),
        (
            "qemu+tcp://admin:hunt%65r2@kvm01/system",
            "unable to resolve 'admin:hunter2@kvm01'",
            "unable to resolve 'admin@kvm01'",
        ),
        (
            "qemu+tcp://kvm01/system?a=1&password=hunter2",
            "bad parameters 'a=1&password=hunter2'",
            "bad parameters 'a=1&***'",
        ),
        (
            "qemu+ssh://root@kvm01/system",
            "root@kvm01: Permission denied (publickey,password).",
            "root@kvm01: Permission denied (publickey,password).",
        ),
    ],
)
def test_a_message_that_quotes_a_uri_loses_its_passwords(uri: str, message: str, shown: str) -> None:
    assert redact_in(message, uri) == shown


# What libvirt's driver for VMware accepts, tried with libvirt 9.0: it asks for a user then. Whatever else is
# refused by it, and ends the process by a signal.
VMWARE_ACCEPTS = (
    "",
    "?",
    "?transport=http",
    "?transport=https&transport=http",
    "?TRANSPORT=http",
    "?transport=http%00x",
    "?no_verify=0&auto_answer=1",
    "?no_verify=00",
    "?no_verify=%2B1",
    "?no_verify=-0",
    "?no_verify=%201",
    "?vcenter=*",
    "?vcenter",
    "?other=x&=y&z",
    "?proxy",
    "?proxy=x",
    "?proxy=http://",
    "?proxy=http:///",
    "?proxy=/",
    "?proxy=http://h:1",
    "?proxy=http%3A//h:1",
    "?proxy=socks://h",
    "?proxy=socks4://h:65535",
    "?proxy=socks4a://h:%201",
    "?proxy=socks5://h:007",
    "?proxy=http://u@h:1",
    "#?transport=x",
)
VMWARE_DIES_OF = (
    "?transport",
    "?transport=",
    "?transport=HTTP",
    "?transport=x#f",
    "?a=b;transport=x",
    "?a=b&%74ransport=x",
    "?no_verify",
    "?no_verify=2",
    "?no_verify=-1",
    "?no_verify=1%20",
    "?no_verify=4294967297",
    "?no_verify=%2B",
    "?auto_answer=yes",
    "?proxy=:",
    "?proxy=http://:1",
    "?proxy=http://h:",
    "?proxy=h:0",
    "?proxy=h:-1",
    "?proxy=h:65536",
    "?proxy=http://h:1:2",
    "?proxy=HTTP://h",
    "?proxy=https://h",
    "?proxy=a/b://h",
    "?proxy=http:/",
)


@pytest.mark.parametrize("query", VMWARE_DIES_OF)
@pytest.mark.parametrize("start", ["esx://h/", "gsx://h", "vpx://h/a/b"])
def test_what_ends_libvirts_client_by_a_signal_is_refused(start: str, query: str) -> None:
    with pytest.raises(ValueError, match=r"^(transport|no_verify|auto_answer|proxy) is "):
        check_parameters(start + query)
    check_parameters(f"{start.replace('://', '+ssh://')}{query}")
    check_parameters(f"qemu://h/{query}")


@pytest.mark.parametrize("query", VMWARE_ACCEPTS)
def test_what_libvirts_client_accepts_is_not_refused(query: str) -> None:
    check_parameters(f"esx://h/{query}")


OPEN = """
import sys, libvirt
from exporter.virt.hypervisor import LibvirtHypervisor, start_event_loop
from exporter.errors import ConnectError
start_event_loop()
for uri in sys.argv[1:]:
    try:
        LibvirtHypervisor(uri).connect()
    except ConnectError as error:
        print(error)
"""


def test_libvirts_client_survives_what_is_not_refused() -> None:
    """No server is asked: there is no user for it."""
    uris = [f"esx://127.0.0.1/{query}" for query in VMWARE_ACCEPTS]
    command = [sys.executable, "-c", OPEN, *uris]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (result.returncode, len(result.stdout.splitlines())) == (0, len(uris)), result.stderr


@given(
    st.sampled_from(["transport", "no_verify", "auto_answer", "proxy"]),
    st.text("htps:/socks4a501 +-9%.@", max_size=16),
)
def test_a_parameter_of_any_form_is_accepted_or_refused(name: str, value: str) -> None:
    uri = f"esx://h/?{name}={value.replace(' ', '%20')}"
    with suppress(ValueError):
        check_parameters(uri)


@pytest.mark.parametrize("value", ["u:secret@h:1", "u%3Asecret%40h:1", "http://u:secret@h:1"])
def test_the_password_of_a_proxy_is_not_quoted(value: str) -> None:
    """libvirt takes no such proxy. So it is in the message about it."""
    uri = f"esx://h/?proxy={value}"
    for shown in (quote(uri), redact_uri(uri), redact_in(f"cannot parse {uri}", uri)):
        assert "secret" not in shown
        assert "esx://" in shown
