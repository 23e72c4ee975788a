import pytest
from physics_parts import KINDS, SIZE, gantry


@pytest.fixture(scope="module", params=KINDS)
def physics(request):
    """Every implementation of one world, with pictures of `SIZE` x `SIZE` pixels."""
    physics = request.param(gantry(), width=SIZE, height=SIZE)
    yield physics
    physics.close()
