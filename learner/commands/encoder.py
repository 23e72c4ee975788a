"""`embodichain encoder train`: trains the built-in encoder on frames of the rendered stream, from the ring, with bounded reads."""

from __future__ import annotations

from learner.commands.frames import parse, report, resolved

_DESCRIPTION = "Trains the built-in encoder on frames of the rendered stream, from the ring, with bounded reads."


def main(arguments: list[str]) -> int:
    """`embodichain encoder train [OPTIONS]`; 130 after Ctrl-C, the encoder trained so far being saved."""
    known, words = parse(arguments, "encoder", _DESCRIPTION, "--pretrain.steps")
    from learner.runs.frames_config import EncoderRunConfig

    config = resolved(known, words, EncoderRunConfig(), "encoder")
    if config is None:
        return 0
    from learner.runs.encoder import train

    return report(train(config), config)
