"""A nova.conf is read as oslo.config reads it; what cannot be honoured or is wrong is named with its line."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exporter.config.kinds import RESERVED_PAGES
from exporter.config.nova_conf import NovaConf, read_nova_conf
from exporter.errors import ConfigError
from exporter.model import ReservedPages
from tests.support.somebody_else import as_root_if_root, as_somebody_else

UNRESOLVED = "which is not set; the option counts as unset"
CONTINUES_NOTHING = "found a line that begins with a blank, expected an option before it"
SETS_NOTHING = "found a line that sets nothing, expected NAME = VALUE"
INDENTED_COMMENT = "found '0-3\\n# or more', expected a CPU set such as 0-3,^2,8"
CIRCLE = "in a circle, or through too many others"
SIZE_2M = "size '2M' is no size such as 2048 (KiB), 2MB or 1GB"
NO_GROUP = "found a group without a name or without its ], expected [GROUP]"


def read(directory: Path, text: str | bytes) -> NovaConf:
    file = directory / "nova.conf"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_nova_conf(file)


def read_options(directory: Path, text: str | bytes) -> Mapping[str, object]:
    return read(directory, text).options


def fail(directory: Path, text: str) -> list[str]:
    """Read what is wrong; return the mistakes without the directory."""
    with pytest.raises(ConfigError) as caught:
        read(directory, text)
    return [mistake.removeprefix(f"{directory}/") for mistake in caught.value.mistakes]


def unsupported(directory: Path, text: str) -> list[str]:
    return [str(each).removeprefix(f"{directory}/") for each in read(directory, text).ignored]


def test_every_option_is_taken_from_its_group(tmp_path: Path) -> None:
    conf = read(
        tmp_path,
        """
