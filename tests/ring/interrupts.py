"""An exception at every point where that of a signal handler (Ctrl-C) may come, one after another.

CPython calls signal handlers after calls and at jumps back, never inside of a C function that does not ask for them.
"""

import dis
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import CodeType, FrameType

import embodichain.ring

_POINTS = {"RESUME", "CALL", "CALL_FUNCTION_EX", "CALL_KW", "JUMP_BACKWARD"}
_FOLDER = str(Path(embodichain.ring.__file__).parent)
_LIBRARY = ("contextlib.py", "weakref.py")


class Interrupt(BaseException):
    """What the handler raises."""


@cache
def _is_ours(code: CodeType) -> bool:
    return code.co_filename.startswith(_FOLDER) or Path(code.co_filename).name in _LIBRARY


@cache
def _operations(code: CodeType) -> dict[int, str]:
    return {instruction.offset: instruction.opname for instruction in dis.get_instructions(code)}


def interrupt(operation: Callable[[], object], at: int, handler: Callable[[], object] | None = None) -> str:
    """Runs an operation and interrupts it at the `at`-th point in the ring's code; returns where, and "" if it has fewer points.

    With a `handler`, that is called at this point, and the operation goes on afterwards.
    """
    passed, where = 0, ""
    last: dict[FrameType, int] = {}

    def local(frame: FrameType, event: str, _: object) -> object:
        nonlocal passed, where
        if event == "opcode":
            before, last[frame] = last.get(frame, -1), frame.f_lasti
            if _operations(frame.f_code).get(before) in _POINTS:
                passed += 1
                if passed == at:
                    where = f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno} {frame.f_code.co_name}"
                    last.clear()
                    if handler is None:
                        raise Interrupt
                    handler()
        elif event == "return":
            last.pop(frame, None)
        return local

    def enter(frame: FrameType, _event: str, _argument: object) -> object:
        if where or not _is_ours(frame.f_code):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return local

    before = sys.gettrace()
    sys._getframe().f_trace_opcodes = True  # Python 3.12 follows single operations only if a frame asked for it by now
    sys.settrace(enter)
    try:
        operation()
    except Interrupt:
        pass
    finally:
        sys.settrace(before)
        last.clear()
    return where


def interruptions(operation: Callable[[], object], step: int = 1) -> Iterator[str]:
    """Runs the operation again and again, interrupted at every `step`-th point in turn; yields where, after each run."""
    at = 1
    while where := interrupt(operation, at):
        yield where
        at += step
