"""Node devices that are not here, as libvirt describes them (https://libvirt.org/formatnode.html)."""

from __future__ import annotations

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
