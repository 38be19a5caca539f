"""What RLlib 2.60 keeps to itself and this room uses all the same: each name stands here.

A test says when one goes; where RLlib offers a way, that is taken. ``PRIVATE_NAMES`` also lists what is read or written
by name elsewhere in the room, because it is a whole set (``algos.exact``) or because a class of RLlib's is continued
(``algos.impala``).
"""

from collections.abc import Callable
from typing import Any

from ray.tune.registry import ENV_CREATOR, _global_registry

DEPRECATION_LOGGER = "ray._common.deprecation"
"""What RLlib complains by about its own classes."""
RUNNER_FIELDS = (
    "_ongoing_episodes",
    "_done_episodes_for_metrics",
    "_ongoing_episodes_for_metrics",
    "_cached_to_module",
    "_shared_data",
    "_needs_initial_reset",
)
"""Of a MultiAgentEnvRunner: the episodes under way."""
VECTOR_FIELDS = ("_observations", "_rewards", "_terminations", "_truncations", "_infos", "_autoreset_envs")
"""Of its vector of environments."""
PACKS = "_episode_packs_being_built"
"""Where IMPALA and APPO keep what has been sampled and is not yet a whole batch."""
PRIVATE_NAMES: dict[str, tuple[str, ...]] = {
    "ray.rllib.algorithms.algorithm:Algorithm": ("_counters", "_create_local_replay_buffer_if_necessary"),
    "ray.rllib.algorithms.impala.impala:IMPALA": (PACKS,),
    "ray.rllib.algorithms.impala.impala_learner:IMPALALearner": ("_learner_thread", "_model_io_lock", "_agg_event"),
    "ray.rllib.algorithms.appo.appo_learner:APPOLearner": ("_last_update_ts_by_mid",),
    "ray.rllib.core.learner.learner:Learner": (
        *("_named_optimizers", "_optimizer_name_to_module", "_optimizer_parameters", "_optimizer_lr_schedules"),
        *("_set_optimizer_lr", "_weights_seq_no", "_make_batch_if_necessary"),
    ),
    "ray.rllib.core.learner.learner_group:LearnerGroup": ("_learner",),
    "ray.rllib.env.multi_agent_env_runner:MultiAgentEnvRunner": (*RUNNER_FIELDS, "_try_env_reset"),
    "ray.rllib.env.vector.sync_vector_multi_agent_env:SyncVectorMultiAgentEnv": VECTOR_FIELDS,
    "ray.rllib.utils.metrics.metrics_logger:MetricsLogger": ("_threading_lock",),
    "ray.rllib.utils.replay_buffers.multi_agent_episode_buffer:MultiAgentEpisodeReplayBuffer": ("_module_to_indices",),
}


def environment_creator(name: str) -> Callable[[Any], Any]:
    """What makes the environment that is registered under a name; it takes an ``env_config``."""
    create: Callable[[Any], Any] = _global_registry.get(ENV_CREATOR, name)
    return create


def local_learner(group: Any) -> Any:
    """The learner of a LearnerGroup that learns in this process; None where all of them are remote."""
    return getattr(group, "_learner", None)


def num_updates(learner: Any) -> int:
    """Updates that a learner has done in the whole life of the run."""
    return int(learner._weights_seq_no)


def use_scheduled_lr(learner: Any, timestep: int) -> None:
    """Give every optimizer the step size that its schedule has for this many environment steps.

    RLlib does so after an update, so that the first one after a restore would be by the step size of the start.
    """
    for optimizer, schedule in learner._optimizer_lr_schedules.items():
        learner._set_optimizer_lr(optimizer, float(schedule.update(timestep=timestep)))


def named_optimizers(learner: Any) -> dict[str, tuple[str, Any]]:
    """The optimizers of a learner by name, each with the id of its module."""
    return {n: (learner._optimizer_name_to_module[n], o) for n, o in learner._named_optimizers.items()}
