"""What is said when libvirt cannot be loaded: which part is missing, and what brings it here."""

from __future__ import annotations

import pytest

from exporter.virt.missing import explain_missing

NO_BINDING = ModuleNotFoundError("No module named 'libvirt'", name="libvirt")
NO_LIBRARY = ImportError("libvirt.so.0: cannot open shared object file: No such file or directory")
MISFIT = ImportError("libvirtmod.so: undefined symbol: virGone")


@pytest.mark.parametrize(
    ("error", "is_virtual", "action"),
    [
        (NO_BINDING, False, "apt-get install python3-libvirt, or dnf install python3-libvirt"),
        (NO_BINDING, True, "/venv/bin/python -m pip install libvirt-python"),
        (NO_LIBRARY, False, "apt-get install libvirt0, or dnf install libvirt-libs"),
        (NO_LIBRARY, True, "apt-get install libvirt0, or dnf install libvirt-libs"),
        (MISFIT, False, "apt-get install --reinstall python3-libvirt"),
        (MISFIT, True, "/venv/bin/python -m pip install --force-reinstall --no-cache-dir libvirt-python"),
    ],
)
def test_the_remedy_is_one_for_this_interpreter(error: ImportError, is_virtual: bool, action: str) -> None:
    """Shows that nobody installs a package that a virtual environment does not look at."""
    said = explain_missing(error, executable="/venv/bin/python", is_virtual=is_virtual)
    assert action in said
    assert "\n" not in said
