"""`embodichain segmenter train`: trains the built-in segmenter on frames of the rendered stream, read a bounded number of times."""

from __future__ import annotations

from learner.commands.frames import command
from learner.runs.segmenter import SegmenterRunConfig, train


def main(arguments: list[str]) -> int:
    """`embodichain segmenter train [OPTIONS]`; 130 after Ctrl-C, the segmenter trained so far being saved."""
    return command(arguments, "segmenter", SegmenterRunConfig, train, __doc__)
