import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from learner.backbone.layers import Rotation, TimeEmbedding, chunk_positions, grid_positions, pack, rotary, rotate, unpack

quick = settings(deadline=None, max_examples=25)


@quick
@given(st.sampled_from([8, 16, 24, 32, 128]))
def test_rotary_splits_the_head_as_44_42_42_of_128(width):
    still = rotary(torch.zeros(1, 3), width)
    turned = [rotary(torch.eye(3)[axis : axis + 1], width) for axis in range(3)]
    counts = [int((one.sin[0, width // 2 :] != still.sin[0, width // 2 :]).sum()) * 2 for one in turned]
    assert sum(counts) == width
    assert counts[1] == counts[2] == 2 * (width // 6)
    if width == 128:
        assert counts == [44, 42, 42]


@quick
@given(st.integers(0, 1000), st.floats(-20, 20))
def test_products_of_rotated_vectors_depend_on_relative_position_only(seed, offset):
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.randn(2, 5, 16, dtype=torch.float64, generator=generator)
    here, there = (torch.randint(-9, 9, (5, 3), generator=generator).double() for _ in range(2))

    def products(shift):
        return (rotate(x, rotary(here + shift, 16)) * rotate(y, rotary(there + shift, 16))).sum(dim=-1)

    torch.testing.assert_close(products(offset), products(0.0), rtol=1e-8, atol=1e-8)


def test_rotation_keeps_lengths_and_type():
    x = torch.randn(3, 7, 12)
    cos, sin = rotary(grid_positions(1, 1, 7, 2.0), 12)
    turned = rotate(x, Rotation(cos.float(), sin.float()))
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1))
    assert rotate(x.bfloat16(), Rotation(cos.float(), sin.float())).dtype == torch.bfloat16


def test_actions_lie_between_the_frames_and_outside_the_picture():
    places = chunk_positions(16, 3.0)
    assert places[:, 0].min() == 3 + 1 / 17 and places[:, 0].max() == 3 + 16 / 17
    assert (places[:, 1:] == -1).all()


def test_cameras_share_positions_row_by_row():
    places = grid_positions(2, 2, 3, 1.0)
    assert places.shape == (12, 3) and torch.equal(places[:6], places[6:])
    assert places[:6, 1:].tolist() == [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2]]


def test_unpack_is_the_inverse_of_pack():
    groups = [torch.randn(2, t, n, 4) for t, n in ((3, 5), (1, 2), (4, 1))]
    for a, b in zip(groups, unpack(pack(groups), groups), strict=True):
        assert torch.equal(a, b)


def test_flow_times_of_a_window_are_embedded_one_by_one():
    torch.manual_seed(0)
    embed = TimeEmbedding(8, 16)
    times = torch.rand(2, 3)
    embedding, modulation = embed(times)
    assert embedding.shape == (2, 3, 1, 8) and modulation.shape == (2, 3, 6, 8)
    torch.testing.assert_close(embed(times[1:, 2:])[1][0, 0], modulation[1, 2])
