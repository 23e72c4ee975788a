"""Pictures show what they say: a perfect imagination paints both rows alike."""

import numpy as np
import pytest
from PIL import Image

from learner.reporting.pictures import save_latents

RNG = np.random.default_rng(0)
CAMERAS, ROWS, COLUMNS = 2, 3, 4
RGB = RNG.integers(0, 255, (6, CAMERAS, 48, 64, 3), dtype=np.uint8)
SEEN = [RNG.normal(size=(CAMERAS * ROWS * COLUMNS, 8)).astype(np.float32) for _ in range(5)]


def tiles(path, side: int = 40) -> np.ndarray:
    """[columns, cameras, rows of tiles, side, side, 3]."""
    sheet = np.asarray(Image.open(path))[14:, 84:]
    columns = sheet.shape[1] // side
    return sheet.reshape(CAMERAS, 3, side, columns, side, 3).transpose(3, 0, 1, 2, 4, 5)


def test_a_perfect_imagination_looks_like_the_real_latents(tmp_path):
    path = tmp_path / "latents.png"
    save_latents(path, RGB, SEEN, [*SEEN[1:], SEEN[0]], "caption", side=40)
    shown = tiles(path)
    assert shown.shape[0] == 4
    assert np.array_equal(shown[:, :, 1], shown[:, :, 2])
    assert (tmp_path / "latents.txt").read_text() == "caption\n"


def test_equal_latents_have_equal_colours_and_different_ones_do_not(tmp_path):
    path = tmp_path / "latents.png"
    imagined = [*SEEN[1:], SEEN[0]]
    imagined[0] = imagined[0].copy()
    imagined[0][0] += 3.0
    save_latents(path, RGB, SEEN, imagined, "", side=40)
    shown = tiles(path).astype(int)
    changed = np.abs(shown[:, :, 1] - shown[:, :, 2]).max(axis=-1) > 0
    assert changed[0, 0, : 36 // ROWS, : 36 // COLUMNS].all(), "the first patch of the first camera at frame 1"
    assert not changed[1:].any() and not changed[0, 1].any() and not changed[0, 0, 36 // ROWS + 1 : 36].any()


def test_what_cannot_be_shown_is_refused(tmp_path):
    for seen, imagined in ((SEEN[:1], SEEN[:1]), (SEEN, SEEN[:2]), ([s[:7] for s in SEEN], SEEN)):
        with pytest.raises(ValueError, match=r"at least 2|do not tile"):
            save_latents(tmp_path / "latents.png", RGB, seen, imagined, "")
