"""Landlock: a process gives up the file system but for a few folders, and the network (docs.kernel.org/userspace-api/
landlock.html). Linux only, from 5.13; each later version of the kernel's interface adds rights that can be given up."""

import ctypes
import os
import platform
import struct
import sys
from collections.abc import Iterable
from pathlib import Path

# The numbers are the same on all architectures but alpha.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_GET_VERSION = 1
_RULE_PATH_BENEATH = 1

# Rights to files, as bits (linux/landlock.h).
_WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 1, 1 << 2, 1 << 3
_REMOVE_DIR, _REMOVE_FILE, _MAKE_DIR, _MAKE_REG, _MAKE_SYM = 1 << 4, 1 << 5, 1 << 7, 1 << 8, 1 << 12
_TRUNCATE = 1 << 14
_FILE_RIGHTS_OF_VERSION_1 = (1 << 13) - 1
# Rights that a version adds: to link across folders, to truncate, to control devices.
_ADDED_FILE_RIGHTS = {2: 1 << 13, 3: _TRUNCATE, 5: 1 << 15}
# Version 4: to bind and to connect TCP sockets. Version 6: to reach abstract unix sockets and to signal others.
_NETWORK_RIGHTS = 0b11
_SCOPES = 0b11

_READ = _READ_FILE | _READ_DIR
_WRITE = _READ | _WRITE_FILE | _REMOVE_DIR | _REMOVE_FILE | _MAKE_DIR | _MAKE_REG | _MAKE_SYM | _TRUNCATE


def landlock_version() -> int:
    """Return the version of the kernel's interface; 0 where there is none."""
    if sys.platform != "linux" or platform.machine() == "alpha":
        return 0
    return max(0, int(_libc().syscall(_CREATE_RULESET, None, 0, _GET_VERSION)))


def restrict_files(readable: Iterable[Path], writable: Iterable[Path]) -> bool:
    """Let this process reach nothing but these files and folders, for ever. Returns False where Landlock is missing.

    PR_SET_NO_NEW_PRIVS must be set. Files that are open already stay open. Raises OSError.
    """
    version = landlock_version()
    if not version:
        return False
    handled = _FILE_RIGHTS_OF_VERSION_1
    for since, right in _ADDED_FILE_RIGHTS.items():
        handled |= right if version >= since else 0
    attributes = struct.pack(
        "QQQ", handled, _NETWORK_RIGHTS if version >= 4 else 0, _SCOPES if version >= 6 else 0
    )[: 24 if version >= 6 else 16 if version >= 4 else 8]
    ruleset = _call(_CREATE_RULESET, attributes, len(attributes), 0)
    try:
        for paths, rights in ((readable, _READ), (writable, _WRITE)):
            for path in paths:
                _allow(ruleset, path, rights & handled)
        _call(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)
    return True


def _allow(ruleset: int, path: Path, rights: int) -> None:
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not path.is_dir():
            rights &= _READ_FILE | _WRITE_FILE | _TRUNCATE
        _call(_ADD_RULE, ruleset, _RULE_PATH_BENEATH, struct.pack("=Qi", rights, descriptor), 0)
    finally:
        os.close(descriptor)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _call(number: int, *arguments: int | bytes) -> int:
    result = int(_libc().syscall(number, *arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
