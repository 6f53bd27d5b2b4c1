"""Nova's metadata in a domain's XML: the flavor where there is one, the reason where it cannot be read."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from exporter.model import NovaFlavor, NovaInstance, ResourceClass
from exporter.virt.guests.nova_metadata import NovaMetadata, parse_nova_metadata

NOVA_1_0 = "http://openstack.org/xmlns/libvirt/nova/1.0"
NOVA_1_1 = "http://openstack.org/xmlns/libvirt/nova/1.1"
NUMBERS = {"memory": "2048", "disk": "20", "swap": "512", "ephemeral": "10", "vcpus": "2"}
FLAVOR = NovaFlavor(
    name="m1.small", vcpus=2, memory_mb=2048, root_gb=20, ephemeral_gb=10, swap_mb=512, resources={}
)


def flavor_xml(*, name: str = "m1.small", more: str = "", **numbers: str | None) -> str:
    elements = "".join(
        f"<n:{tag}>{text}</n:{tag}>" for tag, text in {**NUMBERS, **numbers}.items() if text is not None
    )
    return f"<n:flavor name='{name}'>{elements}{more}</n:flavor>"


def instance_xml(content: str, *, namespace: str = NOVA_1_1) -> str:
    return f"<n:instance xmlns:n='{namespace}'>{content}</n:instance>"


def parse(*instances: str) -> NovaMetadata | None:
    return parse_nova_metadata(
        ElementTree.fromstring(f"<domain><metadata>{''.join(instances)}</metadata></domain>")
    )


def parse_flavor(content: str) -> NovaFlavor | None:
    metadata = parse(instance_xml(content))
    assert metadata is not None
    assert metadata.error is None
    return metadata.flavor


def refuse(content: str) -> str:
    metadata = parse(instance_xml(content))
    assert metadata is not None
    assert metadata.flavor is None
    assert metadata.error is not None
    return metadata.error


@pytest.mark.parametrize("namespace", [NOVA_1_0, NOVA_1_1])
def test_a_flavor_is_read_in_either_namespace(namespace: str) -> None:
    assert parse(instance_xml(flavor_xml(), namespace=namespace)) == NovaMetadata(
        flavor=FLAVOR, error=None, instance=NovaInstance(), has_image=False
    )


def test_what_the_newer_nova_wrote_counts_where_both_did() -> None:
    """A Nova that was upgraded writes its own beside what the older one left."""
    old = instance_xml(flavor_xml(name="before"), namespace=NOVA_1_0)
    metadata = parse(old, instance_xml(flavor_xml()))
    assert metadata is not None
    assert metadata.flavor == FLAVOR


def test_metadata_of_others_are_none_of_novas() -> None:
    assert parse("<x:instance xmlns:x='http://example.com/1.1'/>") is None


def test_without_a_flavor_nothing_is_broken() -> None:
    assert parse(instance_xml("")) == NovaMetadata(
        flavor=None, error=None, instance=NovaInstance(), has_image=False
    )


def test_who_a_guest_is_is_read_though_its_flavor_is_odd() -> None:
    owner = "<n:owner><n:user uuid='u1'>al\nice</n:user><n:project uuid='p1'>{}</n:project></n:owner>"
    metadata = parse(instance_xml("<n:name>web</n:name>" + owner.format("x" * 200) + "<n:flavor/>"))
    assert metadata is not None
    assert metadata.error == "<nova:flavor> without a name"
    assert metadata.instance == NovaInstance(
        instance_name="web",
        user_id="u1",
        user_name="al\ufffdice",
        project_id="p1",
        project_name="x" * 127 + "…",
    )


def test_the_image_that_a_guest_was_made_of_is_seen() -> None:
    metadata = parse(instance_xml(flavor_xml() + "<n:root type='image' uuid='155d900f'/>"))
    assert metadata is not None
    assert metadata.has_image


def test_ephemeral_disk_and_swap_may_be_missing() -> None:
    flavor = parse_flavor(flavor_xml(swap=None, ephemeral=None))
    assert flavor is not None
    assert (flavor.ephemeral_gb, flavor.swap_mb) == (0, 0)


def test_blanks_around_a_number_do_not_matter() -> None:
    assert parse_flavor(flavor_xml(vcpus="\n 2 ")) == FLAVOR


def test_of_the_extra_specs_those_that_claim_resources_are_read() -> None:
    """As Nova 33.1 writes them."""
    specs = {
        "hw_rng:allowed": "True",
        "resources:VCPU": "1",
        "resources:MEMORY_MB": "0",
        "resources:CUSTOM_GOLD": "1",
        "resources1:DISK_GB": "7",
    }
    elements = "".join(f"<n:extraSpec name='{name}'>{text}</n:extraSpec>" for name, text in specs.items())
    flavor = parse_flavor(flavor_xml(more=f"<n:extraSpecs>{elements}</n:extraSpecs>"))
    assert flavor is not None
    assert flavor.resources == {ResourceClass.VCPU: 1, ResourceClass.MEMORY_MB: 0}


@pytest.mark.parametrize("tag", ["memory", "disk", "vcpus"])
def test_a_number_that_every_flavor_has_must_not_be_missing(tag: str) -> None:
    assert refuse(flavor_xml(**{tag: None})) == f"<nova:{tag}> is '', not a whole number"


@pytest.mark.parametrize("tag", NUMBERS)
@pytest.mark.parametrize("text", ["", "two", "-1", "1.5", "0x2", "1" * 10, "٣", "1e3", "+1", "1_0"])
def test_what_is_no_number_is_refused_and_quoted(tag: str, text: str) -> None:
    assert refuse(flavor_xml(**{tag: text})) == f"<nova:{tag}> is {text!r}, not a whole number"


def test_only_the_beginning_of_nonsense_is_quoted() -> None:
    assert refuse(flavor_xml(vcpus="x" * 10_000)) == f"<nova:vcpus> is '{'x' * 20}', not a whole number"


def test_a_flavor_has_a_name() -> None:
    assert refuse(flavor_xml(name="")) == "<nova:flavor> without a name"


@pytest.mark.parametrize(
    ("specs", "policy"),
    [
        ({}, None),
        ({"hw:cpu_thread_policy": "require"}, "require"),
        ({"hw:cpu_thread_policy": "isolate"}, "isolate"),
        ({"hw:cpu_thread_policy": "prefer"}, None),
        ({"hw:cpu_thread_policy": "odd"}, None),
        ({"trait:HW_CPU_HYPERTHREADING": "forbidden"}, "isolate"),
        ({"trait:HW_CPU_HYPERTHREADING": "required"}, "require"),
    ],
)
def test_the_thread_policy_is_in_the_extra_specs(specs: dict[str, str], policy: str | None) -> None:
    elements = "".join(f"<n:extraSpec name='{name}'>{text}</n:extraSpec>" for name, text in specs.items())
    flavor = parse_flavor(flavor_xml(more=f"<n:extraSpecs>{elements}</n:extraSpecs>"))
    assert flavor.cpu_thread_policy == policy


def test_an_extra_spec_that_claims_nonsense_is_left_out_and_named() -> None:
    """Nova claims the flavor's own number then (`RequestGroup.add_resource`)."""
    specs = {
        "resources:VCPU": "many",
        "resources:VGPU": "-1",
        "resources1:VGPU": "2",
        "resources:MEMORY_MB": "7",
    }
    elements = "".join(f"<n:extraSpec name='{name}'>{text}</n:extraSpec>" for name, text in specs.items())
    metadata = parse(instance_xml(flavor_xml(more=f"<n:extraSpecs>{elements}</n:extraSpecs>")))
    assert metadata is not None
    assert metadata.flavor is not None
    assert metadata.flavor.resources == {ResourceClass.MEMORY_MB: 7}
    assert metadata.flavor.devices == (("VGPU", 2),)
    assert metadata.error == (
        "<nova:extraSpec resources:VCPU> is 'many', not a whole number;"
        " <nova:extraSpec resources:VGPU> is '-1', not a whole number"
    )
