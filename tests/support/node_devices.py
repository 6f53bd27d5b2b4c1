"""Node devices that are not here, as libvirt describes them (https://libvirt.org/formatnode.html)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

NETWORK_CARD = """<device>
  <name>pci_0000_02_00_0</name>
  <path>/sys/devices/pci0000:00/0000:00:02.0/0000:02:00.0</path>
  <parent>computer</parent>
  <driver><name>i40e</name></driver>
  <capability type='pci'>
    <class>0x020000</class>
    <domain>0</domain><bus>2</bus><slot>0</slot><function>0</function>
    <product id='0x1572'>Ethernet Controller X710 for 10GbE SFP+</product>
    <vendor id='0x8086'>Intel Corporation</vendor>
    <capability type='virt_functions' maxCount='64'>
      <address domain='0x0000' bus='0x02' slot='0x02' function='0x0'/>
    </capability>
    <capability type='vpd'>
      <name>XL710 40GbE Controller</name>
      <fields access='readonly'><part_number>H21561-002</part_number>
        <serial_number>3CFDFE9E2A10</serial_number></fields>
    </capability>
    <numa node='0'/>
  </capability>
</device>"""

VIRTUAL_FUNCTION = """<device>
  <name>pci_0000_02_02_0</name>
  <parent>pci_0000_02_00_0</parent>
  <driver><name>iavf</name></driver>
  <capability type='pci'>
    <class>0x020000</class>
    <domain>0</domain><bus>2</bus><slot>2</slot><function>0</function>
    <product id='0x154c'>Ethernet Virtual Function 700 Series</product>
    <vendor id='0x8086'>Intel Corporation</vendor>
    <capability type='phys_function'>
      <address domain='0x0000' bus='0x02' slot='0x00' function='0x0'/>
    </capability>
    <numa node='0'/>
  </capability>
</device>"""

# A card that mediated devices are made of.
GPU = """<device>
  <name>pci_0000_84_00_0</name>
  <parent>computer</parent>
  <driver><name>nvidia</name></driver>
  <capability type='pci'>
    <class>0x030000</class>
    <domain>0</domain><bus>132</bus><slot>0</slot><function>0</function>
    <product id='0x13f2'>GM204GL [Tesla M60]</product>
    <vendor id='0x10de'>NVIDIA Corporation</vendor>
    <capability type='mdev_types'>
      <type id='nvidia-11'><name>GRID M60-0B</name><deviceAPI>vfio-pci</deviceAPI>
        <availableInstances>16</availableInstances></type>
      <type id='nvidia-12'><name>GRID M60-0Q</name><deviceAPI>vfio-pci</deviceAPI>
        <availableInstances>4</availableInstances></type>
    </capability>
  </capability>
</device>"""

# Behind a bridge of its own domain, as Intel's VMD makes them: Nova leaves such devices out.
BEYOND_DOMAINS = """<device>
  <name>pci_10000_01_00_0</name>
  <parent>computer</parent>
  <capability type='pci'>
    <domain>65536</domain><bus>1</bus><slot>0</slot><function>0</function>
    <product id='0x0a54'/><vendor id='0x8086'/>
  </capability>
</device>"""

NETWORK_INTERFACE = """<device>
  <name>net_eth7_3c_fd_fe_9e_2a_10</name>
  <parent>pci_0000_02_00_0</parent>
  <capability type='net'>
    <interface>eth7</interface><address>3c:fd:fe:9e:2a:10</address><link speed='10000' state='up'/>
    <capability type='80203'/>
  </capability>
</device>"""

VDPA = """<device>
  <name>vdpa_vdpa0</name>
  <parent>pci_0000_02_02_0</parent>
  <capability type='vdpa'><chardev>/dev/vhost-vdpa-0</chardev></capability>
</device>"""


def write_test_host(path: Path, *devices: str) -> str:
    """Write a host with these devices for libvirt's test driver, and return its URI.

    That driver knows all of these but VDPA, of which it refuses the whole host.
    """
    pool = "<pool type='dir'><name>vms</name><target><path>/vms</path></target></pool>"
    path.write_text(f"<node>{pool}{''.join(devices)}</node>")
    return f"test://{path}"


def make_card(address: str, types: Mapping[str, int]) -> str:
    """Return a card at a PCI address such as 0000:84:00.0, of whose types so many devices can be made."""
    domain, bus, slot, function = (int(each, 16) for each in address.replace(".", ":").split(":"))
    listed = "".join(
        f"<type id='{name}'><deviceAPI>vfio-pci</deviceAPI>"
        f"<availableInstances>{count}</availableInstances></type>"
        for name, count in types.items()
    )
    return f"""<device>
  <name>{_name_card(address)}</name>
  <parent>computer</parent>
  <capability type='pci'>
    <class>0x030200</class>
    <domain>{domain}</domain><bus>{bus}</bus><slot>{slot}</slot><function>{function}</function>
    <product id='0x20b5'/><vendor id='0x10de'/>
    <capability type='mdev_types'>{listed}</capability>
  </capability>
</device>"""


def make_mdev(uuid: str, parent: str, mdev_type: str) -> str:
    """Return a mediated device of the card at a PCI address, as libvirt writes it since 7.3."""
    card = _name_card(parent)
    return f"""<device>
  <name>mdev_{uuid.replace("-", "_")}_{card.removeprefix("pci_")}</name>
  <path>/sys/devices/pci0000:00/{parent}/{uuid}</path>
  <parent>{card}</parent>
  <driver><name>vfio_mdev</name></driver>
  <capability type='mdev'>
    <type id='{mdev_type}'/>
    <uuid>{uuid}</uuid>
    <parent_addr>{parent}</parent_addr>
    <iommuGroup number='12'/>
  </capability>
</device>"""


def _name_card(address: str) -> str:
    return "pci_" + address.replace(":", "_").replace(".", "_")


def make_pci_xml(
    address: str,
    *,
    vendor_id: str = "8086",
    product_id: str = "154c",
    parent: str | None = None,
    has_functions: bool = False,
) -> str:
    """Return a PCI device: a card, with virtual functions or without, or one of its functions.

    :param parent: the address of the card that it is a virtual function of
    """
    domain, bus, slot, function = (int(each, 16) for each in address.replace(".", ":").split(":"))
    capability = "<capability type='virt_functions' maxCount='8'/>" if has_functions else ""
    if parent is not None:
        fields = zip(("domain", "bus", "slot", "function"), parent.replace(".", ":").split(":"), strict=True)
        attributes = " ".join(f"{name}='0x{text}'" for name, text in fields)
        capability = f"<capability type='phys_function'><address {attributes}/></capability>"
    return f"""<device>
  <name>{_name_card(address)}</name>
  <parent>computer</parent>
  <capability type='pci'>
    <domain>{domain}</domain><bus>{bus}</bus><slot>{slot}</slot><function>{function}</function>
    <product id='0x{product_id}'/><vendor id='0x{vendor_id}'/>
    {capability}
  </capability>
</device>"""
