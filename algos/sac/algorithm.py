"""RLlib's SAC and TQC, with our settings."""

from ray.rllib.algorithms.sac import SACConfig
from ray.rllib.algorithms.tqc import TQCConfig
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig

from algos.episode_replay import EPISODE_REPLAY
from algos.learner_state import WholeSACLearner, WholeTQCLearner
from algos.sac.config import SACSettings, SoftActorCriticSettings, TQCSettings


def sac(settings: SACSettings, *, steps_per_iteration: int) -> SACConfig:
    """RLlib's config of SAC."""
    config = SACConfig()
    _use_soft_actor_critic(config, settings, steps_per_iteration)
    config.training(twin_q=settings.twin_q)
    config.learners(learner_class=WholeSACLearner)
    return config


def tqc(settings: TQCSettings, *, steps_per_iteration: int) -> TQCConfig:
    """RLlib's config of TQC."""
    config = TQCConfig()
    _use_soft_actor_critic(config, settings, steps_per_iteration)
    config.training(
        n_quantiles=settings.n_quantiles,
        n_critics=settings.n_critics,
        top_quantiles_to_drop_per_net=settings.top_quantiles_to_drop_per_net,
    )
    config.learners(learner_class=WholeTQCLearner)
    return config


def _use_soft_actor_critic(config: SACConfig, settings: SoftActorCriticSettings, steps_per_iteration: int) -> None:
    """Write into a config what SAC and TQC share."""
    config.training(
        actor_lr=settings.actor_lr,
        critic_lr=settings.critic_lr,
        alpha_lr=settings.alpha_lr,
        gamma=settings.gamma,
        train_batch_size_per_learner=settings.train_batch_size_per_learner,
        training_intensity=settings.training_intensity,
        num_steps_sampled_before_learning_starts=settings.learning_starts,
        n_step=settings.n_step,
        tau=settings.tau,
        target_network_update_freq=settings.target_network_update_freq,
        initial_alpha=settings.initial_alpha,
        target_entropy="auto" if settings.target_entropy is None else settings.target_entropy,
        replay_buffer_config={"type": EPISODE_REPLAY, "capacity": settings.replay_capacity},
    )
    config.env_runners(
        num_envs_per_env_runner=settings.num_envs_per_env_runner,
        rollout_fragment_length=settings.rollout_fragment_length,
    )
    hidden = list(settings.hidden)
    config.rl_module(
        model_config=DefaultModelConfig(
            fcnet_hiddens=hidden, fcnet_activation="relu", fusionnet_hiddens=hidden, fusionnet_activation="relu"
        )
    )
    config.reporting(min_sample_timesteps_per_iteration=steps_per_iteration)
