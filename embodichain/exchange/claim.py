"""The folder of a data set while one writer has it: proven to be ours, of one layout, and locked against a second writer."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType

from embodichain import __version__
from embodichain.errors import ConfigError
from embodichain.exchange.files import PARTIAL, read_json, write_json
from embodichain.exchange.recorded import DatasetLayout
from embodichain.ring.locks import inode, names
from embodichain.types import LOCK_FILE

__all__ = ["FolderClaim", "Form", "check", "clear"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """How the folder of one format is recognised; paths are relative to the folder."""

    name: str
    mark: Path
    """Our own file, written before any other: where it is missing, nothing in the folder is ours."""
    counted: Path
    """What is there as soon as an episode counts."""
    second: str
    """Glob pattern of what is there only after a first episode was counted and a second begun."""


class FolderClaim:
    """Holds a folder for one writer until `release`, or until the process ends. Owned by one thread."""

    def __init__(self, folder: Path, form: Form, layout: DatasetLayout, command: str, *, resume: bool) -> None:
        """Makes and locks the folder, and marks it as ours. Raises ConfigError as `check` does, and when another writer has it."""
        check(folder, form, layout, resume=resume)  # before anything is made
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / LOCK_FILE
        self._descriptor = _locked(self._path)
        try:
            # Once more, because another writer may have begun the data set before the folder was locked.
            self.going_on = check(folder, form, layout, resume=resume)
            """Whether there is a data set to go on with."""
            if not self.going_on:
                mark = {"format": 1, "form": form.name, "engine_version": __version__, "command": command}
                write_json(folder / form.mark, mark | {"layout": asdict(layout)})
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Gives the folder back; safe to call twice."""
        if self._descriptor >= 0:
            self._path.unlink(missing_ok=True)  # while it is locked: whoever waits sees that its file is no longer the one here
            self._drop()

    def _drop(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __enter__(self) -> FolderClaim:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.release()

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError):  # the folder was refused
            self._drop()


def check(folder: Path, form: Form, layout: DatasetLayout, *, resume: bool) -> bool:
    """Whether `folder` holds a data set of this form and layout to go on with. Changes nothing.

    Raises ConfigError when other people's files are in it, when it holds a data set and `resume` is False, or one of another
    format or layout, or one that has lost the file that counts its episodes.
    """
    if not folder.exists():
        return False
    if not folder.is_dir():
        raise ConfigError(f"{folder} is a file, and a data set is a folder: give another --out")
    if not (folder / form.mark).exists():
        if strangers := list(_strangers(folder, form)):
            listed = ", ".join(strangers[:3]) + (", ..." if len(strangers) > 3 else "")
            raise ConfigError(
                f"{folder} holds files that are no {form.name} data set of ours ({listed}; there is no {form.mark}): nothing in it "
                "was touched; give a new or an empty folder with --out"
            )
        return False
    ours = read_json(folder / form.mark)
    if not isinstance(ours, dict) or not isinstance(ours.get("layout"), dict):
        raise ConfigError(f"{folder / form.mark} does not say how the data set is laid out: give another --out")
    if (other := ours.get("form", form.name)) != form.name:
        raise ConfigError(f"{folder} was begun as {other}, not as {form.name}: give another --out")
    if not (folder / form.counted).exists():
        if lost := next(folder.glob(form.second), None):
            raise ConfigError(
                f"{folder} has lost {form.counted}, which counts its episodes, and still holds {lost.relative_to(folder)}: "
                "put that file back, or give another --out"
            )
        return False
    if not resume:
        raise ConfigError(f"{folder} holds a data set already: give --resume to go on with it, or another --out")
    then, now = ours["layout"], json.loads(json.dumps(asdict(layout)))
    if different := [f"{name} {then.get(name)}, now {now[name]}" for name in now if then.get(name) != now[name]]:
        raise ConfigError(f"{folder} was begun with another layout: {'; '.join(different)}; give another --out")
    return True


def clear(folder: Path, name: str, counted: int) -> None:
    """Removes from `folder` what a dead writer left: half-written files, and those with a number that is not counted.

    `name` is the pattern of the names that the writer gives, with the number as its one group; all other files stay.
    """
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        found = re.fullmatch(rf"{name}({re.escape(PARTIAL)})?", path.name)
        if found and path.is_file() and (found[2] or int(found[1]) >= counted):
            path.unlink()


def _strangers(folder: Path, form: Form) -> Iterator[str]:
    """Names of entries that cannot be left over from a writer that died before it wrote its mark."""
    mark = folder / form.mark
    left = {folder / LOCK_FILE, mark.with_name(mark.name + PARTIAL)}
    for entry in sorted(folder.iterdir()):
        begun = entry == mark.parent and entry.is_dir() and left.issuperset(entry.iterdir())
        if entry not in left and not begun:
            yield entry.name


def _locked(path: Path) -> int:
    """A descriptor that holds the lock of the file at `path`; raises ConfigError when another process has it."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise ConfigError(f"{path.parent} is being written by another export: wait for it, or give another --out") from None
        if names(path, inode(descriptor)):  # otherwise its last holder has removed it between the two calls
            return descriptor
        os.close(descriptor)
