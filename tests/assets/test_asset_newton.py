"""Newton beside the others: it falls and slides an asset as MuJoCo does."""

import pytest

from embodichain.assets.chain import movements, newton_witness, optimize, settings
from embodichain.assets.reading.files import FileFacts, FileJob

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not newton_witness.installed(), reason="Newton is not installed (pip install 'embodichain[newton]')"),
]


@pytest.mark.parametrize("friction", [0.3, 0.9])
def test_newton_moves_an_asset_as_mujoco_does(friction, tmp_path):
    geom = f'<geom type="box" size="0.03 0.03 0.02" mass="0.2" friction="{friction} 0.005 0.0001"/>'
    source = tmp_path / "box.xml"
    source.write_text(f'<mujoco><worldbody><body name="box"><freejoint/>{geom}</body></worldbody></mujoco>')
    asset = optimize.build_job(FileJob(path=source, facts=FileFacts(licence="CC0-1.0")), tmp_path, config=settings.ChainConfig())
    ours, other = movements.of_asset(asset), newton_witness.in_newton(asset)
    assert other.fall == pytest.approx(ours.fall, rel=1e-3)
    assert other.slide == pytest.approx(ours.slide, rel=0.02, abs=1e-3)
    assert (ours.slide > 0.05) == (friction < 0.7)
