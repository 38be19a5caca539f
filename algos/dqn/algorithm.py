"""RLlib's DQN, with our settings and networks."""

from ray.rllib.algorithms.dqn import DQNConfig
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig
from ray.rllib.core.rl_module.rl_module import RLModuleSpec

from algos.dqn.config import DQNSettings
from algos.dqn.module import MaskedDQNModule
from algos.episode_replay import EPISODE_REPLAY
from algos.learner_state import WholeDQNLearner


def dqn(settings: DQNSettings, *, steps_per_iteration: int) -> DQNConfig:
    """RLlib's config of DQN."""
    config = DQNConfig()
    config.training(
        lr=settings.lr,
        gamma=settings.gamma,
        train_batch_size_per_learner=settings.train_batch_size_per_learner,
        training_intensity=settings.training_intensity,
        num_steps_sampled_before_learning_starts=settings.learning_starts,
        n_step=settings.n_step,
        double_q=settings.double_q,
        dueling=settings.dueling,
        target_network_update_freq=settings.target_network_update_freq,
        epsilon=[(0, settings.epsilon_start), (settings.epsilon_decay_steps, settings.epsilon_end)],
        replay_buffer_config={"type": EPISODE_REPLAY, "capacity": settings.replay_capacity},
    )
    config.env_runners(
        num_envs_per_env_runner=settings.num_envs_per_env_runner,
        rollout_fragment_length=settings.rollout_fragment_length,
    )
    config.rl_module(
        rl_module_spec=RLModuleSpec(module_class=MaskedDQNModule),
        model_config=DefaultModelConfig(fcnet_hiddens=list(settings.hidden), fcnet_activation="relu"),
    )
    config.learners(learner_class=WholeDQNLearner)
    config.reporting(min_sample_timesteps_per_iteration=steps_per_iteration)
    return config
