"""Importance sampling against its slow form and its definition."""

import plain
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from DiffRec.models.timestep_sampler import ImportanceSampler, UniformSampler


@given(
    steps=st.integers(1, 6),
    length=st.integers(1, 5),
    batches=st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=30), max_size=5),
)
def test_vectorised_history_equals_pushing_one_by_one(steps, length, batches):
    fast, slow = (ImportanceSampler(steps, length) for _ in range(2))
    value = 0.0
    for batch in batches:
        t = torch.tensor(batch) % steps
        losses = torch.arange(len(batch), dtype=torch.float64) + value
        value += len(batch)
        fast.update(t, losses)
        plain.update_history(slow, t, losses)
        assert torch.equal(fast.history, slow.history)
        assert torch.equal(fast.count, slow.count)


def full_sampler(losses, **kwargs):
    """A sampler whose history of length 2 holds each step's loss twice."""
    sampler = ImportanceSampler(len(losses), 2, **kwargs)
    t = torch.arange(len(losses)).repeat(2)
    sampler.update(t, torch.tensor(losses)[t])
    return sampler


def test_probabilities_are_eq_14():
    sampler = ImportanceSampler(3, 2, uniform_prob=0.0)
    t = torch.tensor([0, 0, 1, 1, 2, 2])
    sampler.update(t, torch.tensor([3.0, 4.0, 1.0, 1.0, 0.0, 2.0]))
    root = torch.tensor([12.5, 1.0, 2.0], dtype=torch.float64).sqrt()
    torch.testing.assert_close(sampler.probabilities(), root / root.sum())


def test_the_floor_is_spread_evenly():
    sampler = full_sampler([1.0, 0.0], uniform_prob=0.1)
    torch.testing.assert_close(
        sampler.probabilities(), torch.tensor([0.95, 0.05], dtype=torch.float64)
    )


def test_uniform_until_every_step_has_its_history():
    sampler = ImportanceSampler(2, 3)
    sampler.update(torch.tensor([0, 0, 0, 1, 1]), torch.tensor([9.0, 9, 9, 1, 1]))
    assert sampler.probabilities().tolist() == [0.5, 0.5]
    sampler.update(torch.tensor([1]), torch.tensor([1.0]))
    assert sampler.probabilities()[0] > 0.8


def test_losses_of_zero_leave_the_steps_uniform():
    assert full_sampler([0.0, 0.0]).probabilities().tolist() == [0.5, 0.5]


def test_samples_follow_p_and_carry_p_times_T():
    sampler = full_sampler([3.0, 1.0], uniform_prob=0.0)
    t, p = sampler.sample(20_000, torch.device("cpu"))
    assert (t == 0).double().mean().item() == pytest.approx(0.75, abs=0.02)
    torch.testing.assert_close(p, torch.where(t == 0, 1.5, 0.5).double())


def test_importance_weights_keep_the_expectation():
    """E_{t~p}[L_t / (T p_t)] is the uniform mean of L_t, whatever p is."""
    losses = torch.tensor([3.0, 1.0, 0.2], dtype=torch.float64)
    sampler = full_sampler(losses.tolist())
    t, p = sampler.sample(200_000, torch.device("cpu"))
    assert (losses[t] / p).mean().item() == pytest.approx(losses.mean().item(), rel=0.02)


def test_uniform_sampler():
    t, p = UniformSampler(4).sample(8000, torch.device("cpu"))
    counts = torch.bincount(t, minlength=4)
    assert (counts > 1800).all()
    assert (p == 1).all()


@pytest.mark.parametrize("wrong", [{"history_num_per_term": 0}, {"uniform_prob": 1.5}])
def test_wrong_settings(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ImportanceSampler(3, **wrong)
