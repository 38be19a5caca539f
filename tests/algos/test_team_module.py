"""What the modules of a team share: modes reach every part, and what is carried is as wide as the memory."""

import pytest
from teams import Clockwork, maddpg_config, mappo_config, qmix_config

pytestmark = pytest.mark.usefixtures("ray_session")


@pytest.mark.parametrize("network", ["mlp", "gru"])
@pytest.mark.parametrize("make", [qmix_config, maddpg_config, mappo_config])
def test_every_part_follows_the_mode_and_memory_is_carried_by_a_gru_alone(make, network):
    algorithm = make(Clockwork, network=network).build_algo()
    module = algorithm.learner_group._learner.module["team"].unwrapped()
    for mode in (False, True, True, False):
        assert module.train(mode) is module
        assert {part.training for part in module.modules()} == {mode}
    carry = module.initial_carry(3)
    if network == "mlp":
        assert carry is None
    else:
        assert carry.shape == (3, module.num_agents, 16)
        assert not carry.any()
    algorithm.stop()
