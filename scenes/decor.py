"""Makes the library of textures and environment maps that settings name by number, and compares it with what it should be.

    python scenes/decor.py              makes all of it in the cache of this machine, and compares the hashes with decor.sha256
    python scenes/decor.py -o FOLDER    also writes it as pictures into FOLDER
    python scenes/decor.py --freeze     writes decor.sha256

Nothing of it is kept in the repository, and no run needs this command: what a scene uses is made when it is first drawn. The hashes
are those of x86-64 processors; another kind may round a texel differently.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from embodichain.physics.decor.environments import environment, panorama
from embodichain.physics.decor.textures import made, texture
from embodichain.types.settings import NUM_ENVIRONMENTS, NUM_TEXTURES, NUM_VARIANTS, TextureKind

FROZEN = Path(__file__).parent / "decor.sha256"
DIGITS = 16


def main() -> int:
    """Returns 0 when everything is as it should be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--out", type=Path, help="folder for the pictures")
    parser.add_argument("--freeze", action="store_true", help="write the hashes instead of comparing them")
    options = parser.parse_args()
    rows = []
    for number in range(NUM_TEXTURES):
        name = f"{list(TextureKind)[number // NUM_VARIANTS]}_{number % NUM_VARIANTS:02d}"
        pixels = made(number) if options.freeze else texture(number)
        rows.append(f"{_digest(pixels)}  {name}")
        if options.out:
            _write(options.out / "textures" / f"{name}.png", pixels)
    for number in range(NUM_ENVIRONMENTS):
        name = f"environment_{number:02d}"
        rows.append(f"{_digest(np.round(environment(number).tables, 3))}  {name}")
        if options.out:
            _write(options.out / "environments" / f"{name}.png", panorama(number))
    if options.freeze:
        FROZEN.write_text("\n".join(rows) + "\n", encoding="utf-8")
        return 0
    frozen = FROZEN.read_text(encoding="utf-8").splitlines()
    others = [row.split()[1] for row, then in zip(rows, frozen, strict=True) if row != then]
    sys.stdout.write(f"{len(rows) - len(others)} of {len(rows)} as frozen{': not ' + ', '.join(others) if others else ''}\n")
    return 1 if others else 0


def _digest(values: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()[:DIGITS]


def _write(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


if __name__ == "__main__":
    sys.exit(main())
