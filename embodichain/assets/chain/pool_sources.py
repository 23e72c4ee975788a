"""Where instances of a pool come from beside families: folders of files, and prompts that a generator answers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from embodichain.assets.chain.jobs import Job
from embodichain.assets.families.parts import Source
from embodichain.assets.reading.files import FileJob
from embodichain.assets.reading.folder import items, survey
from embodichain.assets.reading.generated import GeneratedJob
from embodichain.assets.reading.generator import GenerateRequest, GeneratorConfig
from embodichain.errors import ConfigError

_HELD_OUT_EVERY = 4
"""Of so many things of a folder one is kept for held-out scenes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """A job of another source under a category of the pool, with what it is made from in its name: no two share one."""

    job: Job
    category: str

    @property
    def name(self) -> str:
        """The other job's, and a hash of what that is made from."""
        text = json.dumps(dict(self.job.identity()), sort_keys=True, default=str)
        return f"{self.job.name}_{hashlib.sha256(text.encode()).hexdigest()[:8]}"

    def identity(self) -> Mapping[str, object]:
        """The other job's."""
        return self.job.identity()

    def source(self) -> Source:
        """The other job's."""
        return self.job.source()


class Folder:
    """The things of a file or folder, each once, in the order of their paths; some are kept for held-out scenes."""

    def __init__(self, text: str, category: str, generator: str, licence: str) -> None:
        """`text` is the path; no generator is asked. Raises AssetError when nothing readable is there."""
        files = survey(Path(text).expanduser().resolve()).files
        things = [Named(job=FileJob(path=file, item=item), category=category) for file in files for item in items(file)]
        of_stream = [thing for number, thing in enumerate(things) if number % _HELD_OUT_EVERY != 1]
        self._things = (of_stream, things[1::_HELD_OUT_EVERY])

    def job(self, turn: int, seed: int, *, held_out: bool) -> Job | None:
        """The thing whose turn it is; None when all are used up."""
        things = self._things[held_out]
        return things[turn] if turn < len(things) else None


class Prompt:
    """What a generator makes of a prompt, another one for every seed."""

    def __init__(self, text: str, category: str, generator: str, licence: str) -> None:
        """`text` is the prompt, `licence` that of the answers where they name none.

        Raises ConfigError when there is no generator, or one that cannot be used.
        """
        if not generator:
            raise ConfigError(f"assets.pool.sources asks for {text!r}, and assets.pool.generator is empty: say who answers")
        of_web = generator.startswith(("http://", "https://"))
        self._text, self._category = text, category
        self._generator = GeneratorConfig(url=generator if of_web else "", command="" if of_web else generator, licence=licence)

    def job(self, turn: int, seed: int, *, held_out: bool) -> Job | None:
        """Asks for it with this seed; there is always one more."""
        request = GenerateRequest(prompt=self._text, seed=seed)
        return Named(job=GeneratedJob(request=request, generator=self._generator), category=self._category)
