"""`embodichain codec train KIND`: trains a codec on frames of the rendered stream, from the ring, with bounded reads."""

from __future__ import annotations

from embodichain.errors import UsageError, unknown
from learner.commands.frames import parse, report, resolved

KINDS = {
    "vae": "the image autoencoder",
    "vq": "codes of pictures",
    "motion": "motion apart from structure, of clips of the image autoencoder's latents",
    "fast": "the action tokenizer, from the stream's chunks",
}
"""Codecs that are trained here; the DINOv3 encoder has `embodichain encoder train`."""
_DESCRIPTION = "Trains a codec on the rendered stream. codec train " + "; ".join(f"{kind}: {what}" for kind, what in KINDS.items())


def main(arguments: list[str]) -> int:
    """`embodichain codec train KIND [OPTIONS]`; 130 after Ctrl-C, the codec trained so far being saved."""
    kinds = [word for word in arguments[1:2] if not word.startswith("-")]
    if arguments[:1] == ["train"] and not kinds and not {"-h", "--help"} & set(arguments):
        raise UsageError(f"embodichain codec train: which codec? One of {', '.join(KINDS)}")
    for kind in kinds:
        if kind not in KINDS:
            raise unknown("codec to train", kind, KINDS)
    kind = kinds[0] if kinds else "vae"
    steps = "--fast.chunks" if kind == "fast" else f"--{kind}.steps"
    known, words = parse([*arguments[:1], *arguments[1 + len(kinds) :]], "codec", _DESCRIPTION, steps)
    from learner.runs import frames_config

    kinds_of_config = {
        "vae": frames_config.VaeRunConfig,
        "vq": frames_config.VqRunConfig,
        "motion": frames_config.MotionRunConfig,
        "fast": frames_config.FastRunConfig,
    }
    config = resolved(known, words, kinds_of_config[kind](), "codec")
    if config is None:
        return 0
    from learner.runs import codec

    trainings = {
        "vae": codec.train_autoencoder,
        "vq": codec.train_codes,
        "motion": codec.train_extractor,
        "fast": codec.make_tokenizer,
    }
    return report(trainings[kind](config), config)
