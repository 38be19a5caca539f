from __future__ import annotations

import torch

from common.counted import counted_hash, counted_integers, counted_uniforms, mix


def test_mix_is_splitmix64() -> None:
    # the first two outputs of the reference implementation from state 0
    gamma = -7046029254386353131
    got = [int(mix(torch.tensor(state))) % 2**64 for state in (0, gamma)]
    assert got == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4]


def test_draws_are_uniform_and_depend_on_every_count() -> None:
    replica = torch.arange(60_000)
    counts = torch.bincount(counted_integers(7, 3, replica, 5), minlength=7)
    assert len(counts) == 7
    assert (counts - 60_000 / 7).abs().max() < 400
    base = counted_integers(1_000, 3, replica, 5)
    for other in ((4, replica, 5), (3, replica + 1, 5), (3, replica, 6), (5, replica, 3)):
        assert (counted_integers(1_000, *other) == base).float().mean() < 0.005


def test_draws_do_not_depend_on_their_company() -> None:
    many = counted_integers(100, 1, torch.arange(50), torch.arange(50))
    assert all(int(counted_integers(100, 1, torch.tensor([i]), torch.tensor([i]))) == int(many[i]) for i in range(50))
    assert len(set(counted_hash(1, torch.arange(1_000)).tolist())) == 1_000


def test_uniforms_are_open_and_uniform():
    drawn = counted_uniforms(3, torch.arange(200_000))
    assert drawn.min() > 0.0
    assert drawn.max() < 1.0
    counts = torch.histc(drawn, bins=20, min=0.0, max=1.0)
    chi_square = float(((counts - 10_000) ** 2 / 10_000).sum())
    assert chi_square < 43.8  # 0.999 quantile at 19 degrees of freedom
    assert abs(float(torch.special.ndtri(drawn).std()) - 1.0) < 0.01
