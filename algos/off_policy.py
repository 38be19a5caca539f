"""What the off-policy team algorithms share: a replay buffer of joint steps, counted draws, and their checkpoints."""

import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import ConfigDict, Field, TypeAdapter
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from typing_extensions import TypedDict

from algos.algorithm import TeamAlgorithm, map_to_team, on_team_path
from algos.priorities import PriorityRule
from algos.replay import Drawn, TeamBatch, TeamReplay
from algos.replay_files import load_replay, snapshot_replay
from algos.rollout import Rollout
from algos.runner import TEAM_MODULE
from algos.running import RunningScale
from algos.schedules import straight_line
from algos.snapshots import Snapshot
from common.counted import counted_seed
from common.errors import IncompatibleError, told

DRAWS_FILE = "draws.json"


class _Scale(TypedDict):
    count: Annotated[float, Field(ge=0)]
    mean: float
    sum_squares: Annotated[float, Field(ge=0)]


class _Draws(TypedDict):
    __pydantic_config__ = ConfigDict(strict=True, allow_inf_nan=False)  # type: ignore[misc]

    scale: _Scale
    num_draws: Annotated[int, Field(ge=0, lt=1 << 63)]


_DRAWS = TypeAdapter(_Draws)


class OffPolicyTeamConfig(AlgorithmConfig):
    """Config of an algorithm that learns from a replay buffer; ``settings`` holds all that is its own.

    The settings are ReplaySettings and NetworkSettings, and have a ``train_batch_size``.
    """

    pays_own_reward = False
    """Whether each agent is paid its own reward, or the mean of all."""
    learns_from_masks = False
    """Whether the learner asks what was allowed, beside what is allowed next."""
    replays_by_priority = False
    """Whether what was predicted badly is drawn more often. The settings then have ``priority_alpha``,
    ``priority_beta`` and ``priority_beta_steps``, and the learner notes ``td_errors``."""

    def __init__(self, algo_class: Any = None) -> None:
        super().__init__(algo_class=algo_class)
        on_team_path(self)
        self.use_global_state = False
        self.stored_columns: tuple[str, ...] = ()
        self.multi_agent(policies={TEAM_MODULE}, policy_mapping_fn=map_to_team)

    def use_settings(self, settings: Any) -> "OffPolicyTeamConfig":
        """Write the settings where RLlib looks for them.

        Raises:
            IncompatibleError: if a network with a memory is to learn from steps that jump over several.
        """
        if settings.network == "gru" and settings.n_step > 1:
            raise IncompatibleError(
                "n_step above 1 needs network=mlp or transformer; a GRU learns from whole sequences with n_step=1"
            )
        self.settings = settings
        self.gamma = settings.gamma
        self.env_runners(
            rollout_fragment_length=settings.rollout_fragment_length,
            num_envs_per_env_runner=settings.num_envs_per_env_runner,
        )
        return self

    @property
    def sequence_length(self) -> int:
        """Joint steps in a sample: one, or as many as a GRU learns from."""
        return int(self.settings.sequence_length) if self.settings.network == "gru" else 1

    def validate(self) -> None:
        """Check what RLlib checks, and that the replay buffer can hold what is drawn from it.

        Raises:
            IncompatibleError: if no sample would ever fit, so that nothing would be learned in silence.
        """
        super().validate()
        s = self.settings
        rows = s.replay_capacity // max(1, self.num_env_runners) // self.num_envs_per_env_runner
        wanted = max(self.sequence_length, s.n_step, self.get_rollout_fragment_length(1) + 1)
        if rows < wanted:
            raise IncompatibleError(
                f"replay_capacity {s.replay_capacity} leaves {rows} steps for each of {self.num_envs_per_env_runner} "
                f"replicas of {max(1, self.num_env_runners)} runner(s), but {wanted} are needed; raise it to at least "
                f"{wanted * max(1, self.num_env_runners) * self.num_envs_per_env_runner}"
            )


