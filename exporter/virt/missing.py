"""What to say when libvirt cannot be loaded: which of its parts is missing, and which package brings it."""

from __future__ import annotations

import sys


def explain_missing(error: ImportError, *, executable: str = sys.executable) -> str:
    """Return, in one line, what is missing and what to install.

    :param error: what importing libvirt-python raised: ModuleNotFoundError without it; otherwise the message
        is the dynamic linker's: "libvirt.so.0: cannot open shared object file: No such file or directory"
    :param executable: the interpreter that it is missing for
    """
    message = " ".join(str(error).split())
    if isinstance(error, ModuleNotFoundError) and error.name == "libvirt":
        return (
            f"libvirt-python, libvirt's Python binding, is missing for {executable}. Install it:"
            " apt-get install python3-libvirt, dnf install python3-libvirt, or into a virtual environment"
            " pip install libvirt-python; after make run, make clean run"
        )
    if message.startswith("libvirt") and "cannot open shared object file" in message:
        return (
            f"libvirt's C library is missing: {message}. Install it: apt-get install libvirt0,"
            " or dnf install libvirt-libs"
        )
    return (
        f"libvirt-python, libvirt's Python binding, cannot be loaded: {message}. Install it again:"
        " apt-get install --reinstall python3-libvirt libvirt0, dnf reinstall python3-libvirt libvirt-libs,"
        f" or {executable} -m pip install --force-reinstall --no-cache-dir libvirt-python"
    )
