"""`embodichain encoder train`: trains the built-in encoder on frames of the rendered stream, from the ring, with bounded reads."""

from __future__ import annotations

from learner.commands.frames import command
from learner.runs.encoder import EncoderRunConfig, train


def main(arguments: list[str]) -> int:
    """`embodichain encoder train [OPTIONS]`; 130 after Ctrl-C, the encoder trained so far being saved."""
    return command(arguments, "encoder", EncoderRunConfig, train, __doc__)
