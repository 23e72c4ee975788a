"""The pack for a bare GPU machine is enough for its stages, and is not called a pack when it is not."""

import sys
import tarfile
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent.parent / "benchmarks"))
import gpu_pack

pytestmark = pytest.mark.slow


def test_a_pack_is_small_and_all_that_the_stages_lack(tmp_path):
    assert 0.0 < gpu_pack.pack(tmp_path)["pack_mib"] < gpu_pack.MOST_BYTES / 2**20
    here = tmp_path / "a"
    assert {path.name for path in here.iterdir()} == {"site.tar.xz", "site.sha256", "run.sh"}
    with tarfile.open(here / "site.tar.xz") as tar:
        names = {Path(member.name).parts[0].removesuffix(".py") for member in tar.getmembers()}
    assert names and not names & gpu_pack.known(), "what the machine has does not travel"
    with pytest.raises(SystemExit, match="cattrs"):
        gpu_pack.prove(here / "site.tar.xz", names - {"cattrs"})
    with pytest.raises(SystemExit, match="lacks"):
        gpu_pack.prove(here / "site.tar.xz", names | {"mujoco"})
