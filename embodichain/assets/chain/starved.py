"""How long a process had work and no core: what a time limit must not count, or a busy machine refuses files."""

from __future__ import annotations

from pathlib import Path


def starved_s(pid: int) -> float:
    """Seconds in which the main thread of a process was ready to run and another ran instead; 0 where Linux does not count them.

    What a process sleeps or waits for others is not in it, so that one which hangs comes to the end of its time all the same.
    """
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text(encoding="ascii").split()[1]) * 1e-9
    except (OSError, ValueError, IndexError):
        return 0.0
