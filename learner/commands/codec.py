"""`embodichain codec train KIND`: trains a codec on frames of the rendered stream, from the ring, with bounded reads."""

from __future__ import annotations

from embodichain.errors import UsageError, unknown
from learner.commands.frames import parse, report, resolved

KINDS = ("vae",)
"""Codecs that are trained here; the DINOv3 encoder has `embodichain encoder train`."""
_DESCRIPTION = "Trains a codec on frames of the rendered stream: `codec train vae` the image autoencoder."


def main(arguments: list[str]) -> int:
    """`embodichain codec train vae [OPTIONS]`; 130 after Ctrl-C, the codec trained so far being saved."""
    kinds = [word for word in arguments[1:2] if not word.startswith("-")]
    if arguments[:1] == ["train"] and not kinds and not {"-h", "--help"} & set(arguments):
        raise UsageError(f"embodichain codec train: which codec? One of {', '.join(KINDS)}")
    for kind in kinds:
        if kind not in KINDS:
            raise unknown("codec to train", kind, KINDS)
    known, words = parse([*arguments[:1], *arguments[1 + len(kinds) :]], "codec", _DESCRIPTION, "--vae.steps")
    from learner.runs.frames_config import VaeRunConfig

    config = resolved(known, words, VaeRunConfig(), "codec")
    if config is None:
        return 0
    from learner.runs.codec import train_autoencoder

    return report(train_autoencoder(config), config)
