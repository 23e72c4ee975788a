"""Commands that train on single camera frames: `embodichain encoder train` and `segmenter train`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import tyro

from embodichain.errors import ConfigError, EmbodiChainError
from learner.runs.frame_training import FramesConfig

Config = TypeVar("Config", bound=FramesConfig)


def command(
    arguments: list[str], name: str, config_type: type[Config], train: Callable[[Config], dict[str, Any]], description: str | None
) -> int:
    """`embodichain NAME train [OPTIONS]`; 130 after Ctrl-C, what was trained so far being saved."""
    if not arguments or arguments[0] != "train":
        print(f"usage: embodichain {name} train [OPTIONS]", file=sys.stderr)
        return 0 if arguments[:1] in (["-h"], ["--help"]) else 2
    try:
        config = tyro.cli(
            tyro.conf.configure(tyro.conf.FlagConversionOff, tyro.conf.EnumChoicesFromValues)(config_type),
            args=arguments[1:],
            prog=f"embodichain {name} train",
            description=description,
        )
    except EmbodiChainError:
        raise
    except ValueError as error:
        raise ConfigError(str(error)) from error
    record = train(config)
    if config.json:
        print(json.dumps(record))
    else:
        print(f"{record['images']} images of {record['trajectories']} trajectories, {record['wall_s']:.0f} s: {config.out}")
    return 130 if record["interrupted"] else 0
