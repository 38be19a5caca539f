"""PPO on the team path, RLlib's algorithm with sampling and data path replaced; and RLlib's own."""

from dataclasses import asdict
from typing import Any

from ray.rllib.algorithms.ppo import PPO, PPOConfig
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig
from ray.rllib.core.rl_module.rl_module import RLModuleSpec

from algos.acting import agents_by_module
from algos.algorithm import TeamAlgorithm, on_team_path
from algos.learner_state import WholePPOLearner
from algos.ppo.catalog import NETWORK_KEYS
from algos.ppo.config import PPOSettings
from algos.ppo.learner import TeamPPOLearner
from algos.ppo.module import MaskedPPOModule
from algos.rollout import concatenate
from algos.step_size import step_size_schedule
from common.errors import IncompatibleError, InputError


class TeamPPOConfig(PPOConfig):
    """RLlib's PPOConfig for PPO on rollout arrays."""

    def __init__(self, algo_class: Any = None) -> None:
        super().__init__(algo_class=algo_class or TeamPPO)
        on_team_path(self)
        self.use_global_state = False
        self.stored_columns = ("logp", "dist_inputs")
        self.num_envs_per_env_runner = PPOSettings().num_envs_per_env_runner

    def get_default_learner_class(self) -> type[TeamPPOLearner]:
        """Stock loss, arrays in."""
        return TeamPPOLearner

    def get_default_rl_module_spec(self) -> RLModuleSpec:
        """Stock networks that obey masks."""
        return RLModuleSpec(module_class=MaskedPPOModule)


class TeamPPO(TeamAlgorithm, PPO):
    """PPO whose runners return arrays."""

    @classmethod
    def get_default_config(cls) -> TeamPPOConfig:
        """Return the default config."""
        return TeamPPOConfig()

    def training_step(self) -> None:
        """Sample one batch, learn from it for some epochs, send the weights back."""
        rollouts = self.sample_rollouts()
        if not rollouts:
            return
        rollout = concatenate(rollouts)
        shards = rollout.shards(self.num_learner_shards)
        agents, widths = self._layout()
        most = max(len(index) for index in agents.values())
        rows = min(s.env_steps() for s in shards) * most
        minibatch = min(self.config.minibatch_size or rows, rows)
        num_minibatches = max(1, self.config.num_epochs * rows // minibatch)
        self.update_learners(
            shards,
            agents=agents,
            widths=widths,
            num_epochs=self.config.num_epochs,
            minibatch_size=minibatch,
            num_minibatches=num_minibatches,
        )
        self.sync_runners()

    def _layout(self) -> tuple[dict[str, list[int]], dict[str, int]]:
        """Which agents act by which module, and how wide its observations are."""
        spaces = self.spaces or {}
        agent_ids = list(spaces["__env__"][0].spaces)
        agents = agents_by_module(self.config.policy_mapping_fn(agent_id, None) for agent_id in agent_ids)
        missing = [m for m in agents if m not in spaces]
        if missing:
            raise IncompatibleError(f"agents are mapped to modules that do not exist: {missing}")
        return agents, {m: int(spaces[m][0].shape[0]) for m in agents}


def apply_ppo_settings(config: PPOConfig, settings: PPOSettings) -> PPOConfig:
    """Write our settings into an RLlib PPOConfig, whichever runner it uses.

    Raises:
        IncompatibleError: if a GRU is asked for.
    """
    if settings.network == "gru":
        raise IncompatibleError(
            "ppo.network is 'gru', but ppo's networks have no memory: use mlp or transformer, or --algo ippo"
        )
    config.training(
        lr=step_size_schedule(settings.lr, settings),
        gamma=settings.gamma,
        lambda_=settings.lambda_,
        train_batch_size_per_learner=settings.train_batch_size_per_learner,
        minibatch_size=settings.minibatch_size,
        num_epochs=settings.num_epochs,
        clip_param=settings.clip_param,
        vf_clip_param=settings.vf_clip_param,
        vf_loss_coeff=settings.vf_loss_coeff,
        entropy_coeff=settings.entropy_coeff,
        use_kl_loss=settings.use_kl_loss,
        kl_coeff=settings.kl_coeff,
        kl_target=settings.kl_target,
        grad_clip=settings.grad_clip,
        grad_clip_by="global_norm",
    )
    model = DefaultModelConfig(fcnet_hiddens=list(settings.hidden), fcnet_activation=settings.activation)
    own = {} if settings.network == "mlp" else {key: getattr(settings, key) for key in NETWORK_KEYS}
    config.rl_module(model_config={**asdict(model), **own} if own else model)
    return config


def team_ppo(settings: PPOSettings, *, steps_per_iteration: int) -> PPOConfig:
    """Config of PPO whose runners return arrays."""
    config = apply_ppo_settings(TeamPPOConfig(), settings)
    config.env_runners(num_envs_per_env_runner=settings.num_envs_per_env_runner)
    return config


def rllib_ppo(settings: PPOSettings, *, steps_per_iteration: int) -> PPOConfig:
    """RLlib's own PPO, from sampling to learning.

    Raises:
        InputError: for a network that attends over bars.
    """
    if settings.network != "mlp":
        raise InputError(
            f"--ppo.network {settings.network} needs --runner team: RLlib's own does not say where the bars of a "
            "window stand"
        )
    config = apply_ppo_settings(PPOConfig(), settings)
    config.rl_module(rl_module_spec=RLModuleSpec(module_class=MaskedPPOModule))
    config.learners(learner_class=WholePPOLearner)
    config.env_runners(num_envs_per_env_runner=settings.num_envs_per_env_runner)
    return config
