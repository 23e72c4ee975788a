"""A file that never ends when it is read, or fills the memory, costs itself alone."""

import pytest

from embodichain.assets.chain.looking import Looker

TWO = (
    '<mujoco><worldbody><body name="pot"><freejoint/><geom size="0.05"/></body>'
    '<body name="cover" pos="0 0 1"><freejoint/><geom size="0.05"/></body></worldbody></mujoco>'
)


def doubling(levels):
    """A small stage whose every level holds the one below twice."""
    prims = [
        f'def "l{n}"\n{{\n' + "".join(f' def "{side}" (\n  references = </l{n + 1}>\n )\n {{\n }}\n' for side in "ab") + "}\n"
        for n in range(levels)
    ]
    return f'#usda 1.0\n(\n defaultPrim = "l0"\n)\n{"".join(prims)}def Cube "l{levels}"\n{{\n}}\n'


@pytest.mark.slow
@pytest.mark.parametrize("limits", [{"timeout_s": 3.0}, {"most_bytes": 900 << 20}])
def test_a_file_that_unfolds_without_end_ends_no_other(limits, tmp_path):
    (tmp_path / "bomb.usda").write_text(doubling(26))
    (tmp_path / "two.xml").write_text(TWO)
    (tmp_path / "plain.stl").write_text("solid\nendsolid\n")
    looker = Looker(**limits)
    assert looker.items(tmp_path / "plain.stl") == ("",)
    assert looker.items(tmp_path / "bomb.usda") == ("",)
    patient = Looker()
    assert patient.items(tmp_path / "two.xml") == ("pot", "cover")
    for one in (looker, patient):
        one.close()
