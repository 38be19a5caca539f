"""From a run's settings to an RLlib AlgorithmConfig."""

from __future__ import annotations

import logging
from typing import Any

import ray
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.algorithms.appo import APPOConfig
from ray.rllib.algorithms.dqn import DQNConfig
from ray.rllib.algorithms.impala import IMPALAConfig
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.algorithms.sac import SACConfig
from ray.rllib.algorithms.tqc import TQCConfig
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig
from ray.rllib.core.rl_module.rl_module import RLModuleSpec

from algos.dqn.config import DQNSettings
from algos.dqn.module import MaskedDQNModule
from algos.impala.config import IMPALASettings
from algos.impala.learner import WholeAPPOLearner, WholeIMPALALearner
from algos.impala.module import MaskedAPPOModule
from algos.learner_state import WholeDQNLearner, WholePPOLearner, WholeSACLearner, WholeTQCLearner
from algos.maddpg.algorithm import MADDPGConfig
from algos.mappo.algorithm import IPPOConfig, MAPPOConfig
from algos.ppo.algorithm import TeamPPOConfig, apply_ppo_settings
from algos.ppo.module import MaskedPPOModule
from algos.qmix.algorithm import IQLConfig, QMIXConfig, VDNConfig
from algos.runner import TeamEnvRunner
from algos.sac.config import SoftActorCriticSettings
from common.errors import IncompatibleError, InputError
from envs.floor import build_floor
from envs.market import Market, build_market, spec_to_json
from envs.rllib import register
from experiments.settings.algorithm_names import ONLY_CONTINUOUS, ONLY_ON_TEAM_PATH, SECTION_OF_ALGO
from experiments.settings.run_config import RunConfig, floor_spec

SHARED = "shared"
"""Module id of the one network that all agents act by."""
NEVER = 10**9
"""An interval that is never reached: the trainable evaluates by episodes, RLlib would by iterations."""

MOST_STEPS = 1000
"""Environment steps in one iteration of RLlib's own algorithms but PPO, RLlib's own figure for DQN."""


def algorithm_config(run: RunConfig, *, scaler: dict[str, Any] | None = None) -> AlgorithmConfig:
    """Build the config of the run's algorithm on the trading floor.

    Args:
        run: The settings.
        scaler: Feature scaler to use, as ``Scaler.to_json`` writes it; None fits one on the training split.
    """
    for name in ("ray.rllib", "ray.tune"):
        logging.getLogger(name).setLevel(logging.ERROR)
    spec = floor_spec(run)
    env = {"spec": spec_to_json(spec), "scaler": scaler}
    masks = {
        "use_action_mask": run.desk.action == "discrete" and not is_on_team_path(run)
    }  # whose floor always has one
    config = bare_config(run)
    config.environment(register(), env_config={**env, **masks, "split": "train"}, disable_env_checking=True)
    config.debugging(seed=run.seed, log_level="ERROR")
    config.reporting(metrics_num_episodes_for_smoothing=100, min_time_s_per_iteration=0)
    _scale(config, run)
    _assign_networks(config, run, build_market(spec))
    config.evaluation(
        evaluation_interval=NEVER,
        evaluation_duration=1,
        evaluation_duration_unit="episodes",
        evaluation_config=AlgorithmConfig.overrides(
            env_runner_cls=TeamEnvRunner,
            env_config={**env, "split": "validation", "start": "first"},
            num_envs_per_env_runner=1,
            explore=False,
            metrics_num_episodes_for_smoothing=1,
        ),
    )
    return config


def bare_config(run: RunConfig) -> AlgorithmConfig:
    """The config of the run's algorithm with its settings, and no environment yet."""
    return _BUILDERS[(run.algo, run.runner if run.algo == "ppo" else "")](run)


def check_algorithm(run: RunConfig) -> None:
    """Refuse here, in one line, what a worker process would only fail on.

    Raises:
        InputError: if RLlib finds that the settings of the algorithm do not go together.
    """
    check_config(algorithm_config(run), run.algo)


