"""What independent Q-learning has of its own; gradient steps and losses are tested beside QMIX's."""

import pytest
from teams import TwoStepGame, floor_env, qmix_config

from algos.indq.algorithm import INDQConfig
from common.errors import IncompatibleError

pytestmark = pytest.mark.usefixtures("ray_session")


@pytest.mark.parametrize("settings", [{}, {"reward": "own"}, {"reward": "team"}], ids=["default", "own", "team"])
def test_agents_are_paid_their_own_rewards_or_the_teams(settings):
    env, is_team = floor_env(desk={"preset": "rivals", "num_agents": 2}), settings.get("reward") == "team"
    algorithm = qmix_config(env, config=INDQConfig, use_reward_standardisation=False, **settings).build_algo()
    algorithm.train()
    stored = algorithm.replay.rings[0].rows["rewards"][:8]
    assert stored.dim() == (2 if is_team else 3)
    assert is_team or bool((stored[..., 0] != stored[..., 1]).any())
    assert {b.rewards.shape for b in algorithm._draw()} == {(1, 16) if is_team else (1, 16, 2)}
    algorithm.stop()


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"td_lambda": 0.5, "n_step": 3}, "n_step above 1 needs td_lambda=0"),
        ({"td_lambda": 0.5, "num_quantiles": 3}, "num_quantiles needs td_lambda=0"),
        ({"overestimation_weight": 0.5, "num_quantiles": 3}, "num_quantiles needs overestimation_weight=1"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(settings, line):
    with pytest.raises(IncompatibleError, match=line):
        qmix_config(TwoStepGame, config=INDQConfig, **settings)
