"""`embodichain segmenter train`: trains the segmenter on frames of the rendered stream, from the ring, with bounded reads."""

from __future__ import annotations

from learner.commands.frames import parse, report, resolved

_DESCRIPTION = "Trains the built-in segmenter on frames of the rendered stream, read a bounded number of times."


def main(arguments: list[str]) -> int:
    """`embodichain segmenter train [OPTIONS]`; 130 after Ctrl-C, the segmenter trained so far being saved."""
    known, words = parse(arguments, "segmenter", _DESCRIPTION, "--segmenter.steps")
    from learner.runs.frames_config import SegmenterRunConfig

    config = resolved(known, words, SegmenterRunConfig(), "segmenter")
    if config is None:
        return 0
    from learner.runs.segmenter import train

    return report(train(config), config)