def check_config(config: AlgorithmConfig, algo: str) -> None:
    """Refuse a config in one line.

    Raises:
        InputError: if RLlib finds that the settings of the algorithm do not go together.
    """
    try:
        config.validate()
    except InputError:
        raise
    except ValueError as error:
        reason = " ".join(str(error).split()).partition(" To suppress all validation errors")[0]
        raise InputError(f"RLlib refuses these settings of {algo}: {reason}") from None


def _qmix(run: RunConfig) -> AlgorithmConfig:
    return QMIXConfig().use_settings(run.qmix)


def _vdn(run: RunConfig) -> AlgorithmConfig:
    return VDNConfig().use_settings(run.qmix)


def _iql(run: RunConfig) -> AlgorithmConfig:
    return IQLConfig().use_settings(run.qmix)


def _mappo(run: RunConfig) -> AlgorithmConfig:
    return MAPPOConfig().use_settings(run.mappo)


def _ippo(run: RunConfig) -> AlgorithmConfig:
    return IPPOConfig().use_settings(run.mappo)


def _maddpg(run: RunConfig) -> AlgorithmConfig:
    return MADDPGConfig().use_settings(run.maddpg)


def _team_ppo(run: RunConfig) -> AlgorithmConfig:
    config = apply_ppo_settings(TeamPPOConfig(), run.ppo)
    config.env_runners(num_envs_per_env_runner=run.ppo.num_envs_per_env_runner)
    return config


def _rllib_ppo(run: RunConfig) -> AlgorithmConfig:
    if run.ppo.network != "mlp":
        raise InputError(
            f"--ppo.network {run.ppo.network} needs --runner team: RLlib's own does not say where the bars of a window "
            "stand"
        )
    config = apply_ppo_settings(PPOConfig(), run.ppo)
    config.rl_module(rl_module_spec=RLModuleSpec(module_class=MaskedPPOModule))
    config.learners(learner_class=WholePPOLearner)
    config.env_runners(num_envs_per_env_runner=run.ppo.num_envs_per_env_runner)
    return config


def _dqn(run: RunConfig) -> AlgorithmConfig:
    s: DQNSettings = run.dqn
    config = DQNConfig()
    config.training(
        lr=s.lr,
        gamma=s.gamma,
        train_batch_size_per_learner=s.train_batch_size_per_learner,
        training_intensity=s.training_intensity,
        num_steps_sampled_before_learning_starts=s.learning_starts,
        n_step=s.n_step,
        double_q=s.double_q,
        dueling=s.dueling,
        target_network_update_freq=s.target_network_update_freq,
        epsilon=[(0, s.epsilon_start), (s.epsilon_decay_steps, s.epsilon_end)],
        replay_buffer_config={"type": "MultiAgentEpisodeReplayBuffer", "capacity": s.replay_capacity},
    )
    config.env_runners(
        num_envs_per_env_runner=s.num_envs_per_env_runner, rollout_fragment_length=s.rollout_fragment_length
    )
    config.rl_module(
        rl_module_spec=RLModuleSpec(module_class=MaskedDQNModule),
        model_config=DefaultModelConfig(fcnet_hiddens=list(s.hidden), fcnet_activation="relu"),
    )
    config.learners(learner_class=WholeDQNLearner)
    config.reporting(min_sample_timesteps_per_iteration=_steps_of_iteration(run))
    return config


def _sac(run: RunConfig) -> AlgorithmConfig:
    config = SACConfig()
    _use_soft_actor_critic(config, run, run.sac)
    config.training(twin_q=run.sac.twin_q)
    config.learners(learner_class=WholeSACLearner)
    return config


def _tqc(run: RunConfig) -> AlgorithmConfig:
    s = run.tqc
    config = TQCConfig()
    _use_soft_actor_critic(config, run, s)
    config.training(
        n_quantiles=s.n_quantiles,
        n_critics=s.n_critics,
        top_quantiles_to_drop_per_net=s.top_quantiles_to_drop_per_net,
    )
    config.learners(learner_class=WholeTQCLearner)
    return config


