"""Every procedural family by name.

Frames: origin at the centre of the footprint, resting on z = 0, front along +X. In an affordance's frame Z is the direction in
which a gripper approaches (into the object) and Y the direction in which it closes; `assets/README.md` lists them all.
"""

from __future__ import annotations

from collections.abc import Mapping

from embodichain.assets.families import cutlery, desk, furniture, kitchen, switches, vessels
from embodichain.assets.families.design import Family

FAMILIES: Mapping[str, Family] = {
    "mug": vessels.mug,
    "bowl": vessels.bowl,
    "block": desk.block,
    "switch": switches.switch,
    "pad": desk.pad,
    "bottle": vessels.bottle,
    "carafe": vessels.carafe,
    "mouse": desk.mouse,
    "rack": kitchen.rack,
    "cup": vessels.cup,
    "plate": kitchen.plate,
    "basket": kitchen.basket,
    "pan": kitchen.pan,
    "lid": kitchen.lid,
    "fork": cutlery.fork,
    "knife": cutlery.knife,
    "spoon": cutlery.spoon,
    "rotary_switch": switches.rotary_switch,
    "faucet": switches.faucet,
    "button_panel": switches.button_panel,
    "drawer_cabinet": furniture.drawer_cabinet,
    "door_box": furniture.door_box,
    "laptop": furniture.laptop,
}
