"""Seccomp: a process gives up the system calls that read files do not need (man 2 seccomp). Linux on x86-64 and ARM64.

Refused are sockets, new programs and processes, signals to others, tracing, mounts, keys, and the calls with which
attackers break out of the kernel. Threads stay allowed: video decoders use them.
"""

import ctypes
import errno
import os
import platform
import struct
import sys
from dataclasses import dataclass

_PR_SET_SECCOMP = 22
_MODE_FILTER = 2

# Actions of a filter (linux/seccomp.h).
_ALLOW = 0x7FFF0000
_KILL_PROCESS = 0x80000000
_REFUSE = 0x00050000 | errno.EPERM
# glibc's pthread_create then falls back from clone3, whose flags a filter cannot read, to clone.
_NOT_IMPLEMENTED = 0x00050000 | errno.ENOSYS

# Instructions of a filter (linux/bpf_common.h): load a word, jump, return.
_LOAD, _JUMP_EQUAL, _JUMP_GREATER_EQUAL, _JUMP_SET, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
# Offsets in the data that a filter reads (struct seccomp_data); arguments are 8 bytes, the lower half first.
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16

_CLONE_THREAD = 0x00010000
# Calls of the x32 ABI, which have numbers of their own.
_X32_BIT = 0x40000000

# Since Linux 5.1 new calls have the same number everywhere: pidfd_send_signal, io_uring_setup, io_uring_enter,
# io_uring_register, open_tree, move_mount, fsopen, fsconfig, fsmount, fspick, pidfd_open, pidfd_getfd,
# process_madvise, mount_setattr, memfd_secret.
_REFUSED_EVERYWHERE = (424, 425, 426, 427, 428, 429, 430, 431, 432, 433, 434, 438, 440, 442, 447)
_CLONE3 = 435


@dataclass(frozen=True)
class _Machine:
    """`_Machine` holds a processor's numbers (AUDIT_ARCH, and __NR_ of unistd.h).

    own_only: calls whose first argument may be this process, or 0, and no other.
    """

    architecture: int
    clone: int
    own_only: tuple[int, ...]
    refused: tuple[int, ...]


_MACHINES = {
    "x86_64": _Machine(
        architecture=0xC000003E,
        clone=56,
        own_only=(62, 234, 302),  # kill, tgkill, prlimit64
        refused=(
            *(41, 42, 43, 49, 50, 53, 288),  # socket, connect, accept, bind, listen, socketpair, accept4
            *(57, 58, 59, 322),  # fork, vfork, execve, execveat
            *(101, 310, 311, 312),  # ptrace, process_vm_readv, process_vm_writev, kcmp
            *(129, 200, 297),  # rt_sigqueueinfo, tkill, rt_tgsigqueueinfo
            *(29, 30, 64, 68, 240),  # shmget, shmat, semget, msgget, mq_open
            *(155, 161, 165, 166, 272, 308),  # pivot_root, chroot, mount, umount2, unshare, setns
            *(
                248,
                249,
                250,
                298,
                321,
                323,
            ),  # add_key, request_key, keyctl, perf_event_open, bpf, userfaultfd
            *(135, 154, 160, 303, 304),  # personality, modify_ldt, setrlimit, the two of file handles
        ),
    ),
    "aarch64": _Machine(
        architecture=0xC00000B7,
        clone=220,
        own_only=(129, 131, 261),
        refused=(
            *(198, 203, 202, 200, 201, 199, 242),
            *(221, 281),
            *(117, 270, 271, 272),
            *(138, 130, 240),
            *(194, 196, 190, 186, 180),
            *(41, 51, 40, 39, 97, 268),
            *(217, 218, 219, 241, 280, 282),
            *(92, 164, 264, 265),
        ),
    ),
}


def refuse_system_calls() -> bool:
    """Refuse the calls above to this process, for ever. Returns False where there is no filter for this machine.

    PR_SET_NO_NEW_PRIVS must be set, and the process must have one thread.
    """
    machine = _MACHINES.get(platform.machine())
    if sys.platform != "linux" or machine is None or sys.byteorder != "little":
        return False
    program = _build_filter(machine, os.getpid())
    buffer = ctypes.create_string_buffer(program)
    header = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    return bool(libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, header, 0, 0) == 0)


def _build_filter(machine: _Machine, pid: int) -> bytes:
    """Return a program of instructions (code, jump if true, jump if false, value)."""
    instructions = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_JUMP_EQUAL, 1, 0, machine.architecture),
        (_RETURN, 0, 0, _KILL_PROCESS),
        (_LOAD, 0, 0, _NUMBER),
    ]
    if machine.architecture == _MACHINES["x86_64"].architecture:
        instructions += [(_JUMP_GREATER_EQUAL, 0, 1, _X32_BIT), (_RETURN, 0, 0, _NOT_IMPLEMENTED)]
    for number in (*machine.refused, *_REFUSED_EVERYWHERE):
        instructions += [(_JUMP_EQUAL, 0, 1, number), (_RETURN, 0, 0, _REFUSE)]
    instructions += [(_JUMP_EQUAL, 0, 1, _CLONE3), (_RETURN, 0, 0, _NOT_IMPLEMENTED)]
    for number in machine.own_only:
        instructions += [
            (_JUMP_EQUAL, 0, 5, number),
            (_LOAD, 0, 0, _FIRST_ARGUMENT),
            (_JUMP_EQUAL, 1, 0, pid),
            (_JUMP_EQUAL, 0, 1, 0),
            (_RETURN, 0, 0, _ALLOW),
            (_RETURN, 0, 0, _REFUSE),
        ]
    instructions += [
        (_JUMP_EQUAL, 0, 3, machine.clone),
        (_LOAD, 0, 0, _FIRST_ARGUMENT),
        (_JUMP_SET, 1, 0, _CLONE_THREAD),
        (_RETURN, 0, 0, _REFUSE),
        (_RETURN, 0, 0, _ALLOW),
    ]
    return b"".join(struct.pack("HBBI", *instruction) for instruction in instructions)
