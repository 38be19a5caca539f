from __future__ import annotations

import dataclasses
import shutil

import numpy as np
import pytest
import torch
from floors import FREE, equal_steps, floor_of, spec_of

from common.errors import InputError
from envs.audit_draws import random_actions
from envs.floor import build_floor
from envs.market import build_market, spec_from_json, spec_to_json

PRESETS = (
    {"preset": "desk", "num_agents": 3},
    {"preset": "roles", "own_share": 0.5},
    {"preset": "rivals", "num_agents": 2, "max_rung_change": 1},
    {"preset": "desk", "num_agents": 2, "action": "continuous", "observe": "each"},
)


def walk(floor, seed: int, steps: int) -> list:
    rng = np.random.default_rng(seed)
    return [floor.step(random_actions(floor, rng)) for _ in range(steps)]


@pytest.mark.parametrize("desk", PRESETS)
@pytest.mark.parametrize("num_replicas", [5, 130])
def test_one_replica_and_many_agree_to_the_last_bit(desk, num_replicas) -> None:
    many = floor_of(desk=desk, num_replicas=num_replicas, with_state=True)
    rng = np.random.default_rng(0)
    actions = [random_actions(many, rng) for _ in range(30)]
    seen = [many.reset()] + [many.step(action) for action in actions]
    state = many.get_state()
    for replica in (0, num_replicas - 1):
        one = floor_of(desk=desk, num_replicas=1, with_state=True)
        one.reset()
        if replica:  # replica numbers seed start bars: put the single replica where the last of the many began
            fresh = floor_of(desk=desk, num_replicas=num_replicas)
            own = one.get_state()
            for name in ("clock.bar", "clock.stop"):
                own[name] = fresh.get_state()[name][replica:]
            one.set_state(own)
        for number, action in enumerate(actions[:11]):
            step = one.step(action[replica : replica + 1])
            for name in ("obs", "state", "reward", "action_mask"):
                mine, theirs = getattr(step, name), getattr(seen[number + 1], name)
                assert mine is theirs is None or torch.equal(mine[0], theirs[replica]), (name, number)
    assert state["books.cash"].shape[1] == num_replicas


@pytest.mark.parametrize("desk", PRESETS)
@pytest.mark.parametrize("costs", [{}, {"carry_orders": True, "max_participation": 1e-5}])
def test_saved_floor_carries_on_bit_for_bit(desk, costs) -> None:
    floor = floor_of(desk=desk, floor={"costs": costs}, num_replicas=6, with_state=True)
    walk(floor, 1, 17)
    saved = floor.get_state()
    assert ("books.waiting" in saved) == bool(costs)
    ahead = [floor.observe(), *walk(floor, 2, 20)]
    other = floor_of(desk=desk, floor={"costs": costs}, num_replicas=6, with_state=True, seed=99)
    walk(other, 3, 5)
    other.set_state(saved)
    again = [other.observe(), *walk(other, 2, 20)]
    assert all(equal_steps(x, y) for x, y in zip(ahead, again, strict=True))


def test_state_of_another_floor_is_refused() -> None:
    saved = floor_of(num_replicas=2).get_state()
    with pytest.raises(ValueError, match=r"clock\.bar.*shape \(2,\).*\(3,\)"):
        floor_of(num_replicas=3).set_state(saved)
    with pytest.raises(ValueError, match="lacks 'rung'"):
        floor_of(num_replicas=2, desk={"max_rung_change": 1}).set_state(saved)


def test_seed_decides_where_episodes_start_and_nothing_else_does() -> None:
    def starts(seed: int, num_replicas: int = 50) -> list[int]:
        return floor_of(num_replicas=num_replicas, seed=seed).get_state()["clock.bar"].tolist()

    assert starts(1) == starts(1) == starts(1, 80)[:50]
    assert starts(1) != starts(2)
    assert len(set(starts(1))) > 25
    floor = floor_of(num_replicas=50, seed=2)
    first = floor.reset(seed=1)
    walk(floor, 0, 20)
    assert floor.get_state()["clock.episode"].tolist() == [1] * 50
    assert equal_steps(first, floor.reset())


def test_random_starts_cover_the_split_and_stay_inside() -> None:
    floor = floor_of(num_replicas=3_000)
    bars = floor.get_state()["clock.bar"]
    assert bars.min() == floor.split.start
    assert bars.max() + floor.episode_bars == floor.split.stop - 1


