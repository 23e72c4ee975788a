"""Children in pid namespaces of their own, as in containers that share one folder."""

import ctypes
import os

from ring_parts import die_with_parent

_CLONE_NEWNS, _CLONE_NEWPID = 0x20000, 0x20000000
_MS_REC, _MS_PRIVATE = 0x4000, 1 << 18
_PR_SET_CHILD_SUBREAPER = 36
_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int) -> None:
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def fork_in_container() -> int:
    """As `os.fork`, but the child is process 1 of a new pid namespace with a /proc of its own; its pid here is returned.

    Raises OSError where that is not allowed, in the parent.
    """
    _check(_libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))  # the child becomes ours when the one between ends
    told, tell = os.pipe()
    wait, go = os.pipe()
    between = os.fork()
    if not between:
        try:
            _check(_libc.unshare(_CLONE_NEWPID | _CLONE_NEWNS))
            child = os.fork()
            if child:
                os.write(tell, child.to_bytes(8, "little"))
                os._exit(0)
        except OSError as error:
            os.write(tell, (-(error.errno or 1)).to_bytes(8, "little", signed=True))
            os._exit(1)
        os.close(told)
        os.close(go)
        _check(_libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None))
        _check(_libc.mount(b"proc", b"/proc", b"proc", 0, None))
        os.read(wait, 1)  # until the one between is gone: only then is our parent the one to die with
        die_with_parent()
        return 0
    pid = int.from_bytes(os.read(told, 8), "little", signed=True)
    os.waitpid(between, 0)
    os.write(go, b"!")
    for descriptor in (told, tell, wait, go):
        os.close(descriptor)
    if pid < 0:
        raise OSError(-pid, os.strerror(-pid))
    return pid


def allowed() -> bool:
    """Whether this process may make such children."""
    try:
        pid = fork_in_container()
    except OSError:
        return False
    if not pid:
        os._exit(0)
    return os.waitpid(pid, 0)[1] == 0
