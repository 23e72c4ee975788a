"""Sources of a pool's instances besides families: folders of files, and prompts that a generator answers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from embodichain.assets.chain.jobs import Job
from embodichain.assets.chain.looking import Looker
from embodichain.assets.families.parts import Source
from embodichain.assets.reading.files import FileJob
from embodichain.assets.reading.folder import survey
from embodichain.assets.reading.generated import GeneratedJob
from embodichain.assets.reading.generator import GenerateRequest, GeneratorConfig
from embodichain.errors import ConfigError

_HELD_OUT_EVERY = 4
"""One in this many objects of a folder is kept for held-out scenes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """A job of another source under a category of the pool. Its name contains a hash of its identity, so that names are unique."""

    job: Job
    category: str

    @property
    def name(self) -> str:
        """The name of the other job, and a hash of its identity."""
        text = json.dumps(dict(self.job.identity()), sort_keys=True, default=str)
        return f"{self.job.name}_{hashlib.sha256(text.encode()).hexdigest()[:8]}"

    def identity(self) -> Mapping[str, object]:
        """The identity of the other job."""
        return self.job.identity()

    def source(self) -> Source:
        """The source of the other job."""
        return self.job.source()


class Folder:
    """The objects of a file or folder, each used once, in the order of their paths; some are kept for held-out scenes."""

    def __init__(self, text: str, category: str, generator: str, licence: str) -> None:
        """`text` is the path; the generator is not used. Raises AssetError when nothing readable is there."""
        files = survey(Path(text).expanduser().resolve()).files
        looker = Looker()
        things = [Named(job=FileJob(path=file, item=item), category=category) for file in files for item in looker.items(file)]
        of_stream = [thing for number, thing in enumerate(things) if number % _HELD_OUT_EVERY != 1]
        self._things = (of_stream, things[1::_HELD_OUT_EVERY])

    def job(self, turn: int, seed: int, *, held_out: bool) -> Job | None:
        """The object whose turn it is; None when all are used up."""
        things = self._things[held_out]
        return things[turn] if turn < len(things) else None


class Prompt:
    """Assets that a generator makes from a prompt, with another seed for each."""

    def __init__(self, text: str, category: str, generator: str, licence: str) -> None:
        """`text` is the prompt; `licence` applies to answers that state none.

        Raises ConfigError when there is no generator, or when it cannot be used.
        """
        if not generator:
            raise ConfigError(f"assets.pool.sources asks for {text!r}, and assets.pool.generator is empty: say who answers")
        of_web = generator.startswith(("http://", "https://"))
        self._text, self._category = text, category
        self._generator = GeneratorConfig(url=generator if of_web else "", command="" if of_web else generator, licence=licence)

    def job(self, turn: int, seed: int, *, held_out: bool) -> Job | None:
        """The job that asks the generator with this seed; this source is never used up."""
        request = GenerateRequest(prompt=self._text, seed=seed)
        return Named(job=GeneratedJob(request=request, generator=self._generator), category=self._category)
