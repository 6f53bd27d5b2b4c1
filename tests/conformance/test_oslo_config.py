"""A nova.conf means the same to this exporter as to oslo.config with Nova's own declarations of the options.

Nova (Debian's python3-nova) runs in a process of its own under the system's Python, one for all files.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from exporter.config.nova_conf import read_nova_conf
from exporter.errors import ConfigError
from tests.support.nova_programs import ask_program

# Reads what nova-compute is started with, a JSON list a line; prints for each what its files set together, or
# null for what Nova refuses.
NOVA = """
import json, sys
import nova.conf
from nova import exception
from nova.pci import whitelist
from nova.virt import hardware
from oslo_config import cfg

OPTIONS = json.loads(sys.argv[1])

def read(arguments):
    conf = nova.conf.CONF
    try:
        conf(arguments, project="nova", default_config_files=[], default_config_dirs=[])
        return {name: get(conf, group, name) for group, name in OPTIONS if is_set(conf, group, name)}
    except (cfg.Error, exception.Invalid, RecursionError, IsADirectoryError):
        return None
    finally:
        conf.reset()
        conf.clear()

def is_set(conf, group, name):
    location = conf.get_location(name, None if group == "DEFAULT" else group)
    return location is not None and location.location is cfg.Locations.user

def get(conf, group, name):
    value = conf[name] if group == "DEFAULT" else conf[group][name]
    if name.endswith("_set") and value and not hardware.parse_cpu_spec(value):
        raise exception.Invalid("an empty set")
    if name == "device_spec":
        whitelist.Whitelist(value)
        return [json.dumps(json.loads(spec)) for spec in value]
    return value

