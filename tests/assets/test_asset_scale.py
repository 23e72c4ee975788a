import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embodichain.assets import families
from embodichain.assets.families import source, tables
from embodichain.assets.reading import scale
from embodichain.assets.reading.scale import ScaleSource, resolve
from embodichain.errors import AssetError, ConfigError


def test_what_the_user_says_wins_over_everything():
    assert resolve(40.0, "mug", size_m=0.1).factor == pytest.approx(0.0025)
    assert resolve(100.0, "mug", unit="mm", declared=1.0).factor == 0.001
    assert resolve(100.0, "mug", unit="mm", declared=1.0).source is ScaleSource.USER


def test_a_plausible_unit_of_the_file_is_kept():
    assert resolve(12.0, "mug", declared=0.01).source is ScaleSource.FILE


@pytest.mark.parametrize(("longest", "unit"), [(0.12, 1.0), (120.0, 0.001), (12.0, 0.01), (4.7, 0.0254)])
def test_a_kind_tells_the_unit(longest, unit):
    assert resolve(longest, "mug").factor == unit
    assert resolve(longest, "mug").source is ScaleSource.CATEGORY


def test_a_mug_of_40_metres_is_rescaled_and_the_report_says_so():
    found = resolve(40.0, "mug", declared=1.0)
    low, high = scale.prior("mug")
    assert low <= 40.0 * found.factor <= high
    assert "40 m" in found.note


def test_what_no_hand_could_hold_is_refused_with_the_remedy():
    with pytest.raises(AssetError, match="give its unit"):
        resolve(1e7, "")
    with pytest.raises(AssetError, match="no table-top object"):
        resolve(40.0, "", declared=1.0)


@given(st.floats(1e-9, 1e12), st.sampled_from(sorted(tables.category_table())), st.sampled_from([0.0, 1.0, 0.01, 0.001]))
def test_a_thing_of_a_known_kind_is_always_about_its_size(longest, category, declared):
    low, high = scale.prior(category)
    size = longest * resolve(longest, category, declared=declared).factor
    assert low / 1.61 <= size <= high * 1.61


@pytest.mark.parametrize("category", list(families.FAMILIES))
def test_every_family_lies_within_the_prior_of_its_kind(category):
    low, high = scale.prior(category)
    for seed in range(3):
        clean = source.procedural(category, seed)
        points = np.concatenate([part.mesh.vertices + part.pose.position for part in clean.parts])
        assert low <= np.ptp(points, axis=0).max() <= high


def test_units_and_sizes_that_mean_nothing_are_refused():
    with pytest.raises(ConfigError, match="available: cm, ft, in, m, mm"):
        resolve(1.0, "mug", unit="furlong")
    for longest in (0.0, float("nan"), float("inf")):
        with pytest.raises(AssetError, match="no extent"):
            resolve(longest, "mug")


def test_a_name_tells_the_kind():
    assert scale.guess_category("My_blue-Mug.v2") == "mug"
    assert scale.guess_category("drawer_cabinet_final") == "drawer_cabinet"
    assert scale.guess_category("thing") == ""
