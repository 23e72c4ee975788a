"""What travels to a machine with a card draws the same pictures without MuJoCo, and Warp's library stays one when it is pruned."""

import json
import mmap
import struct
import subprocess
import sys
import tarfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parent.parent / "benchmarks"))
import gpu_darkroom
import gpu_warp

BENCHMARKS = Path(gpu_darkroom.__file__).parent

_BARE = """
import importlib.abc, json, sys
class Bare(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("mujoco", "mujoco_warp", "ray", "pxr", "trimesh", "manifold3d", "tyro", "cattrs"):
            raise ModuleNotFoundError(f"No module named {name!r} on a bare GPU machine", name=name)
sys.meta_path.insert(0, Bare())
sys.path[:0] = sys.argv[1:3]
from pathlib import Path
import gpu_darkroom
print(json.dumps(gpu_darkroom.measure(Path(sys.argv[3]), "cpu", True)))
"""


@pytest.fixture(scope="module")
def load(tmp_path_factory):
    folder = tmp_path_factory.mktemp("load")
    gpu_darkroom.write(folder, frames=2, size=32, tasks=("turn_switch",))
    return folder


def test_a_load_is_drawn_as_it_was_here_by_a_machine_without_mujoco(load):
    command = [sys.executable, "-c", _BARE, str(BENCHMARKS.parent), str(BENCHMARKS), str(load)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures["darkroom_differs"] == 0.0
    found = figures["darkroom_by_task"]["turn_switch"]
    assert found["differ"] == found["depth_differs"] == 0.0 and found["pictures_s"] > 0


def test_no_figure_is_given_of_other_pictures(load, tmp_path):
    with np.load(load / "turn_switch.npz") as file:
        arrays = dict(file)
    arrays["views.shifts"] = arrays["views.shifts"] + np.float32(0.02)
    np.savez(tmp_path / "turn_switch.npz", **arrays)
    with pytest.raises(AssertionError, match="turn_switch: these are other pictures"):
        gpu_darkroom.measure(tmp_path, "cpu", True)


def fat(*parts: tuple[int, int, bytes]) -> bytes:
    """A fat binary of pieces of a kind, for an architecture, with a payload."""
    made = b"".join(
        struct.pack("<HHIQ", kind, 0x101, 64, len(data)) + bytes(12) + struct.pack("<I", arch) + bytes(32) + data
        for kind, arch, data in parts
    )
    return struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(made)) + made


def test_a_library_loses_the_code_of_other_gpus_and_nothing_else():
    ours = [(2, 75, b"old" * 99), (2, 90, b"hopper" * 50), (1, 75, b"ptx" * 20), (8, 75, b"other" * 7)]
    library = b"elf" + bytes(5) + fat(*ours) + b"\x50\xed\x55\xba chance" + fat((2, 100, b"new" * 40)) + b"end"
    small = gpu_warp.pruned(library)
    kept = [(kind, arch, small[place].strip(b"\0")) for kind, arch, place in gpu_warp.entries(small)]
    assert kept == [(2, 75, b""), (2, 90, b"hopper" * 50), (1, 75, b""), (8, 75, b"other" * 7), (2, 100, b"")]
    assert len(small) == len(library)
    changed = {at for at in range(len(library)) if small[at] != library[at]}
    assert changed <= {
        at
        for kind, arch, place in gpu_warp.entries(library)
        if kind in (1, 2) and arch != 90
        for at in range(*place.indices(len(library)))
    }
    with pytest.raises(ValueError, match="no machine code for architecture 90"):
        gpu_warp.pruned(fat((2, 75, b"old")))


def test_the_installed_warp_has_code_for_our_card():
    import warp

    path = Path(warp.__file__).parent / "bin" / "warp.so"
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as library:
        found = [(arch, place.stop - place.start) for kind, arch, place in gpu_warp.entries(library) if kind == 2]
    sizes = {arch: sum(size for one, size in found if one == arch) for arch, _ in found}
    assert sizes[90] > 1e6 and sum(sizes.values()) > 5 * sizes[90]


def test_an_archive_is_cut_in_two_and_joined_again(tmp_path):
    package = tmp_path / "warp"
    (package / "bin").mkdir(parents=True)
    (package / "tests").mkdir()
    (package / "__init__.py").write_text("")
    (package / "tests" / "test_x.py").write_text("")
    (package / "bin" / "warp-clang.so").write_bytes(b"compiler")
    (package / "bin" / "warp.so").write_bytes(fat((2, 75, b"old" * 99), (2, 90, b"hopper")))
    archive = gpu_warp.packed(package, preset=0)
    first, second = tmp_path / "one", tmp_path / "two"
    digest = gpu_warp.cut(archive, first, second, 10**6)
    whole = first.read_bytes() + second.read_bytes()
    assert whole == archive and len(digest) == 64
    with tarfile.open(fileobj=BytesIO(whole), mode="r:xz") as tar:
        assert tar.getnames() == ["warp/__init__.py", "warp/bin/warp.so"]
    with pytest.raises(SystemExit, match="carry it in three packs"):
        gpu_warp.cut(archive, first, second, 10)
