"""Every recipe by name. A recipe is a function that returns one complete configuration; it is imported only when it is called."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from embodichain.registry import Registry

if TYPE_CHECKING:
    from learner.runs.config import RunConfig

RECIPES: Registry[Callable[[], RunConfig]] = Registry(
    "recipe",
    "embodichain.recipes",
    {
        "tiny_cpu": "learner.runs.recipes:tiny_cpu",
        "seconds_cpu": "learner.runs.recipes:seconds_cpu",
        "metaworld_cpu": "learner.runs.recipes:metaworld_cpu",
        "turn_switch_cpu": "learner.runs.recipes:turn_switch_cpu",
        "turn_any_switch_cpu": "learner.runs.recipes:turn_any_switch_cpu",
        "switch_as_it_was_cpu": "learner.runs.recipes:switch_as_it_was_cpu",
        "put_block_back_cpu": "learner.runs.recipes:put_block_back_cpu",
        "switches_cpu": "learner.runs.recipes:switches_cpu",
        "place_mouse_pad_cpu": "learner.runs.recipes:place_mouse_pad_cpu",
        "turn_fresh_switch_cpu": "learner.runs.recipes:turn_fresh_switch_cpu",
        "law_cpu": "learner.runs.recipes:law_cpu",
        "pretrain": "learner.runs.recipes:pretrain",
        "finetune": "learner.runs.recipes:finetune",
        "lingbot_va_cpu": "learner.runs.recipes:lingbot_va_cpu",
        "x_wam_cpu": "learner.runs.recipes:x_wam_cpu",
        "cowvla_cpu": "learner.runs.recipes:cowvla_cpu",
    },
)
"""Recipes by name; installed distributions add others by the entry point group `embodichain.recipes`."""


def make(name: str) -> RunConfig:
    """The configuration of the recipe called `name`; raises ConfigError listing those that exist."""
    from learner.runs.config import RunConfig

    return RECIPES.call(name, RunConfig)
