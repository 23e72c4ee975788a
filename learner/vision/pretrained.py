"""Loads pretrained DINOv3, SigLIP, Emu3 VQ and UMT5 from a local folder or hub id. The only file that imports transformers.

Weights are read from safetensors, or from PyTorch files with `weights_only`, as transformers does by default.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from embodichain.errors import ConfigError

_ADVICE = "give a local folder with config.json and safetensors, a hub id, or an empty source for the built-in one"


def new_dinov3(*, dim: int, layers: int, heads: int, patch: int, registers: int, seed: int) -> Any:
    """A DINOv3 vision transformer with random weights from `seed`; does not change torch's global generator."""
    from transformers.models.dinov3_vit import DINOv3ViTConfig, DINOv3ViTModel

    config = DINOv3ViTConfig(
        hidden_size=dim,
        intermediate_size=4 * dim,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        patch_size=patch,
        num_register_tokens=registers,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return DINOv3ViTModel(config)


def load_dinov3(source: str) -> Any:
    """A pretrained DINOv3 vision transformer (ViT-S, B, L, ...); raises ConfigError, listing weights that do not match."""
    from transformers.models.dinov3_vit import DINOv3ViTModel

    return _load(DINOv3ViTModel.from_pretrained, "encoder", source, dtype=torch.float32)


def load_siglip(source: str) -> Any:
    """The vision tower of a pretrained SigLIP; raises ConfigError, listing weights that do not match.

    Its text tower may be in the same files and is left out.
    """
    from transformers import SiglipVisionModel

    others = ("text_model.", "logit_scale", "logit_bias")
    return _load(SiglipVisionModel.from_pretrained, "encoder", source, dtype=torch.float32, others=others)


def load_emu3_vq(source: str) -> Any:
    """The pretrained vector-quantised autoencoder of Emu3; raises ConfigError, listing weights that do not match."""
    from transformers import Emu3VQVAE

    return _load(Emu3VQVAE.from_pretrained, "autoencoder", source, dtype=torch.float32, others=())


def load_umt5(source: str, max_tokens: int) -> tuple[Callable[[str], Tensor], int]:
    """A pretrained UMT5 encoder, as a function from text to tokens float32 [max_tokens, dim], and its `dim`.

    Tokens beyond the text are zero, as video models trained on UMT5 expect. Runs on the CPU in the precision of its file.
    Raises ConfigError, listing weights that do not match.
    """
    from transformers import AutoTokenizer, UMT5EncoderModel

    model = _load(UMT5EncoderModel.from_pretrained, "text", source, dtype="auto").eval().requires_grad_(False)
    try:
        tokenizer = AutoTokenizer.from_pretrained(source)
    except (OSError, ValueError, ImportError) as error:
        raise ConfigError(f"the tokenizer of {source!r} cannot be loaded: {_first_line(error)}; {_ADVICE}") from error
    dim = int(model.config.d_model)

    def encode(text: str) -> Tensor:
        read = tokenizer(text, max_length=max_tokens, truncation=True, return_tensors="pt")
        with torch.no_grad():
            hidden = model(input_ids=read["input_ids"], attention_mask=read["attention_mask"]).last_hidden_state[0]
        tokens = torch.zeros(max_tokens, dim)
        tokens[: hidden.shape[0]] = hidden.float()
        return tokens

    return encode, dim


def _load(
    from_pretrained: Callable[..., Any],
    what: str,
    source: str,
    *,
    dtype: torch.dtype | str,
    others: tuple[str, ...] | None = None,
) -> Any:
    """Loads a model and insists on every weight: transformers alone would fill missing ones at random and only warn.

    With `others`, it also insists that the files hold nothing else but weights whose names begin so; None allows any.
    """
    from transformers.utils import logging

    logging.disable_progress_bar()  # every worker would print its own bar into the output of the run
    try:
        model, info = from_pretrained(source, output_loading_info=True, ignore_mismatched_sizes=True, dtype=dtype)
    except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
        raise ConfigError(f"{what} weights {source!r} cannot be loaded: {_first_line(error)}; {_ADVICE}") from error
    problems = _mismatch(info)
    if others is not None:
        problems += [f"unexpected {name}" for name in sorted(info["unexpected_keys"]) if not name.startswith(others)]
    if problems:
        shown = "; ".join(problems[:20]) + (f"; and {len(problems) - 20} more" if len(problems) > 20 else "")
        raise ConfigError(f"{what} weights {source!r} do not fit a {type(model).__name__}: {shown}; {_ADVICE}")
    return model


def _mismatch(info: Mapping[str, Any]) -> list[str]:
    problems = [f"missing {name}" for name in sorted(info["missing_keys"])]
    for entry in sorted(info["mismatched_keys"]):
        name, theirs, ours = entry
        problems.append(f"{name}: {list(theirs)} instead of {list(ours)}")
    return problems


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
