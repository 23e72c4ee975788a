import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from learner.backbone.flow import euler, interpolate, shift_time, time_grid, velocity

sigmas = st.floats(0.0, 1.0).map(lambda value: torch.tensor(value, dtype=torch.float64))
shifts = st.floats(0.05, 20.0)
quick = settings(deadline=None, max_examples=40)


@quick
@given(sigmas, shifts)
def test_the_inverse_of_a_shift_is_the_shift_by_its_reciprocal(sigma, shift):
    torch.testing.assert_close(shift_time(shift_time(sigma, shift), 1 / shift), sigma, rtol=1e-9, atol=1e-12)
    usual = shift * sigma / (1 + (shift - 1) * sigma)  # in noise levels, as others write it
    torch.testing.assert_close(shift_time(1 - sigma, shift), 1 - usual, rtol=1e-9, atol=1e-12)


@quick
@given(sigmas, shifts, shifts)
def test_shifts_compose_by_multiplication(sigma, first, second):
    torch.testing.assert_close(shift_time(shift_time(sigma, first), second), shift_time(sigma, first * second))


@quick
@given(st.integers(1, 40), shifts)
def test_grids_run_from_noise_to_data_and_a_large_shift_lingers_at_noise(steps, shift):
    grid = time_grid(steps, shift)
    assert grid[0] == 0 and grid[-1] == 1 and (grid.diff() > 0).all()
    middle = shift_time(torch.tensor(0.5), shift)
    assert (middle <= 0.5) == (shift >= 1.0) or middle == 0.5


def test_the_path_starts_at_noise_ends_at_data_and_its_slope_is_the_target():
    noise, data = torch.randn(2, 5, 3, dtype=torch.float64).unbind(0)
    torch.testing.assert_close(interpolate(noise, data, torch.tensor(0.0)), noise)
    torch.testing.assert_close(interpolate(noise, data, torch.tensor(1.0)), data)
    step = interpolate(noise, data, torch.tensor(0.7)) - interpolate(noise, data, torch.tensor(0.2))
    torch.testing.assert_close(step, 0.5 * velocity(noise, data))


@quick
@given(st.integers(1, 9), shifts)
def test_euler_is_exact_when_the_velocity_does_not_depend_on_the_point(steps, shift):
    """On the straight path of flow matching one step is as good as many."""
    noise, data = torch.linspace(-1, 1, 6).double(), torch.linspace(3, -2, 6).double()
    end = euler(lambda x, s: data - noise, noise, time_grid(steps, shift))
    torch.testing.assert_close(end, data)


@pytest.mark.parametrize("steps", [1, 3, 8])
def test_euler_on_a_linear_field_is_the_product_of_its_steps(steps):
    matrix = torch.tensor([[-1.0, 0.4], [0.2, -0.5]], dtype=torch.float64)
    start = torch.tensor([[1.0, -2.0]], dtype=torch.float64)
    expected = start @ torch.linalg.matrix_power(torch.eye(2) + matrix / steps, steps).T.double()
    torch.testing.assert_close(euler(lambda x, s: x @ matrix.T, start, time_grid(steps)), expected)


def test_an_integration_in_two_parts_is_the_whole_one_bit_for_bit():
    grid = time_grid(7, 3.0)
    field = lambda x, s: torch.sin(3 * x) - s[:, None]  # noqa: E731
    start = torch.randn(4, 5)
    middle = euler(field, start, grid[:4])
    assert torch.equal(euler(field, middle, grid[3:]), euler(field, start, grid))


def test_grids_that_meet_at_a_time_join_into_one():
    whole, first, second = time_grid(8, 5.0), time_grid(4, 5.0, stop=0.5), time_grid(4, 5.0, start=0.5)
    torch.testing.assert_close(torch.cat([first, second[1:]]), whole)