def test_first_start_passes_once_over_the_whole_split() -> None:
    floor = floor_of(start="first", split="test", record=True)
    steps = walk(floor, 0, floor.split.num_decisions)
    assert [bool(step.truncated) for step in steps] == [False] * (len(steps) - 1) + [True]
    assert int(floor.detail.bar) == floor.split.stop - 2
    assert float(steps[-1].stats["episode_len"]) == len(steps)


def test_horizon_truncates_and_the_last_observation_is_kept() -> None:
    floor = floor_of(num_replicas=4, with_state=True, desk={"max_rung_change": 1}, floor={"observe_episode": True})
    steps = walk(floor, 0, 12)
    assert all(step.final_obs is None and step.stats is None for step in steps[:-1])
    last = steps[-1]
    assert last.truncated.all()
    assert not last.terminated.any()
    assert (last.final_obs[:, :, 7] == 0).all()  # no time left
    assert (last.obs[:, :, 7] == 1).all()
    assert (last.obs[:, :, :4] == 0).all()  # a fresh account
    assert (last.final_obs[:, :, :4] != 0).any()
    assert last.final_state.shape == last.state.shape
    assert last.final_mask.shape == last.action_mask.shape
    assert set(last.stats) == {
        "profit", "sharpe", "calmar", "max_drawdown", "num_trades", "turnover", "total_costs_usd", "episode_len"
    }  # fmt: skip


def test_rewards_of_an_episode_sum_to_its_profit() -> None:
    floor = floor_of(num_replicas=4)
    steps = walk(floor, 0, 12)
    assert sum(step.reward for step in steps)[:, 0].tolist() == pytest.approx(steps[-1].stats["profit"].tolist())
    growth = floor_of(num_replicas=4, floor={"reward": {"kind": "log_growth"}})
    steps = walk(growth, 0, 12)
    logs = np.log1p(steps[-1].stats["profit"].numpy()).tolist()
    assert sum(step.reward for step in steps)[:, 0].tolist() == pytest.approx(logs)


@pytest.mark.parametrize("desk", [{"preset": "rivals", "num_agents": 2}, {"preset": "roles"}])
def test_stats_are_those_of_the_equity_curve(desk) -> None:
    floor = floor_of(num_replicas=3, record=True, desk=desk)
    capital = 1e6 * floor.layout.num_accounts
    rng = np.random.default_rng(5)
    equity, traded, trades, costs = [np.full(3, capital)], [], 0, 0.0
    for _ in range(12):
        step = floor.step(random_actions(floor, rng))
        detail = floor.detail
        first_slot = [floor.layout.slot_line.index(line) for line in range(floor.layout.num_lines)]
        traded.append((detail.line_fills.abs() * detail.price[first_slot]).sum(0).numpy())
        trades = trades + (detail.fills != 0).sum(0).numpy()
        paid = detail.attributed
        costs = costs + (paid.commission + paid.spread + paid.impact + paid.borrow).sum(0).numpy()
        equity.append(detail.after.equity.sum(0).numpy())
    curve = np.array(equity)
    returns = curve[1:] / curve[:-1] - 1
    got = {name: value.numpy() for name, value in step.stats.items()}
    deepest = (curve / np.maximum.accumulate(curve) - 1).min(0)
    assert got["profit"] == pytest.approx(curve[-1] / capital - 1)
    assert got["sharpe"] == pytest.approx(returns.mean(0) / returns.std(0, ddof=1) * np.sqrt(252), rel=1e-6)
    assert got["max_drawdown"] == pytest.approx(deepest)
    assert (deepest < 0).all()
    assert got["calmar"] == pytest.approx(((curve[-1] / capital) ** (252 / 12) - 1) / -deepest)
    assert got["turnover"] == pytest.approx(np.sum(traded, axis=0) / curve.mean(0) * 252 / 12)
    assert got["num_trades"].tolist() == trades.tolist()
    assert got["total_costs_usd"] == pytest.approx(costs)