class OffPolicyTeam(TeamAlgorithm):
    """A mixin of TeamAlgorithm: sample a fragment, store it, take some gradient steps on what is stored."""

    def setup(self, config: AlgorithmConfig) -> None:
        """Build what RLlib builds, and the replay buffer."""
        super().setup(config)
        s = self.config.settings
        num_runners = self.config.num_env_runners  # the remote ones count from 1
        self.replay = TeamReplay(
            s.replay_capacity,
            max(1, num_runners),
            first_source=min(1, num_runners),
            has_own_rewards=self.config.pays_own_reward,
            priorities=PriorityRule(s.priority_alpha, max(self.config.sequence_length, s.n_step))
            if self.config.replays_by_priority
            else None,
        )
        self.reward_scale = RunningScale()
        self._num_draws = 0
        self._drawn: list[list[Drawn]] = []

    def training_step(self) -> None:
        """Sample one fragment from every runner, then take the configured number of gradient steps."""
        for rollout in self.sample_rollouts():
            self.observe(rollout)
        s = self.config.settings
        enough = self.replay.num_added >= max(s.learning_starts, s.train_batch_size)
        if enough and self.replay.can_sample(self.config.sequence_length, s.n_step):
            self._learn()
        self.sync_runners()

    def _learn(self) -> None:
        """Draw a round of batches for every learner and take the gradient steps.

        All batches of a round are drawn before its first gradient step, so priorities follow round by round.
        """
        self._drawn = []
        self.update_learners([self._draw() for _ in range(self.num_learner_shards)])
        if not self.config.replays_by_priority:
            return
        answers = sorted(self.learner_group.foreach_learner(_td_errors), key=lambda answer: answer.actor_id or 0)
        for drawn, answer in zip(self._drawn, answers, strict=True):
            for batch, errors in zip(drawn, answer.get(), strict=True):
                self.replay.update_priorities(batch, errors)

    def observe(self, rollout: Rollout) -> None:
        """Store a rollout and let the reward scale see it."""
        paid = rollout.rewards if self.config.pays_own_reward else rollout.rewards.mean(-1)
        self.reward_scale.update(paid.flatten().double().cpu().numpy())
        self.replay.add(rollout)

    def _draw(self) -> list[TeamBatch]:
        """Draw the batches of one round of gradient steps; the draws are counted, not carried."""
        s = self.config.settings
        rng = np.random.default_rng(counted_seed(self.config.seed or 0, 1, self._num_draws))
        self._num_draws += 1
        scale = self.reward_scale.scale if s.use_reward_standardisation else 1.0
        per_learner = max(1, s.train_batch_size // self.num_learner_shards)
        kind = {
            "length": self.config.sequence_length,
            "n_step": s.n_step,
            "gamma": self.config.gamma,
            "with_mask": self.config.learns_from_masks,
        }
        drawn: list[Drawn] = []
        if self.config.replays_by_priority:
            kind["beta"] = straight_line(s.priority_beta, 1.0, s.priority_beta_steps, self.num_env_steps_sampled)
            batches, drawn = self.replay.sample_by_priority(s.num_updates, per_learner, rng, **kind)
        else:
            batches = self.replay.sample(s.num_updates, per_learner, rng, **kind)
        self._drawn.append(drawn)
        return [batch._replace(rewards=batch.rewards / scale) for batch in batches]

    # -- checkpoints ---------------------------------------------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        """What every checkpoint holds, the replay buffer (what is new of it) and the counts that draws depend on."""
        taken = super().snapshot()
        taken.replay = snapshot_replay(self.replay, previous=self.previous_checkpoint)
        state = {"scale": self.reward_scale.get_state(), "num_draws": self._num_draws}
        taken.files[DRAWS_FILE] = json.dumps(state).encode()
        return taken

    def load_checkpoint(self, checkpoint_dir: str) -> None:
        """Take over a snapshot's folder, the replay buffer and the counts.

        Raises:
            IncompatibleError: if a part of it is missing.
        """
        super().load_checkpoint(checkpoint_dir)
        folder = Path(checkpoint_dir)
        load_replay(self.replay, folder)
        self.load_reward_scale(folder)
        self._num_draws = self._read_draws(folder)["num_draws"]
        self.previous_checkpoint = folder

    def load_reward_scale(self, checkpoint: Path) -> None:
        """Take over the scale of rewards that the values of a checkpoint's networks are in units of.

        Raises:
            IncompatibleError: if the checkpoint does not hold it.
        """
        self.reward_scale.set_state(self._read_draws(checkpoint)["scale"])

    def _read_draws(self, checkpoint: Path) -> dict[str, Any]:
        path = checkpoint / DRAWS_FILE
        try:
            return dict(_DRAWS.validate_json(path.read_bytes()))
        except (OSError, ValueError) as error:
            raise IncompatibleError(
                f"{checkpoint} is no checkpoint of {type(self).__name__}: {path.name} cannot be read ({told(error)})"
            ) from error


def _td_errors(learner: Any, **_: Any) -> list[np.ndarray]:
    """The absolute TD errors of a learner's last round, [S] for each batch."""
    return [errors.cpu().numpy() for errors in learner.td_errors]
