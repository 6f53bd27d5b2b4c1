"""A URI tells where its hypervisor is, and is shown without passwords."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.config.libvirt_uri import LibvirtUri, hide_user, quote, redact_in, redact_uri


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
