"""RLlib's IMPALA and APPO, with our settings and networks."""

from ray.rllib.algorithms.appo import APPOConfig
from ray.rllib.algorithms.impala import IMPALAConfig
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig
from ray.rllib.core.rl_module.rl_module import RLModuleSpec

from algos.impala.config import APPOSettings, IMPALASettings
from algos.impala.learner import WholeAPPOLearner, WholeIMPALALearner
from algos.impala.module import MaskedAPPOModule
from algos.ppo.module import MaskedPPOModule


def impala(settings: IMPALASettings, *, steps_per_iteration: int) -> IMPALAConfig:
    """RLlib's config of IMPALA."""
    config = IMPALAConfig()
    _use_impala(config, settings, steps_per_iteration)
    config.rl_module(rl_module_spec=RLModuleSpec(module_class=MaskedPPOModule))
    config.learners(learner_class=WholeIMPALALearner)
    return config


def appo(settings: APPOSettings, *, steps_per_iteration: int) -> APPOConfig:
    """RLlib's config of APPO."""
    config = APPOConfig()
    _use_impala(config, settings, steps_per_iteration)
    config.training(
        clip_param=settings.clip_param,
        use_kl_loss=settings.use_kl_loss,
        kl_coeff=settings.kl_coeff,
        kl_target=settings.kl_target,
        tau=settings.tau,
        target_network_update_freq=settings.target_network_update_freq,
        circular_buffer_num_batches=settings.circular_buffer_num_batches,
        circular_buffer_iterations_per_batch=settings.circular_buffer_iterations_per_batch,
    )
    config.rl_module(rl_module_spec=RLModuleSpec(module_class=MaskedAPPOModule))
    config.learners(learner_class=WholeAPPOLearner)
    return config


def _use_impala(config: IMPALAConfig, settings: IMPALASettings, steps_per_iteration: int) -> None:
    """Write into a config what IMPALA and APPO share."""
    config.training(
        lr=settings.lr,
        gamma=settings.gamma,
        train_batch_size_per_learner=settings.train_batch_size_per_learner,
        vtrace_clip_rho_threshold=settings.vtrace_clip_rho_threshold,
        vtrace_clip_pg_rho_threshold=settings.vtrace_clip_pg_rho_threshold,
        vf_loss_coeff=settings.vf_loss_coeff,
        entropy_coeff=settings.entropy_coeff,
        grad_clip=settings.grad_clip,
        grad_clip_by="global_norm",
    )
    config.env_runners(
        num_envs_per_env_runner=settings.num_envs_per_env_runner,
        rollout_fragment_length=settings.rollout_fragment_length,
    )
    config.rl_module(
        model_config=DefaultModelConfig(
            fcnet_hiddens=list(settings.hidden),
            fcnet_activation=settings.activation,
            vf_share_layers=settings.vf_share_layers,
        )
    )
    config.reporting(min_sample_timesteps_per_iteration=steps_per_iteration)