[DEFAULT]
vcpu_pin_set = 4-12,^8,15
reserved_host_cpus = 1
reserved_host_memory_mb = 2048
reserved_host_disk_mb = 3
reserved_huge_pages = node:0,size:2048,count:64
reserved_huge_pages = node:1,size:1GB,count:1
cpu_allocation_ratio = 16.0
ram_allocation_ratio = 1.5
disk_allocation_ratio = 2
instances_path = /srv/instances
my_ip = 192.0.2.7
[compute]
cpu_shared_set = 0-3
cpu_dedicated_set = 4-7
[libvirt]
cpu_power_management = True
connection_uri = qemu+unix:///system
images_type = qcow2
images_volume_group = vg
images_rbd_pool = vms
images_rbd_ceph_conf = /etc/ceph/ceph.conf
rbd_user = nova
file_backed_memory = 1048576
[workarounds]
reserve_disk_resource_for_image_cache = yes
[image_cache]
subdirectory_name = cache
""",
    )
    assert conf == NovaConf(
        options={
            "vcpu_pin_set": "4-12,^8,15",
            "reserved_host_cpus": 1,
            "reserved_host_memory_mb": 2048,
            "reserved_host_disk_mb": 3,
            "cpu_allocation_ratio": 16.0,
            "ram_allocation_ratio": 1.5,
            "disk_allocation_ratio": 2.0,
            "instances_path": "/srv/instances",
            "my_ip": "192.0.2.7",
            "cpu_shared_set": "0-3",
            "cpu_dedicated_set": "4-7",
            "cpu_power_management": True,
            "images_type": "qcow2",
            "images_volume_group": "vg",
            "images_rbd_pool": "vms",
            "images_rbd_ceph_conf": "/etc/ceph/ceph.conf",
            "rbd_user": "nova",
            "reserved_huge_pages": (
                ReservedPages(node=0, size_kib=2048, count=64),
                ReservedPages(node=1, size_kib=2**20, count=1),
            ),
            "file_backed_memory": 1048576,
            "reserve_disk_resource_for_image_cache": True,
            "image_cache_subdirectory_name": "cache",
        },
        connection_uri="qemu+unix:///system",
    )


@pytest.mark.parametrize(
    "text", ["", "# nothing\n; at all\n", "[DEFAULT]\n", "[neutron]\nreserved_host_cpus = x\n"]
)
def test_what_is_not_set_is_none(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, text) == NovaConf()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("[DEFAULT]\nmy_ip = a\n", "a"),
        ("[DEFAULT]\nmy_ip=a", "a"),
        ("[DEFAULT]\nmy_ip: a\n", "a"),
        ("[DEFAULT]\nmy_ip = a:b=c\n", "a:b=c"),
        ("[DEFAULT]\nmy_ip : a=b\n", "a=b"),
        ("[DEFAULT]\nmy_ip = a # b\n", "a # b"),
        ("[DEFAULT]\nmy_ip = 'a b'\n", "a b"),
        ('[DEFAULT]\nmy_ip = "a"b"\n', 'a"b'),
        ("[DEFAULT]\nmy_ip = \"a'\n", "\"a'"),
        ("[DEFAULT]\nmy_ip = a\nmy_ip = b\n", "b"),
        ("[DEFAULT]\nmy_ip = a\n[libvirt]\nmy_ip = b\n[DEFAULT]\n", "a"),
        ("[DEFAULT]\nmy_ip = a\n[libvirt]\n[DEFAULT]\nmy_ip = b\n", "b"),
        ("[DEFAULT]\nmy_ip =\n", None),
        ("[DEFAULT]\nmy_ip = ''\n", None),
        ("[DEFAULT]\nMy_ip = a\n", None),
        ("[default]\nmy_ip = a\n", None),
        ("[DEFAULT]\r\nmy_ip = a\r\n", "a"),
        ("\ufeff[DEFAULT]\nmy_ip = a\n", "a"),
        ("[DEFAULT]\n# a\x0bb\x85c\nmy_ip = a\n", "a"),
        ("[DEFAULT]\nmy_ip = $$a\n", "$a"),
        ("[DEFAULT]\nmy_ip = \\$a\n", "$a"),
        ("[DEFAULT]\nmy_ip = $5 a$\n", "$5 a$"),
        ("[DEFAULT]\nmy_ip = n-$host\nhost = 192.0.2.7\n", "n-192.0.2.7"),
        ("[DEFAULT]\nmy_ip = n-${host}x\nhost = 192.0.2.7\n", "n-192.0.2.7x"),
        ("[DEFAULT]\nmy_ip = $a\na = $b\nb = c$$b\n", "c$b"),
        ("[DEFAULT]\nmy_ip = ${libvirt.virt_type}\n[LibVirt]\nvirt_type = kvm\n", "kvm"),
    ],
)
def test_the_dialect_is_that_of_oslo_config(tmp_path: Path, text: str, value: str | None) -> None:
    assert read_options(tmp_path, text).get("my_ip") == value


def test_a_reference_means_its_own_group_before_default(tmp_path: Path) -> None:
    text = "[DEFAULT]\na = qemu:///default\nb = session\n[libvirt]\na = qemu:///\nconnection_uri = $a$b\n"
    assert read(tmp_path, text).connection_uri == "qemu:///session"


def test_a_reference_does_not_find_an_option_in_a_group_where_it_means_nothing(tmp_path: Path) -> None:
    text = "[DEFAULT]\nhost = 192.0.2.1\n[libvirt]\nhost = 192.0.2.2\nconnection_uri = qemu+tcp://$host/\n"
    assert read(tmp_path, text).connection_uri == "qemu+tcp://192.0.2.1/"


SPECS = tuple(f'{{"vendor_id": "808{number}"}}' for number in range(5))
TODAY, OLDER = "[pci]\ndevice_spec = ", "[pci]\npassthrough_whitelist = "
OLDEST = "[DEFAULT]\npci_passthrough_whitelist = "


@pytest.mark.parametrize(
    ("names", "order"),
    [
        ((TODAY, TODAY), (0, 1)),
        ((OLDER,), (0,)),
        ((OLDEST, OLDEST), (0, 1)),
        ((TODAY, OLDER, TODAY, OLDER, OLDEST), (3, 1, 4, 2, 0)),
    ],
)
def test_devices_may_be_specified_several_times_and_under_older_names(
    tmp_path: Path, names: tuple[str, ...], order: tuple[int, ...]
) -> None:
    """What stands under the oldest name comes first."""
    text = "".join(f"{name}{SPECS[number]}\n" for name, number in zip(names, order, strict=True))
    assert read_options(tmp_path, text)["device_spec"] == SPECS[: len(names)]


def test_an_empty_device_spec_is_none(tmp_path: Path) -> None:
    assert "device_spec" not in read_options(tmp_path, "[pci]\ndevice_spec =\n")


@pytest.mark.parametrize("value", ["True", "1", "on", "YES", "False", "0", "off", "no"])
def test_yes_and_no_have_four_words_each(tmp_path: Path, value: str) -> None:
    """As in oslo.config; in upper and lower case."""
    text = f"[workarounds]\nreserve_disk_resource_for_image_cache = {value}\n"
    is_set = value.lower() in ("true", "1", "on", "yes")
    assert read_options(tmp_path, text) == {"reserve_disk_resource_for_image_cache": is_set}


def test_the_image_cache_has_an_older_name(tmp_path: Path) -> None:
    text = "[DEFAULT]\nimage_cache_subdirectory_name = _old\n"
    assert read_options(tmp_path, text) == {"image_cache_subdirectory_name": "_old"}
    text += "[image_cache]\nsubdirectory_name = _new\n"
    assert read_options(tmp_path, text) == {"image_cache_subdirectory_name": "_new"}


@pytest.mark.parametrize(
    ("text", "types"),
    [
        ("enabled_mdev_types = nvidia-35, nvidia-36\n", ("nvidia-35", "nvidia-36")),
        ("enabled_vgpu_types = nvidia-35,,\n", ("nvidia-35",)),
        ("enabled_vgpu_types = nvidia-35\nenabled_mdev_types = nvidia-36\n", ("nvidia-36",)),
        ("enabled_mdev_types = ,\n", None),
    ],
    ids=["today's name", "older name", "both", "none"],
)
def test_mdev_types_are_a_list_under_the_name_of_today_or_the_older_one(
    tmp_path: Path, text: str, types: tuple[str, ...] | None
) -> None:
    assert read_options(tmp_path, f"[devices]\n{text}").get("enabled_mdev_types") == types


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_end_as_any_editor_ends_them(tmp_path: Path, end: str) -> None:
    text = end.join(("[DEFAULT]", "reserved_host_cpus = 3", "my_ip = 192.0.2.7", ""))
    options = read_options(tmp_path, text)
    assert (options.get("reserved_host_cpus"), options.get("my_ip")) == (3, "192.0.2.7")


def test_the_first_dot_of_a_reference_ends_its_group(tmp_path: Path) -> None:
    text = "[libvirt]\na.b = /srv\n[DEFAULT]\ninstances_path = ${libvirt.a.b}/instances\n"
    assert read_options(tmp_path, text)["instances_path"] == "/srv/instances"


def test_names_of_groups_are_alike_in_upper_and_lower_case(tmp_path: Path) -> None:
    text = "[Compute]\ncpu_shared_set = 0\n[COMPUTE]\ncpu_shared_set = 1\n"
    assert read_options(tmp_path, text) == {"cpu_shared_set": "1"}


def test_a_line_that_begins_with_a_blank_continues_the_value(tmp_path: Path) -> None:
    text = "[DEFAULT]\nvcpu_pin_set = 0-3,\n  8,\n\t10\nreserved_host_cpus = 1\n"
    assert read_options(tmp_path, text) == {"vcpu_pin_set": "0-3, 8, 10", "reserved_host_cpus": 1}


@pytest.mark.parametrize(
    ("text", "ratio"),
    [
        ("", None),
        ("cpu_allocation_ratio = 2.5", 2.5),
        ("cpu_allocation_ratio = 1e1", 10),
        ("initial_cpu_allocation_ratio = 3", 3),
        ("cpu_allocation_ratio = 2\ninitial_cpu_allocation_ratio = 3", 2),
        ("cpu_allocation_ratio = 0.0\ninitial_cpu_allocation_ratio = 3", 3),
        ("cpu_allocation_ratio = 0.0", None),
        ("cpu_allocation_ratio =\ninitial_cpu_allocation_ratio = 3", 3),
    ],
)
def test_an_allocation_ratio_that_is_unset_is_the_initial_one(
    tmp_path: Path, text: str, ratio: float | None
) -> None:
    assert read_options(tmp_path, f"[DEFAULT]\n{text}\n").get("cpu_allocation_ratio") == ratio


def test_each_resource_has_its_own_initial_ratio(tmp_path: Path) -> None:
    names = ("cpu", "ram", "disk")
    lines = [f"initial_{name}_allocation_ratio = {n}" for n, name in enumerate(names, start=2)]
    options = read_options(tmp_path, "\n".join(["[DEFAULT]", *lines]))
    assert options == {f"{name}_allocation_ratio": n for n, name in enumerate(names, start=2)}


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("state_path = /srv/nova", "/srv/nova/instances"),
        ("state_path = /srv/nova\ninstances_path = /mnt", "/mnt"),
        ("state_path = /srv/nova\ninstances_path = $state_path/guests", "/srv/nova/guests"),
        ("state_path = /srv/nova\ninstances_path =", "/srv/nova/instances"),
        # What is not needed is not asked where it leads.
        ("state_path = $pybasedir\ninstances_path = /mnt", "/mnt"),
    ],
)
def test_guests_are_below_state_path_unless_they_have_their_own(tmp_path: Path, text: str, path: str) -> None:
    assert read(tmp_path, f"[DEFAULT]\n{text}\n") == NovaConf(options={"instances_path": path})


@pytest.mark.parametrize(
    ("group", "setting", "consequence"),
    [
        ("DEFAULT", "instances_path = $pybasedir/x", f"refers to $pybasedir, {UNRESOLVED}"),
        ("DEFAULT", "state_path = $pybasedir", f"refers to $pybasedir, {UNRESOLVED}"),
        ("DEFAULT", "my_ip = ${neutron.url}", f"refers to $neutron.url, {UNRESOLVED}"),
        ("DEFAULT", "my_ip = ${DEFAULT.a}\na = b", f"refers to $DEFAULT.a, {UNRESOLVED}"),
        ("DEFAULT", "instances_path = srv", "the path is relative, the option counts as unset"),
        (
            "DEFAULT",
            "compute_driver = ironic.IronicDriver",
            "not supported, only what libvirt shows is reported",
        ),
        (
            "libvirt",
            "virt_type = lxc",
            "not supported, without [libvirt] connection_uri, qemu:///system is read",
        ),
        (
            "libvirt",
            "images_type = ploop",
            "not supported, disk space is that of instances_path or storage_pool",
        ),
    ],
)
def test_what_cannot_be_honoured_is_said_in_one_sentence(
    tmp_path: Path, group: str, setting: str, consequence: str
) -> None:
    first_line = setting.partition("\n")[0]
    expected = [f"nova.conf:2: [{group}] {first_line}: {consequence}"]
    assert unsupported(tmp_path, f"[{group}]\n{setting}\n") == expected


def test_what_can_be_honoured_is_not_mentioned(tmp_path: Path) -> None:
    text = """
