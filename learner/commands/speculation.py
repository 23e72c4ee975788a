"""The options of speculation, shared by `serve` and `eval`."""

from __future__ import annotations

import argparse
import math

from learner.inference.config import OFF, SaiConfig


def sai_config(options: argparse.Namespace) -> SaiConfig | None:
    """The speculation settings from the options that `add_sai_options` added; None if speculation is off."""
    if options.sai == OFF:
        return None
    return SaiConfig(variant=options.sai, s_mid=options.s_mid, patience_s=options.patience_s, delay=options.delay)


def add_sai_options(parser: argparse.ArgumentParser) -> None:
    """--sai, --s-mid, --delay and --patience-s."""
    ahead = "what is begun while the robot moves: video, video+action, or what else the policy's family offers (default off)"
    parser.add_argument("--sai", default=OFF, metavar="MODE", help=ahead)
    parser.add_argument("--s-mid", type=float, default=0.5, help="share of the sampling steps made in advance (default 0.5)")
    late = "commands that the last decision still gives while the next is made, in modes that decide late (default 4)"
    parser.add_argument("--delay", type=int, default=4, help=late)
    patience = "seconds that an early observation waits for the background before it takes over (default: until it is done)"
    parser.add_argument("--patience-s", type=float, default=math.inf, help=patience)