def _use_soft_actor_critic(config: SACConfig, run: RunConfig, s: SoftActorCriticSettings) -> None:
    """Write into a config what SAC and TQC share.

    Raises:
        InputError: if returns of several steps are longer than what is sampled at once.
    """
    if s.n_step > s.rollout_fragment_length:
        raise InputError(
            f"--{run.algo}.n-step is {s.n_step}, longer than the {s.rollout_fragment_length} bars of "
            f"--{run.algo}.rollout-fragment-length: lower the first or raise the second"
        )
    config.training(
        actor_lr=s.actor_lr,
        critic_lr=s.critic_lr,
        alpha_lr=s.alpha_lr,
        gamma=s.gamma,
        train_batch_size_per_learner=s.train_batch_size_per_learner,
        training_intensity=s.training_intensity,
        num_steps_sampled_before_learning_starts=s.learning_starts,
        n_step=s.n_step,
        tau=s.tau,
        target_network_update_freq=s.target_network_update_freq,
        initial_alpha=s.initial_alpha,
        target_entropy="auto" if s.target_entropy is None else s.target_entropy,
        replay_buffer_config={"type": "MultiAgentEpisodeReplayBuffer", "capacity": s.replay_capacity},
    )
    config.env_runners(
        num_envs_per_env_runner=s.num_envs_per_env_runner, rollout_fragment_length=s.rollout_fragment_length
    )
    hidden = list(s.hidden)
    config.rl_module(
        model_config=DefaultModelConfig(
            fcnet_hiddens=hidden, fcnet_activation="relu", fusionnet_hiddens=hidden, fusionnet_activation="relu"
        )
    )
    config.reporting(min_sample_timesteps_per_iteration=_steps_of_iteration(run))


def _impala(run: RunConfig) -> AlgorithmConfig:
    config = IMPALAConfig()
    _use_impala(config, run, run.impala)
    config.rl_module(rl_module_spec=RLModuleSpec(module_class=MaskedPPOModule))
    config.learners(learner_class=WholeIMPALALearner)
    return config


def _appo(run: RunConfig) -> AlgorithmConfig:
    s = run.appo
    config = APPOConfig()
    _use_impala(config, run, s)
    config.training(
        clip_param=s.clip_param,
        use_kl_loss=s.use_kl_loss,
        kl_coeff=s.kl_coeff,
        kl_target=s.kl_target,
        tau=s.tau,
        target_network_update_freq=s.target_network_update_freq,
        circular_buffer_num_batches=s.circular_buffer_num_batches,
        circular_buffer_iterations_per_batch=s.circular_buffer_iterations_per_batch,
    )
    config.rl_module(rl_module_spec=RLModuleSpec(module_class=MaskedAPPOModule))
    config.learners(learner_class=WholeAPPOLearner)
    return config


def _use_impala(config: IMPALAConfig, run: RunConfig, s: IMPALASettings) -> None:
    """Write into a config what IMPALA and APPO share."""
    config.training(
        lr=s.lr,
        gamma=s.gamma,
        train_batch_size_per_learner=s.train_batch_size_per_learner,
        vtrace_clip_rho_threshold=s.vtrace_clip_rho_threshold,
        vtrace_clip_pg_rho_threshold=s.vtrace_clip_pg_rho_threshold,
        vf_loss_coeff=s.vf_loss_coeff,
        entropy_coeff=s.entropy_coeff,
        grad_clip=s.grad_clip,
        grad_clip_by="global_norm",
    )
    config.env_runners(
        num_envs_per_env_runner=s.num_envs_per_env_runner, rollout_fragment_length=s.rollout_fragment_length
    )
    config.rl_module(
        model_config=DefaultModelConfig(
            fcnet_hiddens=list(s.hidden), fcnet_activation=s.activation, vf_share_layers=s.vf_share_layers
        )
    )
    config.reporting(min_sample_timesteps_per_iteration=_steps_of_iteration(run))


def _steps_of_iteration(run: RunConfig) -> int:
    """Environment steps in an iteration of RLlib's own algorithms but PPO; by default checkpoints would come late."""
    return min(MOST_STEPS, run.checkpoint_interval * (run.floor.horizon_bars or MOST_STEPS))