[DEFAULT]
compute_driver = libvirt.LibvirtDriver
[libvirt]
virt_type = kvm
images_type = raw
cpu_power_management = False
"""
    assert unsupported(tmp_path, text) == []


def test_an_option_that_cannot_be_resolved_is_mentioned_once(tmp_path: Path) -> None:
    assert len(unsupported(tmp_path, "[libvirt]\nvirt_type = $nothing\nimages_type = $nothing\n")) == 2


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("[DEFAULT]\nnonsense\n", f"2: {SETS_NOTHING}"),
        ("[DEFAULT]\n= x\n", f"2: {SETS_NOTHING}"),
        ("[DEFAULT]\n  my_ip = x\n", f"2: {CONTINUES_NOTHING}"),
        ("  my_ip = a\n", f"1: {CONTINUES_NOTHING}"),
        ("[DEFAULT]\nmy_ip = a\n\n  b\n", f"4: {CONTINUES_NOTHING}"),
        ("[DEFAULT]\nmy_ip = a\n# b\n  c\n", f"4: {CONTINUES_NOTHING}"),
        ("my_ip = a\n", "1: found an option, expected a [GROUP] before it"),
        ("[DEFAULT\nmy_ip = a\n", f"1: {NO_GROUP}"),
        ("[]\nmy_ip = a\n", f"1: {NO_GROUP}"),
        ("[DEFAULT] # x\n", f"1: {NO_GROUP}"),
    ],
)
def test_a_line_that_oslo_config_refuses_is_a_mistake(tmp_path: Path, text: str, mistake: str) -> None:
    assert fail(tmp_path, text) == [f"nova.conf:{mistake}"]


@pytest.mark.parametrize(
    ("group", "setting", "mistake"),
    [
        ("DEFAULT", "reserved_host_cpus = 1.5", "found '1.5', expected a whole number, 0 or more"),
        ("DEFAULT", "reserved_host_memory_mb = -1", "found '-1', expected a whole number, 0 or more"),
        ("DEFAULT", "reserved_host_disk_mb = 1_0", "found '1_0', expected a whole number, 0 or more"),
        ("DEFAULT", "reserved_host_disk_mb = ٣", "found '٣', expected a whole number, 0 or more"),
        ("DEFAULT", "cpu_allocation_ratio = nan", "found 'nan', expected a number, 0 or more"),
        ("DEFAULT", "cpu_allocation_ratio = inf", "found 'inf', expected a number, 0 or more"),
        (
            "DEFAULT",
            "ram_allocation_ratio = 1e9",
            "found '1e9', expected a number, 0 or more (1000000 at most)",
        ),
        ("DEFAULT", "initial_disk_allocation_ratio = 0", "found '0', expected a number above 0"),
        (
            "libvirt",
            "file_backed_memory = 1GB",
            "found '1GB', expected a whole number, 0 or more",
        ),
        (
            "workarounds",
            "reserve_disk_resource_for_image_cache = maybe",
            "found 'maybe', expected true or false",
        ),
        (
            "DEFAULT",
            "reserved_huge_pages = node:0,size:2M,count:1",
            f"found 'node:0,size:2M,count:1', expected {RESERVED_PAGES.expected} ({SIZE_2M})",
        ),
        ("DEFAULT", "my_ip = a\n  b", "found 'a\\nb', expected one line of text"),
        (
            "DEFAULT",
            "vcpu_pin_set = 0-3\n  # or more",
            f"{INDENTED_COMMENT} ('0-3 # or more' is neither a CPU number nor a range of them)",
        ),
        (
            "compute",
            "cpu_shared_set = 3-1",
            "found '3-1', expected a CPU set such as 0-3,^2,8 ('3-1' starts past its end)",
        ),
        (
            "libvirt",
            "connection_uri = root:secret@kvm02",
            "found 'root:***@kvm02', expected a libvirt URI such as qemu:///system",
        ),
        ("DEFAULT", "my_ip = $my_ip", f"refers to $my_ip {CIRCLE}"),
        ("DEFAULT", "my_ip = $a\na = ${my_ip}", f"refers to $my_ip {CIRCLE}"),
    ],
)
def test_a_wrong_value_is_answered_with_exactly_its_message(
    tmp_path: Path, group: str, setting: str, mistake: str
) -> None:
    option = setting.partition(" ")[0]
    assert fail(tmp_path, f"[{group}]\n{setting}\n") == [f"nova.conf:2: [{group}] {option}: {mistake}"]


def test_all_mistakes_come_at_once_and_a_line_has_no_second_one(tmp_path: Path) -> None:
    text = "[DEFAULT]\nnonsense\n  that goes on\nreserved_host_cpus = x\n[compute\n  cpu_shared_set = y\n"
    assert [mistake.split(": ")[0] for mistake in fail(tmp_path, text)] == [
        "nova.conf:2",
        "nova.conf:5",
        "nova.conf:6",
        "nova.conf:4",
    ]


def test_no_mistake_quotes_a_line_which_may_hold_a_password(tmp_path: Path) -> None:
    assert not any("secret" in mistake for mistake in fail(tmp_path, "[DEFAULT]\npassword secret\n[secret\n"))


def test_a_long_chain_of_references_is_refused_and_not_followed_forever(tmp_path: Path) -> None:
    chain = "".join(f"a{n} = $a{n + 1}$a{n + 1}\n" for n in range(2000))
    assert "through too many others" in fail(tmp_path, f"[DEFAULT]\nmy_ip = $a0\n{chain}a2000 = x\n")[0]


@pytest.mark.parametrize("fan", ["$a{0}", "${{a{0}}}x", "$empty$a{0}"])
def test_references_that_multiply_are_refused_and_not_followed_forever(tmp_path: Path, fan: str) -> None:
    """Eight lines that each name the next one 40 times would make 40^8 characters; one line says so."""
    lines = [f"a{n} = {fan.format(n + 1) * 40}" for n in range(8)]
    text = "\n".join(["[DEFAULT]", "my_ip = $a0", "instances_path = /$a1", *lines, "a8 =", "empty =", ""])
    assert fail(tmp_path, text) == [
        "nova.conf:3: [DEFAULT] instances_path: its references expand to more than 100000 characters"
    ]


def test_a_value_may_refer_to_many_others(tmp_path: Path) -> None:
    lines = [f"a{n} = {n}" for n in range(2000)]
    text = "\n".join(["[DEFAULT]", "my_ip = " + "".join(f"${{a{n}}}." for n in range(2000)), *lines])
    assert read_options(tmp_path, text)["my_ip"] == "".join(f"{n}." for n in range(2000))


def test_a_file_that_cannot_be_read_is_named_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nova\.conf: cannot be read: No such file or directory$"):
        read_nova_conf(tmp_path / "nova.conf")
    with pytest.raises(ConfigError, match=r"^/dev/zero: cannot be read: it is larger than 16 MiB$"):
        read_nova_conf(Path("/dev/zero"))


def test_a_file_in_a_folder_that_may_not_be_entered_is_named_with_the_reason() -> None:
    """Such is /etc/nova for all but Nova, on many hosts."""
    with as_somebody_else() as folder:
        with as_root_if_root():
            (folder / "nova").mkdir()
            (folder / "nova/nova.conf").write_text("[DEFAULT]\n")
            (folder / "nova").chmod(0)
        for path in (folder / "nova/nova.conf", folder / "nova"):
            with pytest.raises(ConfigError, match=f"^{path}: cannot be read: Permission denied$"):
                read_nova_conf(path)
        with as_root_if_root():
            (folder / "nova").chmod(0o700)


def test_a_comment_in_another_encoding_does_not_matter_and_a_value_does(tmp_path: Path) -> None:
    assert read_options(tmp_path, b"# gr\xfc\xdfe\n[DEFAULT]\nmy_ip = a\n") == {"my_ip": "a"}
    with pytest.raises(ConfigError, match="it is not UTF-8"):
        read(tmp_path, b"[DEFAULT]\nmy_ip = gr\xfc\xdfe\n")


def write(directory: Path, **files: str) -> None:
    for name, text in files.items():
        path = directory / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)


def test_of_an_option_in_two_files_the_later_one_counts(tmp_path: Path) -> None:
    write(
        tmp_path,
        a_conf="[DEFAULT]\nmy_ip = a\nreserved_host_cpus = 1\n",
        b_conf="[DEFAULT]\nmy_ip = b\n",
    )
    first, second = tmp_path / "a.conf", tmp_path / "b.conf"
    assert read_nova_conf(first, second).options == {"my_ip": "b", "reserved_host_cpus": 1}
    assert read_nova_conf(second, first).options == {"my_ip": "a", "reserved_host_cpus": 1}
    assert read_nova_conf(first, second, first).options["my_ip"] == "a"


def test_a_folder_stands_for_its_files_by_name(tmp_path: Path) -> None:
    write(
        tmp_path,
        d__9_conf="[DEFAULT]\nmy_ip = 9\n",
        d__10_conf="[DEFAULT]\nmy_ip = 10\nreserved_host_cpus = 1\n",
        d__a_conf="[DEFAULT]\nreserved_host_disk_mb = 2\n",
        d__z_txt="nonsense",
        d___conf="nonsense",
    )
    assert (tmp_path / "d/.conf").exists()
    assert read_nova_conf(tmp_path / "d").options == {
        "my_ip": "9",
        "reserved_host_cpus": 1,
        "reserved_host_disk_mb": 2,
    }


def test_an_empty_folder_sets_nothing(tmp_path: Path) -> None:
    assert read_nova_conf(tmp_path) == NovaConf()


def test_values_of_an_option_that_may_be_set_several_times_add_up_over_the_files(tmp_path: Path) -> None:
    write(tmp_path, a_conf=f"{TODAY}{SPECS[0]}\n", b_conf=f"{TODAY}{SPECS[2]}\n{OLDER}{SPECS[1]}\n")
    conf = read_nova_conf(tmp_path / "a.conf", tmp_path / "b.conf")
    assert conf.options["device_spec"] == SPECS[:3]


def test_an_older_name_in_a_later_file_counts(tmp_path: Path) -> None:
    write(
        tmp_path,
        a_conf="[devices]\nenabled_mdev_types = nvidia-35\n",
        b_conf="[devices]\nenabled_vgpu_types = nvidia-36\n",
    )
    assert read_nova_conf(tmp_path).options["enabled_mdev_types"] == ("nvidia-36",)


def test_a_reference_finds_an_option_in_whichever_file_it_is(tmp_path: Path) -> None:
    write(
        tmp_path,
        a_conf="[DEFAULT]\nhost = 192.0.2.1\n[libvirt]\nconnection_uri = qemu+tcp://$host/system\n",
        b_conf="[DEFAULT]\nhost = 192.0.2.2\n",
    )
    assert read_nova_conf(tmp_path).connection_uri == "qemu+tcp://192.0.2.2/system"


def test_the_mistakes_of_all_files_come_at_once(tmp_path: Path) -> None:
    write(tmp_path, a_conf="nonsense\n", b_conf="[DEFAULT]\nreserved_host_cpus = x\n")
    (tmp_path / "c.conf").mkdir()
    (tmp_path / "d.conf").symlink_to("nowhere")
    with pytest.raises(ConfigError) as caught:
        read_nova_conf(tmp_path, tmp_path / "absent")
    assert [mistake.removeprefix(f"{tmp_path}/") for mistake in caught.value.mistakes] == [
        f"a.conf:1: {SETS_NOTHING}",
        "c.conf: cannot be read: Is a directory",
        "d.conf: cannot be read: No such file or directory",
        "absent: cannot be read: No such file or directory",
        "b.conf:2: [DEFAULT] reserved_host_cpus: found 'x', expected a whole number, 0 or more",
    ]


def unread(*paths: Path) -> list[str]:
    """Return the names of the files that are named as not read."""
    return [Path(each.file).name for each in read_nova_conf(*paths).ignored if not each.option]


def test_what_lies_beside_and_was_not_read_is_named(tmp_path: Path) -> None:
    names = ("nova.conf", "nova-compute.conf", "nova.conf.d/01.conf", "nova-compute.conf.d/02.conf")
    for name in (*names, "nova.conf.d/.hidden.conf", "nova.conf.d/readme", "policy.conf"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    one, two, folder, other = (tmp_path / name for name in names)
    assert unread(one) == ["nova-compute.conf", "01.conf", "02.conf"]
    assert unread(one, two) == ["01.conf", "02.conf"]
    assert unread(folder.parent) == ["nova.conf", "nova-compute.conf", "02.conf"]
    assert unread(folder) == ["nova.conf", "nova-compute.conf", "02.conf"]
    assert unread(one, two, folder.parent, other.parent) == []


def test_a_file_that_is_read_under_another_name_is_not_named(tmp_path: Path) -> None:
    write(tmp_path, nova_conf="")
    (tmp_path / "nova-compute.conf").symlink_to("nova.conf")
    assert unread(tmp_path / "nova.conf") == []


def test_provider_configuration_is_named_where_it_is_and_where_the_option_says(tmp_path: Path) -> None:
    write(tmp_path, nova_conf="", default__a_yaml="", default__b_yml="", other__c_yaml="")
    (tmp_path / "default").rename(tmp_path / "provider_config")
    (ignored,) = read_nova_conf(tmp_path / "nova.conf").ignored
    assert (ignored.option, Path(ignored.file).name) == ("[compute] provider_config_location", "a.yaml")
    write(tmp_path, nova_conf=f"[compute]\nprovider_config_location = {tmp_path}/other\n")
    (ignored,) = read_nova_conf(tmp_path / "nova.conf").ignored
    assert Path(ignored.file).name == "c.yaml"


def test_an_option_that_is_not_supported_may_have_any_value(tmp_path: Path) -> None:
    """It is named in one line, whatever stands there."""
    text = "[libvirt]\npmem_namespaces = 128G:ns0,\n  MEDIUM:ns1\nimages_type =\n"
    (line,) = unsupported(tmp_path, text)
    assert line.startswith("nova.conf:2: [libvirt] pmem_namespaces = 128G:ns0,\\nMEDIUM:ns1: not supported, ")


def test_nothing_is_named_beside_a_file_with_a_name_of_its_own(tmp_path: Path) -> None:
    """As DevStack's nova-cpu.conf beside the nova.conf of other services, or a copy of another host's."""
    write(tmp_path, nova_conf="", kvm02_conf="")
    assert unread(tmp_path / "kvm02.conf") == []


lines = st.lists(
    st.text(alphabet="[]=:#; \t\"'$\\{}.ax0-9\x0b\x85é", max_size=10)
    | st.sampled_from(
        [
            "[DEFAULT]",
            "[libvirt]",
            "my_ip = $host",
            "host = ${DEFAULT.host}",
            "vcpu_pin_set = ",
            "  0-3",
            "$$",
        ]
    ),
    max_size=12,
)


@given(lines)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_text_is_a_nova_conf_or_a_list_of_mistakes(tmp_path: Path, written: list[str]) -> None:
    try:
        read(tmp_path, "\n".join(written))
    except ConfigError as error:
        mistakes = error.mistakes
    else:
        return
    assert all(mistake.startswith(f"{tmp_path}/nova.conf:") and "\n" not in mistake for mistake in mistakes)


def test_lines_that_continue_a_value_are_read_in_a_time_that_grows_with_their_number(tmp_path: Path) -> None:
    """To copy the value at each of them took minutes here. 20 s is for a busy machine."""
    path = tmp_path / "nova.conf"
    path.write_text("[DEFAULT]\nmy_ip = a\n" + " b\n" * 1_500_000)
    begun = time.monotonic()
    with pytest.raises(ConfigError, match="expected one line of text"):
        read_nova_conf(path)
    assert time.monotonic() - begun < 20
