"""How long a process was ready to run but had no core. Time limits must not count this, or a busy machine would refuse files."""

from __future__ import annotations

from pathlib import Path


def starved_s(pid: int) -> float:
    """Time in which the main thread of a process was ready to run and another ran instead [s]; 0 where Linux does not count it.

    Time in which a process sleeps or waits for others is not included, so a process that hangs still reaches its limit.
    """
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text(encoding="ascii").split()[1]) * 1e-9
    except (OSError, ValueError, IndexError):
        return 0.0