_BUILDERS = {
    ("qmix", ""): _qmix,
    ("vdn", ""): _vdn,
    ("iql", ""): _iql,
    ("mappo", ""): _mappo,
    ("ippo", ""): _ippo,
    ("maddpg", ""): _maddpg,
    ("ppo", "team"): _team_ppo,
    ("ppo", "rllib"): _rllib_ppo,
    ("dqn", ""): _dqn,
    ("sac", ""): _sac,
    ("tqc", ""): _tqc,
    ("impala", ""): _impala,
    ("appo", ""): _appo,
}


def is_on_team_path(run: RunConfig) -> bool:
    """Whether the batched team runner samples, or RLlib's own."""
    return run.algo in ONLY_ON_TEAM_PATH or (run.algo == "ppo" and run.runner == "team")


def replicas(run: RunConfig) -> int:
    """Replicas that one runner steps at once: as scaled, or the algorithm's own default."""
    own: Any = getattr(run, SECTION_OF_ALGO[run.algo])
    return run.scaling.num_envs_per_env_runner or int(own.num_envs_per_env_runner)


def _scale(config: AlgorithmConfig, run: RunConfig) -> None:
    """Processes, replicas and devices."""
    s = run.scaling
    gpus = s.num_gpus_per_learner
    if gpus is None:
        gpus = 1.0 if ray.is_initialized() and ray.cluster_resources().get("GPU", 0) >= max(1, s.num_learners) else 0.0
    config.env_runners(
        num_env_runners=s.num_env_runners,
        num_gpus_per_env_runner=s.num_gpus_per_env_runner,
        num_cpus_per_env_runner=s.num_cpus_per_env_runner,
    )
    if s.num_envs_per_env_runner is not None:
        config.env_runners(num_envs_per_env_runner=s.num_envs_per_env_runner)
    config.learners(num_learners=s.num_learners, num_gpus_per_learner=gpus)
    config.fault_tolerance(restart_failed_env_runners=True)
    config.floor_device = s.floor_device


def _assign_networks(config: AlgorithmConfig, run: RunConfig, market: Market) -> None:
    """Say which agent acts by which network.

    Raises:
        IncompatibleError: if the algorithm cannot take the desk's actions, or agents cannot share a network.
        InputError: if the algorithm needs continuous actions.
    """
    action = run.desk.action
    if run.algo in ONLY_CONTINUOUS and action != "continuous":
        raise InputError(
            f"--algo {run.algo} sets target weights, but desk.action is {action}: give --desk.action continuous, or "
            "use dqn"
        )
    if run.algo in ("qmix", "vdn", "iql", "dqn") and action != "discrete":
        raise IncompatibleError(
            f"--algo {run.algo} chooses among discrete actions, but desk.action is {action}: use ppo, mappo, ippo, "
            "maddpg, sac, tqc, impala or appo"
        )
    if run.algo in ONLY_ON_TEAM_PATH:
        return  # one module for the whole team, which pads observations itself
    settings: Any = getattr(run, SECTION_OF_ALGO[run.algo])
    floor = build_floor(market)
    kinds = {(floor.obs_dims[n], str(floor.action_spaces[a])) for n, a in enumerate(floor.agent_ids)}
    if settings.use_shared_networks and len(kinds) > 1:
        raise IncompatibleError(
            f"--{run.algo}.use-shared-networks needs agents with equally wide observations and the same actions, but "
            f"these differ: {sorted(kinds)}; leave the flag out"
        )
    if settings.use_shared_networks or (settings.use_shared_networks is None and len(kinds) == 1):
        config.multi_agent(policies={SHARED}, policy_mapping_fn=map_to_shared)
    else:
        config.multi_agent(policies=set(floor.agent_ids), policy_mapping_fn=map_to_own)


def map_to_shared(agent_id: str, episode: Any, **kwargs: Any) -> str:
    """Every agent acts by the one network."""
    return SHARED


def map_to_own(agent_id: str, episode: Any, **kwargs: Any) -> str:
    """Every agent acts by the network of its name."""
    return agent_id
