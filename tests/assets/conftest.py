"""A small catalogue built once for the session."""

import pytest

from embodichain.assets import catalog as catalog_room

COUNTS = {"mug": 1, "block": 1, "switch": 1, "pad": 1, "bottle": 1, "mouse": 1}


@pytest.fixture(scope="session")
def catalog_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("assets")


@pytest.fixture(scope="session")
def catalog(catalog_dir):
    """Finished assets by category."""
    config = catalog_room.AssetsConfig(counts=COUNTS, jobs=2)
    return {asset.category: asset for asset in catalog_room.build_catalog(config, catalog_dir)}
