"""A small catalogue built once for the session, whichever of its processes asks first."""

import fcntl

import pytest

from embodichain.assets.chain import catalog as catalog_room
from embodichain.assets.chain import config as config_room

COUNTS = {"mug": 1, "block": 1, "switch": 1, "pad": 1, "bottle": 1, "mouse": 1}


@pytest.fixture(scope="session")
def catalog_dir(tmp_path_factory, worker_id):
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "catalogue"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def catalog(catalog_dir):
    """Finished assets by category; read only, for other processes read them too."""
    config = config_room.AssetsConfig(counts=COUNTS, jobs=2)
    with (catalog_dir.parent / "catalogue.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the others wait, then find everything built
        return {asset.category: asset for asset in catalog_room.build_catalog(config, catalog_dir)}