def test_ruin_terminates_and_only_the_ruined_replica_starts_anew() -> None:
    rules = {"ruin_fraction": 0.995, "horizon_bars": 30, "costs": FREE, "observe_episode": True}
    floor = floor_of(num_replicas=40, floor=rules)
    for _ in range(30):
        step = floor.step(np.full((40, 4), 4))
        if step.terminated.any():
            break
    ruined = step.terminated
    assert 0 < int(ruined.sum()) < 40
    assert not step.truncated.any()
    assert (step.stats["profit"][ruined] <= -0.005).all()
    assert (step.obs[ruined, :, 7] == 1).all()
    assert (step.obs[~ruined, :, 7] < 1).all()
    assert torch.equal(step.obs[~ruined], step.final_obs[~ruined])
    assert floor.get_state()["clock.episode"].tolist() == ruined.long().tolist()


@pytest.mark.parametrize("bad", [-1, 5])
def test_rung_off_the_ladder_is_refused_by_name(bad) -> None:
    floor = floor_of(num_replicas=3)
    actions = np.zeros((3, 4), np.int64)
    actions[2, 1] = bad
    with pytest.raises(ValueError, match=rf"'trader_1' in replica 2 is .*{bad}.*0 to 4"):
        floor.step(actions)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_non_finite_action_is_refused_by_name(bad) -> None:
    floor = floor_of(num_replicas=3, desk={"action": "continuous"})
    actions = np.zeros((3, 4, 1), np.float32)
    actions[1, 3] = bad
    with pytest.raises(ValueError, match="'trader_3' in replica 1"):
        floor.step(actions)


def test_actions_of_the_wrong_shape_or_kind_are_refused() -> None:
    floor = floor_of(num_replicas=3)
    with pytest.raises(ValueError, match=r"\(4, 3\), expected \(3, 4\)"):
        floor.step(np.zeros((4, 3), np.int64))
    with pytest.raises(ValueError, match="int64"):
        floor.step(np.zeros((3, 4), np.float32))


def test_steps_return_arrays_of_their_own() -> None:
    floor = floor_of(num_replicas=3, with_state=True, desk={"max_rung_change": 1, "allow_short": False})
    first = floor.reset()
    kept = [None if x is None else x.clone() for x in first[:6]]
    for value in walk(floor, 0, 14):
        for tensor in value[:6]:
            tensor.zero_()
    assert all(x is y is None or torch.equal(x, y) for x, y in zip(kept, first[:6], strict=True))


def test_split_too_short_for_the_horizon_is_refused() -> None:
    with pytest.raises(InputError, match="horizon"):
        floor_of(floor={"horizon_bars": 500})
    with pytest.raises(InputError, match="num_replicas"):
        floor_of(num_replicas=0)
    with pytest.raises(InputError, match="split 'trian'"):
        floor_of(split="trian")


def test_spec_survives_json_and_a_floor_is_rebuilt_from_it() -> None:
    spec = spec_of(desk={"preset": "roles"})
    again = spec_from_json(spec_to_json(spec))
    assert again == spec
    mine, theirs = build_floor(spec, num_replicas=2), build_floor(again, num_replicas=2)
    assert all(equal_steps(x, y) for x, y in zip(walk(mine, 0, 13), walk(theirs, 0, 13), strict=True))


def test_markets_are_shared_until_the_spec_changes() -> None:
    spec = spec_of()
    assert build_market(spec) is build_market(spec_of())
    assert build_market(spec) is not build_market(spec_of(seed=2))


def test_a_models_scaler_replaces_the_markets() -> None:
    market = build_market(spec_of())
    other = dataclasses.replace(market.scaler, mean=market.scaler.mean + market.scaler.scale)
    mine, theirs = build_floor(market), build_floor(market, scaler=other)
    assert not torch.equal(mine.reset().obs, theirs.reset().obs)


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_compiled_floor_agrees_with_the_eager_one() -> None:
    floor = {"costs": {"carry_orders": True, "max_participation": 1e-3}}
    eager, fast = (floor_of(floor=floor, num_replicas=100, with_state=True, use_compile=flag) for flag in (False, True))
    for mine, theirs in zip(walk(eager, 0, 14), walk(fast, 0, 14), strict=True):
        assert torch.allclose(mine.reward, theirs.reward, rtol=0, atol=1e-12)
        assert torch.allclose(mine.obs, theirs.obs, rtol=0, atol=1e-6)


def test_missing_compiler_is_said_clearly(monkeypatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(InputError, match="compiler"):
        floor_of(use_compile=True)
