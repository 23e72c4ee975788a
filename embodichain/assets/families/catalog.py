"""Every procedural family by name.

Frames: the origin is the centre of the footprint, the object rests on z = 0, its front points along +X. In an affordance's frame
Z is the direction in which a gripper approaches (into the object), Y the direction in which it closes; see `assets/README.md`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from embodichain.registry import Registry

if TYPE_CHECKING:
    from embodichain.assets.families.design import Family

_BUILT_IN = {
    "mug": "embodichain.assets.families.vessels:mug",
    "bowl": "embodichain.assets.families.vessels:bowl",
    "block": "embodichain.assets.families.desk:block",
    "switch": "embodichain.assets.families.switches:switch",
    "mark": "embodichain.assets.families.desk:mark",
    "pad": "embodichain.assets.families.desk:pad",
    "bottle": "embodichain.assets.families.vessels:bottle",
    "carafe": "embodichain.assets.families.vessels:carafe",
    "mouse": "embodichain.assets.families.desk:mouse",
    "rack": "embodichain.assets.families.kitchen:rack",
    "cup": "embodichain.assets.families.vessels:cup",
    "plate": "embodichain.assets.families.kitchen:plate",
    "basket": "embodichain.assets.families.kitchen:basket",
    "pan": "embodichain.assets.families.kitchen:pan",
    "lid": "embodichain.assets.families.kitchen:lid",
    "fork": "embodichain.assets.families.cutlery:fork",
    "knife": "embodichain.assets.families.cutlery:knife",
    "spoon": "embodichain.assets.families.cutlery:spoon",
    "rotary_switch": "embodichain.assets.families.switches:rotary_switch",
    "faucet": "embodichain.assets.families.switches:faucet",
    "button_panel": "embodichain.assets.families.switches:button_panel",
    "drawer_cabinet": "embodichain.assets.families.furniture:drawer_cabinet",
    "door_box": "embodichain.assets.families.furniture:door_box",
    "laptop": "embodichain.assets.families.furniture:laptop",
}
FAMILIES: Registry[Family] = Registry("asset category", "embodichain.families", _BUILT_IN)
