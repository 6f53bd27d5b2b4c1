"""Nova's metadata of a guest: <nova:instance>, with its flavor."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from xml.etree import ElementTree

from exporter.label import make_label_value
from exporter.model import DeviceClass, NovaFlavor, NovaInstance, ResourceClass

# The newer one first: after an upgrade of Nova, libvirt keeps the metadata of both.
NAMESPACES = (
    "http://openstack.org/xmlns/libvirt/nova/1.1",
    "http://openstack.org/xmlns/libvirt/nova/1.0",
)

# Larger than any flavor. Small enough that the sum over all guests is exact in a sample.
_COUNT = re.compile(r"[0-9]{1,9}")
# Such as resources:VGPU or resources_gpu1:CUSTOM_A: a class of Placement, and a group of the request.
_DEVICE_SPEC = re.compile(r"resources[a-zA-Z0-9_-]{0,64}:([A-Z0-9_]{1,255})", re.ASCII)
# Of the odd extra specs of one flavor, so many are named.
_MAX_NAMED = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class NovaMetadata:
    """A guest's metadata.

    :ivar error: why the flavor, or an extra spec of it, could not be read
    """

    flavor: NovaFlavor | None
    error: str | None
    instance: NovaInstance
    has_image: bool  # <nova:root>, which Nova leaves out for a guest that boots from a volume


def parse_nova_metadata(domain: ElementTree.Element) -> NovaMetadata | None:
    """Parse a domain's metadata (Nova's LibvirtConfigGuestMetaNovaInstance); None if Nova wrote none.

    Errors are in the result, because the rest of the domain is still useful.
    """
    for namespace in NAMESPACES:
        instance = domain.find(f"metadata/{{{namespace}}}instance")
        if instance is not None:
            return _parse_instance(instance, f"{{{namespace}}}")
    return None


def _parse_instance(instance: ElementTree.Element, namespace: str) -> NovaMetadata:
    has_image = instance.find(f"{namespace}root") is not None
    who = _read_identity(instance, namespace)
    element = instance.find(f"{namespace}flavor")
    if element is None:
        return NovaMetadata(flavor=None, error=None, instance=who, has_image=has_image)
    odd: list[str] = []
    try:
        flavor = _parse_flavor(element, namespace, odd)
    except ValueError as error:
        return NovaMetadata(flavor=None, error=str(error), instance=who, has_image=has_image)
    error_text = "; ".join(odd[:_MAX_NAMED]) or None
    return NovaMetadata(flavor=flavor, error=error_text, instance=who, has_image=has_image)


def _read_identity(instance: ElementTree.Element, namespace: str) -> NovaInstance:
    """Return who the guest is. Its user chose some of these texts: they are cut, and cleaned."""

    def child(path: str) -> ElementTree.Element:
        found = instance.find("/".join(f"{namespace}{part}" for part in path.split("/")))
        return ElementTree.Element(path) if found is None else found

    project, user = child("owner/project"), child("owner/user")
    root = child("root")
    return NovaInstance(
        instance_name=make_label_value(child("name").text or ""),
        project_id=make_label_value(project.get("uuid", "")),
        project_name=make_label_value(project.text or ""),
        user_id=make_label_value(user.get("uuid", "")),
        user_name=make_label_value(user.text or ""),
        image_id=make_label_value(root.get("uuid", "") if root.get("type", "image") == "image" else ""),
    )


def _parse_flavor(element: ElementTree.Element, namespace: str, odd: list[str]) -> NovaFlavor:
    """Return the flavor.

    :param odd: gets why an extra spec was left out, for each one
    :raises ValueError: if one of the flavor's own numbers is odd
    """
    name = element.get("name", "")
    if not name:
        raise ValueError("<nova:flavor> without a name")
    return NovaFlavor(
        name=name,
        vcpus=_count(element, namespace, "vcpus"),
        memory_mb=_count(element, namespace, "memory"),
        root_gb=_count(element, namespace, "disk"),
        ephemeral_gb=_count(element, namespace, "ephemeral", absent="0"),
        swap_mb=_count(element, namespace, "swap", absent="0"),
        resources=dict(_list_resources(element, namespace, odd)),
        devices=tuple(_list_devices(element, namespace, odd)),
        cpu_thread_policy=_read_thread_policy(element, namespace),
    )


def _list_resources(
    element: ElementTree.Element, namespace: str, odd: list[str]
) -> Iterator[tuple[ResourceClass, int]]:
    """Yield the extra specs, which Nova writes since 32.0. They replace the flavor's own numbers."""
    for spec in element.iterfind(f"{namespace}extraSpecs/{namespace}extraSpec"):
        prefix, _, name = spec.get("name", "").partition(":")
        if prefix == "resources" and name in ResourceClass.__members__:
            amount = _parse_amount(spec, odd)
            if amount is not None:
                yield ResourceClass[name], amount


def _list_devices(
    element: ElementTree.Element, namespace: str, odd: list[str]
) -> Iterator[tuple[DeviceClass, int]]:
    """Yield what the extra specs ask for of devices: resources:VGPU, or resources1:VGPU of a group."""
    for spec in element.iterfind(f"{namespace}extraSpecs/{namespace}extraSpec"):
        match = _DEVICE_SPEC.fullmatch(spec.get("name", ""))
        if match is not None and match[1] not in ResourceClass.__members__:
            amount = _parse_amount(spec, odd)
            if amount:
                yield DeviceClass(match[1]), amount


def _parse_amount(spec: ElementTree.Element, odd: list[str]) -> int | None:
    """Return the amount of an extra spec; None if it is odd. Nova leaves it out then (`add_resource`)."""
    try:
        return _parse_count(spec.text or "", f"extraSpec {spec.get('name', '')[:40]}")
    except ValueError as error:
        odd.append(str(error))
        return None


def _read_thread_policy(element: ElementTree.Element, namespace: str) -> str | None:
    """Return the policy, or what the trait stands for (numa_get_constraints); None if it is "prefer"."""
    specs = {
        spec.get("name"): (spec.text or "").strip()
        for spec in element.iterfind(f"{namespace}extraSpecs/{namespace}extraSpec")
    }
    trait = {"required": "require", "forbidden": "isolate"}.get(specs.get("trait:HW_CPU_HYPERTHREADING", ""))
    policy = specs.get("hw:cpu_thread_policy")
    return policy if policy in ("require", "isolate") else trait


def _count(element: ElementTree.Element, namespace: str, tag: str, *, absent: str = "") -> int:
    return _parse_count(element.findtext(f"{namespace}{tag}", absent), tag)


def _parse_count(text: str, what: str) -> int:
    if not _COUNT.fullmatch(text.strip()):
        raise ValueError(f"<nova:{what}> is {text.strip()[:20]!r}, not a whole number")
    return int(text)