print(json.dumps([read(json.loads(line)) for line in sys.stdin]))
"""

OPTIONS = (
    ("DEFAULT", "vcpu_pin_set"),
    ("DEFAULT", "reserved_host_cpus"),
    ("DEFAULT", "reserved_host_memory_mb"),
    ("DEFAULT", "reserved_host_disk_mb"),
    ("DEFAULT", "cpu_allocation_ratio"),
    ("DEFAULT", "ram_allocation_ratio"),
    ("DEFAULT", "disk_allocation_ratio"),
    ("DEFAULT", "initial_cpu_allocation_ratio"),
    ("DEFAULT", "initial_ram_allocation_ratio"),
    ("DEFAULT", "initial_disk_allocation_ratio"),
    ("DEFAULT", "instances_path"),
    ("DEFAULT", "state_path"),
    ("DEFAULT", "my_ip"),
    ("compute", "cpu_shared_set"),
    ("compute", "cpu_dedicated_set"),
    ("libvirt", "connection_uri"),
    ("libvirt", "images_type"),
    ("libvirt", "images_volume_group"),
    ("libvirt", "images_rbd_pool"),
    ("libvirt", "images_rbd_ceph_conf"),
    ("libvirt", "rbd_user"),
    ("pci", "device_spec"),
    ("devices", "enabled_mdev_types"),
)

# images_volume_group takes any text, whereas Nova wants a domain for host.
WRITTEN_BY_HAND = (
    "",
    "# nothing\n",
    "[DEFAULT]\nhost = 192.0.2.7\nmy_ip = $host\n",
    "[DEFAULT]\nhost: 192.0.2.7\n[libvirt]\nimages_volume_group: ${host}-$host:$$x-\\$y$5$\n",
    "[DEFAULT]\nmy_ip = ${libvirt.virt_type}\n[LibVirt]\nvirt_type = kvm\n",
    "[libvirt]\nimages_rbd_pool = a\nimages_volume_group = ${images_rbd_pool}.${unclosed\n",
    "[DEFAULT]\nmy_ip = a\nmy_ip = b\n[libvirt]\nvirt_type = qemu\n[DEFAULT]\nmy_ip = c\n",
    "[DEFAULT]\nvcpu_pin_set = 0-3,\n    8,\n\t10-12\nreserved_host_cpus = 2\n",
    "[DEFAULT]\nvcpu_pin_set =\n    8\n",
    '[libvirt]\nimages_volume_group = \'a b\'\nimages_rbd_pool = "a"b"\n',
    "[libvirt]\nimages_volume_group = 'a b\nimages_rbd_pool = a'\nimages_rbd_ceph_conf = \"a'\n",
    "[libvirt]\nimages_volume_group = '\nimages_rbd_pool = ''\n",
    "[libvirt]\nimages_volume_group = a ; b # c\n;images_volume_group = d\n",
    "[libvirt]\nimages_volume_group = a:b=c\nimages_rbd_pool: a=b:c\n",
    "[Compute]\ncpu_shared_set = 0\n[COMPUTE]\ncpu_shared_set = 1\ncpu_dedicated_set = 2-3,^2\n",
    "[default]\nmy_ip = a\n[DEFAULT]\nMY_IP = b\n",
    "[DEFAULT]\nstate_path = /srv/nova\n",
    "[DEFAULT]\nstate_path = /srv/nova\ninstances_path = $state_path/guests\n",
    "[DEFAULT]\ncpu_allocation_ratio = 0.0\ninitial_cpu_allocation_ratio = 3\nram_allocation_ratio = 1e1\n",
    "[DEFAULT]\ncpu_allocation_ratio =\ninitial_cpu_allocation_ratio = 3\nreserved_host_cpus =\n",
    "[DEFAULT]\r\nmy_ip = a\r\nreserved_host_disk_mb = 5\r\n",
    "[DEFAULT]\rmy_ip = a\rreserved_host_disk_mb = 5\r",
    "[DEFAULT]\n# a\x0bb\x0cc\x85d\u2028e\nmy_ip = a\n",
    "[DEFAULT]\nhost = 192.0.2.7\n[libvirt]\nconnection_uri = qemu+tcp://$host/system\nimages_type = rbd\n",
    "[libvirt]\nvirt_type = lxc\nconnection_uri = ${libvirt.virt_type}:///\n",
    "[DEFAULT]\nmy_ip = a\n# b\n  c\n",
    "[DEFAULT]\nmy_ip = a\n\n  c\n",
    "my_ip = a\n",
    "[DEFAULT\nmy_ip = a\n",
    "[DEFAULT] # x\nmy_ip = a\n",
    "[]\nmy_ip = a\n",
    "[DEFAULT]\nmy_ip\n",
    "[DEFAULT]\n= a\n",
    "[DEFAULT]\nreserved_host_cpus = two\n",
    "[DEFAULT]\nreserved_host_cpus = -2\n",
    "[DEFAULT]\ncpu_allocation_ratio = -1.0\n",
    "[DEFAULT]\nmy_ip = $my_ip\n",
    '[pci]\ndevice_spec = {"vendor_id": "1"}\ndevice_spec = [{"product_id": "1",\n "address": "*:2:*"}]\n',
    '[pci]\npassthrough_whitelist = {"devname": "no-such"}\n[DEFAULT]\npci_passthrough_whitelist = {}\n',
    '[pci]\nalias = {}\ndevice_spec: {"vendor_id": "8086"}\n[PCI]\ndevice_spec = {"address": ":1:"}\n',
    "[pci]\ndevice_spec = eth0\n",
    '[pci]\ndevice_spec = {"vendor_id": "8086"}\ndevice_spec = {"vendor_id": "intel"}\n',
    "[devices]\nenabled_mdev_types = nvidia-35, nvidia-36\n",
    "[devices]\nenabled_vgpu_types = nvidia-35\n",
    "[devices]\nenabled_mdev_types =\n",
    "[DEFAULT]\nhost = $my_ip\nmy_ip = $host\n",
)

# Put together at random: the first ones usually make a file that Nova accepts, the others one it refuses.
GOOD_LINES = (
    "[DEFAULT]",
    "[DEFAULT]",
    "[libvirt]",
    "[Compute]",
    "",
    "# comment",
    "; comment",
    "vcpu_pin_set = 0-3,\n  5,\n\t7",
    "cpu_shared_set = 0-3,",
    "cpu_dedicated_set = '4-7'",
    "cpu_dedicated_set: ^5, 4-7",
    "my_ip = a",
    "my_ip=$host",
    "host=192.0.2.2",
    "host : 192.0.2.3",
    "reserved_host_cpus = 4",
    'reserved_host_cpus = "6"',
    "reserved_host_memory_mb: 1024",
    "reserved_host_disk_mb = $reserved_host_memory_mb",
    "cpu_allocation_ratio = .5",
    "cpu_allocation_ratio = 0",
    "initial_cpu_allocation_ratio = 2.",
    "instances_path = /srv/${host}",
    "instances_path =",
    "state_path = /srv/$$x",
    "virt_type = qemu",
    "images_volume_group = $images_rbd_pool:x # y",
    "images_rbd_pool = ${host}_",
    "connection_uri = qemu+tcp://$host/system",
    "other = $nothing",
)
# What others refer to: we do not know the defaults of Nova's options.
BEGINNING = (
    "[DEFAULT]",
    "host = 192.0.2.1",
    "reserved_host_memory_mb = 256",
    "[libvirt]",
    "images_rbd_pool = vms",
)
BAD_LINES = ("[broken", "  continued", "\t# continued comment", "nonsense", "reserved_host_cpus = 4x")

# For sets of files: what adds up over files, and older names, which count in a later file.
LINES_OF_SETS = (
    "[pci]",
    "[devices]",
    "[PCI]",
    '[pci]\ndevice_spec = {"vendor_id": "1"}',
    '[pci]\ndevice_spec = {"vendor_id": "2"}\ndevice_spec = {"vendor_id": "3"}',
    '[pci]\npassthrough_whitelist = {"vendor_id": "4"}',
    '[DEFAULT]\npci_passthrough_whitelist = {"vendor_id": "5"}',
    "[devices]\nenabled_mdev_types = nvidia-35",
    "[devices]\nenabled_vgpu_types = nvidia-36",
    "[devices]\nenabled_mdev_types =",
)
NAMES = (
    "00.conf",
    "10-a.conf",
    "9.conf",
    "B.conf",
    "a.conf",
    "ab.conf",
    ".hidden.conf",
    "a.conf.bak",
    "readme",
)


def make_files(directory: Path, count: int) -> list[Path]:
    """Write the files above and `count` drawn from the lines, the same in every run."""
    choice = random.Random(3)
    drawn = [
        (*BEGINNING, *choice.choices(GOOD_LINES, k=12), *choice.sample(BAD_LINES, k=number % 4 == 0))
        for number in range(count)
    ]
    files = []
    for number, text in enumerate([*WRITTEN_BY_HAND, *map("\n".join, drawn)]):
        file = directory / f"{number}.conf"
        file.write_bytes(text.encode())
        files.append(file)
    return files


def make_sets(directory: Path, count: int) -> list[tuple[Path, ...]]:
    """Write files and folders that nova-compute reads together, the same in every run."""
    choice = random.Random(13)
    return [_make_set(directory / str(number), choice) for number in range(count)]


def _make_set(directory: Path, choice: random.Random) -> tuple[Path, ...]:
    directory.mkdir()
    paths = [directory / "nova.conf"]
    paths[0].write_text("\n".join([*BEGINNING, *choice.choices(GOOD_LINES, k=5)]))
    for number in range(choice.randint(1, 4)):
        path = directory / f"{number}{choice.choice(['', '.conf', '.d'])}"
        if choice.random() < 0.5:
            path.write_text(_draw_text(choice))
        else:
            path.mkdir()
            for name in choice.sample(NAMES, k=choice.randint(0, 5)):
                (path / name).write_text(_draw_text(choice))
            if choice.random() < 0.05:
                (path / "folder.conf").mkdir()
            if choice.random() < 0.05:
                (path / "dangling.conf").symlink_to("nowhere")
        paths.append(path)
    if choice.random() < 0.05:
        paths.append(directory / "absent.conf")
    # One may be named twice.
    return (*paths, *choice.sample(paths, k=choice.random() < 0.3))


def _draw_text(choice: random.Random) -> str:
    lines = [choice.choice(["[DEFAULT]", "[pci]", "[devices]", "[libvirt]"])]
    lines += choice.choices((*GOOD_LINES, *LINES_OF_SETS), k=choice.randint(0, 9))
    return "\n".join([*lines, *choice.sample(BAD_LINES, k=choice.random() < 0.03)])


def ask_nova(sets: Sequence[Sequence[Path]]) -> list[dict[str, Any] | None]:
    """Return what Nova makes of each set of files and folders."""
    started = [
        [text for path in paths for text in (f"--config-{'dir' if path.is_dir() else 'file'}", str(path))]
        for paths in sets
    ]
    answers: list[dict[str, Any] | None] = ask_program(
        NOVA, json.dumps(OPTIONS), request="".join(f"{json.dumps(each)}\n" for each in started)
    )
    return answers


def expect(options: dict[str, Any] | None) -> dict[str, Any] | None:
    """Do to what Nova says what read_nova_conf is documented to do to it.

    Blank is unset, an initial ratio stands in for one that is unset or 0, the lines of a CPU set become one.
    """
    if options is None:
        return None
    expected = {name: value for name, value in options.items() if value not in (None, "", [])}
    for resource in ("cpu", "ram", "disk"):
        initial = expected.pop(f"initial_{resource}_allocation_ratio", None)
        ratio = expected.pop(f"{resource}_allocation_ratio", None) or initial
        if ratio is not None:
            expected[f"{resource}_allocation_ratio"] = ratio
    state_path = expected.pop("state_path", None)
    if state_path is not None:
        expected.setdefault("instances_path", f"{state_path}/instances")
    for name in ("vcpu_pin_set", "cpu_shared_set", "cpu_dedicated_set"):
        if name in expected:
            expected[name] = " ".join(expected[name].split())
    # A line end in any other value is a mistake here, where Nova goes on to fail at its use.
    return None if any("\n" in str(value) for value in expected.values()) else expected


def read(*paths: Path) -> dict[str, Any] | None:
    try:
        conf = read_nova_conf(*paths)
    except ConfigError:
        return None
    options = dict(conf.options)
    if conf.connection_uri is not None:
        options["connection_uri"] = conf.connection_uri
    # JSON has lists alone.
    return {name: list(value) if isinstance(value, tuple) else value for name, value in options.items()}


def test_every_file_means_the_same_to_nova(tmp_path: Path) -> None:
    files = make_files(tmp_path, 600)
    answers = ask_nova([[file] for file in files])
    assert len(answers) == len(files)
    for file, answer in zip(files, answers, strict=True):
        assert read(file) == expect(answer), file.read_text()


def test_the_files_are_both_such_as_nova_takes_and_such_as_it_refuses(tmp_path: Path) -> None:
    answers = ask_nova([[file] for file in make_files(tmp_path, 400)])
    assert 50 < answers.count(None) < 250


def test_files_and_folders_mean_the_same_to_nova_together(tmp_path: Path) -> None:
    """Shows which file counts, what folders have, older names in later files, and references across files."""
    sets = make_sets(tmp_path, 600)
    answers = ask_nova(sets)
    assert 50 < answers.count(None) < 300
    assert sum(len(answer.get("device_spec") or ()) > 2 for answer in answers if answer) > 30
    for paths, answer in zip(sets, answers, strict=True):
        assert read(*paths) == expect(answer), show(paths)


def show(paths: Sequence[Path]) -> str:
    files = [file for path in paths for file in (sorted(path.iterdir()) if path.is_dir() else [path])]
    return "\n".join(f"--- {file}\n{file.read_text()}" for file in files if file.is_file())
