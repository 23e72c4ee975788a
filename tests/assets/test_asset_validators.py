from dataclasses import replace

import pytest
from mutations import centimetres, nested_articulation_root, spoil, y_up

from embodichain.assets.usd import files as usd
from embodichain.assets.usd import validators
from embodichain.commands import assets as asset_commands
from embodichain.errors import AssetError, ConfigError

needs_both = pytest.mark.skipif(
    set(validators.installed()) != set(validators.PUBLIC), reason=f"public validators are not installed: {validators.INSTALL}"
)


@pytest.mark.parametrize("name", validators.PUBLIC)
def test_every_delivered_asset_passes_the_public_validators(catalog, name):
    if name not in validators.installed():
        pytest.skip(f"{name} is not installed: {validators.INSTALL}")
    files = [asset.path for asset in catalog.values()]
    assert validators.check(name, files) == {str(file): [] for file in files}


@needs_both
def test_the_public_validators_are_awake(catalog, tmp_path):
    spoil(catalog["switch"].path, tmp_path / "small.usda", centimetres)
    spoil(catalog["switch"].path, tmp_path / "lying.usda", y_up)
    (tmp_path / "noise.usd").write_bytes(b"PXR-USDC nothing")
    files = sorted(tmp_path.iterdir())
    found = {name: validators.check(name, files) for name in validators.PUBLIC}
    assert all(found["simready"][str(file)] for file in files)
    assert "metersPerUnit" in " ".join(issue.message for issue in found["simready"][str(tmp_path / "small.usda")])
    assert found["omniverse"][str(tmp_path / "noise.usd")]


def test_the_validators_of_openusd_come_with_it_and_are_awake(catalog, tmp_path):
    assert "openusd" in validators.installed()
    good = catalog["switch"].path
    spoil(good, tmp_path / "nested.usda", nested_articulation_root)
    (tmp_path / "noise.usd").write_bytes(b"PXR-USDC nothing")
    found = validators.check("openusd", [good, *sorted(tmp_path.iterdir())])
    assert found[str(good)] == []
    (issue,) = found[str(tmp_path / "nested.usda")]
    assert issue.check.endswith("ArticulationChecker")
    assert issue.prim in issue.message
    assert issue.prim != "/"
    assert [issue.check for issue in found[str(tmp_path / "noise.usd")]] == ["readable"]


def test_an_absent_validator_is_named_with_its_remedy(catalog, monkeypatch, capsys):
    monkeypatch.setattr(validators, "_has", lambda package: package == "usd-core")
    with pytest.raises(AssetError, match="pip install"):
        validators.check("simready", [])
    path = str(catalog["pad"].path)
    with pytest.raises(ConfigError, match="omniverse, simready"):
        asset_commands.main(["validate", path, "--public"])
    assert asset_commands.main(["validate", path]) == 0
    assert "not asked: omniverse, simready" in capsys.readouterr().out


def test_lifts_are_repeated_on_demand_and_a_false_promise_fails(catalog, tmp_path, capsys):
    block = catalog["block"]
    rates = usd.lift_rates(block.path)
    assert asset_commands.main(["validate", str(block.path), "--own", "--lifts"]) == 0
    owner, pose = block.affordances["grasp"]
    false = replace(block, affordances={"grasp": (owner, replace(pose, position=(0.0, 0.2, 0.1)))})
    usd.write(false, tmp_path / "false.usd", rates={"grasp": rates["grasp"]})
    assert asset_commands.main(["validate", str(tmp_path), "--own"]) == 0
    assert asset_commands.main(["validate", str(tmp_path), "--own", "--lifts"]) == 1
    assert "grasp: it rose only" in capsys.readouterr().out


def test_validate_prints_one_table_and_fails_when_any_asset_fails(catalog, tmp_path, capsys):
    spoil(catalog["switch"].path, tmp_path / "lying.usda", y_up)
    good = str(catalog["pad"].path)
    assert asset_commands.main(["validate", good, "--own"]) == 0
    assert asset_commands.main(["validate", good, str(tmp_path), "--own"]) == 1
    shown = capsys.readouterr().out
    assert "1 of 2 assets pass" in shown
    assert "up_axis" in shown
