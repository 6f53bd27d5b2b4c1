"""The message if libvirt cannot be loaded: the missing part, and its package."""

from __future__ import annotations

import sys


def explain_missing(
    error: ImportError,
    *,
    executable: str = sys.executable,
    is_virtual: bool = sys.prefix != sys.base_prefix,
) -> str:
    """Return, in one line, what is missing and what to install.

    :param error: the error of importing libvirt-python: ModuleNotFoundError if it is missing; otherwise the
        message comes from the dynamic linker: "libvirt.so.0: cannot open shared object file: No such file or
        directory"
    :param executable: the interpreter that it is missing for
    :param is_virtual: whether it belongs to a virtual environment, which does not see the system's packages
    """
    message = " ".join(str(error).split())
    if message.startswith("libvirt") and "cannot open shared object file" in message:
        return (
            f"libvirt's C library is missing: {message}. Install it: apt-get install libvirt0,"
            " or dnf install libvirt-libs"
        )
    if isinstance(error, ModuleNotFoundError) and error.name == "libvirt":
        wrong = f"is missing for {executable}. Install it"
        pip, apt, dnf = "install", "install", "install"
    else:
        wrong = f"cannot be loaded by {executable}: {message}. Install it again"
        pip, apt, dnf = "install --force-reinstall --no-cache-dir", "install --reinstall", "reinstall"
    action = (
        f"{executable} -m pip {pip} libvirt-python (in a checkout: make clean run)"
        if is_virtual
        else f"apt-get {apt} python3-libvirt, or dnf {dnf} python3-libvirt"
    )
    return f"libvirt-python, libvirt's Python binding, {wrong}: {action}"
