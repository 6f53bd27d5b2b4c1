"""Run a command under the limits of a systemd unit, where there is no systemd.

usage: python3 confine.py ROOT SETTINGS COMMAND...

ROOT is the folder that the command sees as /. SETTINGS is JSON: what tests/packaging/unit_settings.py reads
from the unit and its drop-ins. This file does by hand what systemd does before it starts the program: user,
environment, namespaces, mounts, capabilities and every filter of system calls. It needs root and libseccomp.
A setting that it does not know is an error, so that no part of the unit is left out by accident.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import pwd
import resource
import socket
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

# What systemd does around the process (its start, cgroup and keyring). None of it can be applied here.
NOT_APPLIED = {
    *("Type", "EnvironmentFile", "ExecStart", "ExecReload", "Restart", "RestartSec", "WatchdogSec"),
    *("DevicePolicy", "KeyringMode", "ProtectControlGroups", "RemoveIPC", "TasksMax"),
}
# Settings that are applied below, always and with this value.
ALWAYS = {
    "CapabilityBoundingSet": "",
    "AmbientCapabilities": "",
    "NoNewPrivileges": "yes",
    "ProtectSystem": "strict",
    "ProtectHome": "read-only",
    "PrivateDevices": "yes",
    "PrivateUsers": "yes",
    "PrivateIPC": "yes",
    "ProtectHostname": "yes",
    "ProtectClock": "yes",
    "ProtectKernelLogs": "yes",
    "ProtectKernelModules": "yes",
    "ProtectKernelTunables": "yes",
    "ProtectProc": "invisible",
    "LockPersonality": "yes",
    "MemoryDenyWriteExecute": "yes",
    "RestrictNamespaces": "yes",
    "RestrictRealtime": "yes",
    "RestrictSUIDSGID": "yes",
    "SystemCallArchitectures": "native",
    "SystemCallErrorNumber": "EPERM",
}
VARIABLE = {
    *("User", "Group", "UMask", "LimitNOFILE", "PrivateTmp", "RestrictAddressFamilies", "SystemCallFilter"),
}

NEW_MOUNTS, NEW_HOST_NAME, NEW_IPC, NEW_USERS = 0x00020000, 0x04000000, 0x08000000, 0x10000000
ALL_NAMESPACES = 0x7E020080
PIVOT_ROOT, DETACH = {"x86_64": 155, "aarch64": 41}[os.uname().machine], 2
BOUNDING_SET_READ, BOUNDING_SET_DROP, NO_NEW_PRIVILEGES = 23, 24, 38
ALLOW, REFUSE = 0x7FFF0000, 0x00050000
LESS, EQUAL, GREATER, MASKED_EQUAL = 2, 4, 6, 7
EXECUTABLE, WRITABLE, SHM_EXECUTABLE = 4, 2, 0o100000
SET_ID_BITS = 0o6000

# The tree becomes the root by pivot_root: a process in a chroot may make no user namespace.
MOUNTS = """
set -e
mount --make-rprivate /
root=$1
mount --rbind "$root" "$root"
cd "$root"
mkdir -p dev proc tmp var/tmp
mount -t tmpfs -o mode=755 tmpfs dev
for name in null zero full random urandom tty; do : >dev/$name; mount --bind /dev/$name dev/$name; done
mkdir -m 1777 dev/shm
awk -v root="$root" 'index($5 "/", root "/") == 1 { print $5 }' /proc/self/mountinfo |
while read -r folder; do
    case $folder in "$root"/dev/*|"$root"/proc/*) ;; *) mount -o remount,bind,ro "$folder" ;; esac
done
mount -t proc -o hidepid=invisible proc proc
[ "$2" = no ] || for folder in tmp var/tmp; do mount -t tmpfs -o mode=1777 tmpfs $folder; done
"""

libc = ctypes.CDLL(None, use_errno=True)


class Comparison(ctypes.Structure):
    """libseccomp's struct scmp_arg_cmp."""

    _fields_ = (
        ("argument", ctypes.c_uint),
        ("how", ctypes.c_int),
        ("a", ctypes.c_uint64),
        ("b", ctypes.c_uint64),
    )


class Filter:
    """One filter of system calls, beside those that are loaded already: all of them have to allow a call."""

    def __init__(self, default: int) -> None:
        self._library = ctypes.CDLL("libseccomp.so.2")
        self._library.seccomp_init.restype = ctypes.c_void_p
        self._context = ctypes.c_void_p(self._library.seccomp_init(ctypes.c_uint32(default)))

    def add(self, action: int, call: str, *comparisons: Comparison) -> None:
        """Add a rule for a call; nothing if this kind of processor does not have the call."""
        number = self._library.seccomp_syscall_resolve_name(call.encode())
        if number < 0:
            return
        array = (Comparison * len(comparisons))(*comparisons)
        arguments = (self._context, ctypes.c_uint32(action), number, len(comparisons), array)
        refused = self._library.seccomp_rule_add_exact_array(*arguments)
        # A rule that does what the filter does anyway is refused.
        if refused not in (0, -errno.EACCES):
            raise OSError(-refused, f"seccomp rule for {call}")

    def load(self) -> None:
        refused = self._library.seccomp_load(self._context)
        if refused:
            raise OSError(-refused, "seccomp_load")


def main() -> None:
    settings: Mapping[str, str] = json.loads(sys.argv[2])
    _refuse_unknown(settings)
    _check(libc.unshare(NEW_MOUNTS | NEW_IPC | NEW_HOST_NAME))
    subprocess.run(["sh", "-c", MOUNTS, "sh", sys.argv[1], settings["PrivateTmp"]], check=True)
    _enter_root(sys.argv[1])
    user = pwd.getpwnam(settings["User"])
    _enter_user_namespace(user.pw_uid, user.pw_gid)
    os.umask(int(settings["UMask"], 8))
    resource.setrlimit(resource.RLIMIT_NOFILE, (int(settings["LimitNOFILE"]),) * 2)
    _drop_bounding_set()
    os.setgroups([])
    os.setresgid(user.pw_gid, user.pw_gid, user.pw_gid)
    os.setresuid(user.pw_uid, user.pw_uid, user.pw_uid)
    _check(libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0))
    # exec comes after the filters, as in systemd: each of them allows it.
    _load_filters(settings)
    environment = {
        "HOME": user.pw_dir,
        "USER": user.pw_name,
        "LOGNAME": user.pw_name,
        "SHELL": user.pw_shell,
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin",
        "LANG": "C.UTF-8",
    }
    os.execvpe(sys.argv[3], sys.argv[3:], environment)


def _refuse_unknown(settings: Mapping[str, str]) -> None:
    for name, value in settings.items():
        if name in ALWAYS and value != ALWAYS[name]:
            raise SystemExit(f"{name}={value}: only {name}={ALWAYS[name]} can be applied here")
        if name not in NOT_APPLIED | ALWAYS.keys() | VARIABLE:
            raise SystemExit(f"{name}={value}: this setting cannot be applied here")
    missing = (ALWAYS.keys() | VARIABLE) - settings.keys()
    if missing:
        raise SystemExit(f"the unit lacks what is applied here: {sorted(missing)}")


def _check(result: int) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _enter_root(root: str) -> None:
    os.chdir(root)
    # The old root lies below the new one, and is not seen any more.
    _check(libc.syscall(PIVOT_ROOT, b".", b"."))
    _check(libc.umount2(b".", DETACH))
    os.chdir("/")


def _enter_user_namespace(uid: int, gid: int) -> None:
    """Enter a namespace that knows root and this user only. A process outside it has to write the maps."""
    to_child, to_parent = os.pipe(), os.pipe()
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        os.read(to_child[0], 1)
        Path(f"/proc/{parent}/uid_map").write_text(f"0 0 1\n{uid} {uid} 1\n")
        Path(f"/proc/{parent}/gid_map").write_text(f"0 0 1\n{gid} {gid} 1\n")
        os.write(to_parent[1], b".")
        os._exit(0)
    _check(libc.unshare(NEW_USERS))
    os.write(to_child[1], b".")
    os.waitpid(child, 0)
    if os.read(to_parent[0], 1) != b".":
        raise SystemExit("the user namespace could not be made")


def _drop_bounding_set() -> None:
    capability = 0
    while libc.prctl(BOUNDING_SET_READ, capability, 0, 0, 0) >= 0:
        _check(libc.prctl(BOUNDING_SET_DROP, capability, 0, 0, 0))
        capability += 1


def _load_filters(settings: Mapping[str, str]) -> None:
    _restrict_families(settings["RestrictAddressFamilies"].split())
    _refuse_bits("unshare", 0, ALL_NAMESPACES)
    _refuse_bits("setns", 1, ALL_NAMESPACES)
    _refuse_bits("clone", 0, ALL_NAMESPACES)
    # The flags of clone3 are in memory, unseen by filters: systemd refuses it, and the C library uses clone.
    _refuse_always("clone3", errno.ENOSYS)
    # MemoryDenyWriteExecute
    _refuse_bits("mprotect", 2, EXECUTABLE)
    _refuse_bits("pkey_mprotect", 2, EXECUTABLE)
    _refuse_bits("mmap", 2, EXECUTABLE | WRITABLE, together=True)
    _refuse_bits("shmat", 2, SHM_EXECUTABLE)
    # RestrictSUIDSGID
    modes = {"chmod": 1, "fchmod": 1, "fchmodat": 2, "mkdir": 1, "mkdirat": 2, "mknod": 1, "mknodat": 2}
    for call, argument in modes.items():
        _refuse_bits(call, argument, SET_ID_BITS)
    # LockPersonality
    _refuse_always("personality", errno.EPERM)
    # Last, because it also refuses the call that loads a filter.
    _allow_only(settings["SystemCallFilter"].split())


def _restrict_families(names: Iterable[str]) -> None:
    allowed = sorted(getattr(socket, name).value for name in names)
    calls = Filter(ALLOW)
    refuse = REFUSE | errno.EAFNOSUPPORT
    calls.add(refuse, "socket", Comparison(0, LESS, allowed[0], 0))
    calls.add(refuse, "socket", Comparison(0, GREATER, allowed[-1], 0))
    for family in set(range(allowed[0], allowed[-1])).difference(allowed):
        calls.add(refuse, "socket", Comparison(0, EQUAL, family, 0))
    calls.load()


def _refuse_bits(call: str, argument: int, bits: int, *, together: bool = False) -> None:
    """Refuse a call with one of these bits in its argument, or only with all of them."""
    calls = Filter(ALLOW)
    groups = [bits] if together else [1 << place for place in range(bits.bit_length()) if bits >> place & 1]
    for group in groups:
        calls.add(REFUSE | errno.EPERM, call, Comparison(argument, MASKED_EQUAL, group, group))
    calls.load()


def _refuse_always(call: str, number: int) -> None:
    calls = Filter(ALLOW)
    calls.add(REFUSE | number, call)
    calls.load()


def _allow_only(names: Iterable[str]) -> None:
    calls = Filter(REFUSE | errno.EPERM)
    for name in names:
        calls.add(ALLOW, name)
    calls.load()


if __name__ == "__main__":
    main()
