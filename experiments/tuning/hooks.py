"""The hooks of a run: found by name, told to the runners, and called by the trainable."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from algos.hooks import HOOKS, Hook, Hooks, keep_episode, take_episodes
from common.errors import InputError, nearest
from experiments.settings.arguments import import_object
from experiments.settings.groups import is_on_team_path
from experiments.settings.run_config import RunConfig

if TYPE_CHECKING:
    from ray.rllib.algorithms.algorithm_config import AlgorithmConfig


def hooks_of(run: RunConfig) -> Hooks:
    """Make the hooks that the settings name.

    Raises:
        InputError: if one is unknown, cannot be made, or needs steps that RLlib's own runners do not give.
    """
    hooks = Hooks({name: _made(name) for name in run.hooks})
    if (stepping := hooks.wanting("on_step")) and not is_on_team_path(run):
        raise InputError(
            f"--hooks {stepping[0]} watches steps, which RLlib's own runners of --algo {run.algo} do not give: leave "
            "it out, or train by the team runner"
        )
    return hooks


def _made(name: str) -> Hook:
    if ":" in name:
        make = import_object(name, flag="--hooks", example="my_package.hooks:Counter")
    elif name in HOOKS:
        make = HOOKS[name]
    else:
        raise InputError(
            f"--hooks {name} is unknown{nearest(name, HOOKS)}: there are {', '.join(sorted(HOOKS)) or 'none'}; name "
            "one of your own as module:object"
        )
    try:
        made = make()
    except Exception as error:  # whatever the user's own code raises
        raise InputError(f"--hooks {name} cannot be made: {type(error).__name__}: {error}") from error
    if not isinstance(made, Hook):
        raise InputError(f"--hooks {name} makes {type(made).__name__}: name a subclass of algos.hooks.Hook")
    return made


def set_up_collecting(config: AlgorithmConfig, hooks: Hooks, run: RunConfig) -> None:
    """Tell runners to keep the episodes that end, where a hook wants them."""
    if not hooks.wanting("on_episode"):
        return
    if is_on_team_path(run):
        config.collect_episodes = True
    else:
        config.callbacks(on_episode_end=keep_episode)


def collected_episodes(algorithm: Any) -> list[Any]:
    """What has ended in every runner since the last call, by runner.

    A runner that has died takes with it what it had not given, as it does with its samples.
    """
    found = algorithm.env_runner_group.foreach_env_runner(
        take_episodes, local_env_runner=True, timeout_seconds=algorithm.config.sample_timeout_s
    )
    return sorted((batch for batches in found for batch in batches), key=lambda batch: batch.runner)
