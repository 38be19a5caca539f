"""TeamEnv: the batched environment that runners step, and the adapter that makes one of any MultiAgentEnv."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, cast, runtime_checkable

import gymnasium as gym
import numpy as np
import torch
from pettingzoo import ParallelEnv
from ray.rllib.env.multi_agent_env import MultiAgentEnv
from torch import Tensor

from common.errors import IncompatibleError


class TeamStep(Protocol):
    """What ``reset`` and ``step`` return; axes B replicas, N agents, F features of the widest agent, K actions.

    ``final_*`` are None when no replica ended in this step; otherwise their rows are valid where one did. ``stats`` are
    named numbers per ended episode, [B], or None.
    """

    @property
    def obs(self) -> Tensor:
        """[B, N, F] float32, zero-padded beyond an agent's own width."""

    @property
    def state(self) -> Tensor | None:
        """[B, S] float32."""

    @property
    def action_mask(self) -> Tensor | None:
        """[B, N, K] bool."""

    @property
    def reward(self) -> Tensor:
        """[B, N] float."""

    @property
    def terminated(self) -> Tensor:
        """[B] bool."""

    @property
    def truncated(self) -> Tensor:
        """[B] bool."""

    @property
    def final_obs(self) -> Tensor | None:
        """[B, N, F] float32."""

    @property
    def final_state(self) -> Tensor | None:
        """[B, S] float32."""

    @property
    def final_mask(self) -> Tensor | None:
        """[B, N, K] bool."""

    @property
    def stats(self) -> dict[str, Tensor] | None:
        """Named numbers per ended episode, [B]."""


@runtime_checkable
class TeamEnv(Protocol):
    """B replicas of one multi-agent environment, stepped as arrays; a replica that ends resets itself at once.

    Every step returns arrays of its own: nothing that was returned is written to again.
    """

    num_replicas: int
    num_agents: int
    agent_ids: tuple[str, ...]
    observation_spaces: dict[str, gym.Space]
    action_spaces: dict[str, gym.Space]
    state_dim: int
    device: torch.device

    @property
    def obs_dims(self) -> Sequence[int]:
        """Width of each agent's own observation, [N]."""

    @property
    def windows(self) -> Sequence[tuple[int, int, int]]:
        """Where the bars stand in each agent's observation, [N]: numbers before them, how many, numbers of each."""

    def reset(self, seed: int | None = None) -> TeamStep:
        """Start every replica afresh."""

    def step(self, actions: Tensor) -> TeamStep:
        """Take one joint action per replica: [B, N] int64, or [B, N, D] float32."""

    def get_state(self) -> dict[str, Any]:
        """Everything from which ``set_state`` continues as if nothing had happened."""

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from what ``get_state`` returned."""


class Step(NamedTuple):
    """The TeamStep of adapted environments."""

    obs: Tensor
    state: Tensor | None
    action_mask: Tensor | None
    reward: Tensor
    terminated: Tensor
    truncated: Tensor
    final_obs: Tensor | None
    final_state: Tensor | None
    final_mask: Tensor | None
    stats: dict[str, Tensor] | None

    @classmethod
    def resumed(cls, obs: Tensor, state: Tensor | None, action_mask: Tensor | None) -> "Step":
        """Return the step after which a saved run goes on: only what the next action is chosen from."""
        nothing = torch.zeros(obs.shape[0], dtype=torch.bool, device=obs.device)
        reward = torch.zeros(obs.shape[:2], device=obs.device)
        return cls(obs, state, action_mask, reward, nothing, nothing, None, None, None, None)


def make_team_env(
    creator: Callable[[], MultiAgentEnv], num_replicas: int, *, device: torch.device | str, seed: int, with_state: bool
) -> TeamEnv:
    """Make a TeamEnv of whatever an environment creator makes.

    An environment that can step many replicas at once says so by a method ``batched(num_replicas, *, device, seed,
    with_state)``; any other MultiAgentEnv is made ``num_replicas`` times and stepped in a loop.

    Args:
        creator: Makes one environment.
        num_replicas: B.
        device: Where observations are wanted.
        seed: Seed of the whole batch; replica b of an adapted environment gets ``seed + b``.
        with_state: Whether the learner wants the global state.
    """
    first = creator()
    if hasattr(first, "batched"):
        return cast(TeamEnv, first.batched(num_replicas, device=device, seed=seed, with_state=with_state))
    envs = [first, *(creator() for _ in range(num_replicas - 1))]
    return MultiAgentTeamEnv(envs, device=device, seed=seed, with_state=with_state)


class MultiAgentTeamEnv:
    """Any RLlib MultiAgentEnvs (and PettingZoo's, through RLlib's ParallelPettingZooEnv) as one TeamEnv.

    Observations are flattened and zero-padded to the widest agent. As RLlib has it, an agent acts when it was observed
    and has not ended; one that has left, or whose turn it is not, gets zeros and may only take action 0. An episode in
    which every agent ended by itself is over, whatever ``__all__`` says: terminated if all of them were, else
    truncated. The global state is the environment's own ``state()`` where it has one, else all observations in a row.
    Adapted environments have no state that could be saved: after a resume they start new episodes.
    """

    def __init__(
        self,
        envs: Sequence[MultiAgentEnv],
        *,
        device: torch.device | str = "cpu",
        seed: int = 0,
        with_state: bool = False,
    ) -> None:
        self.envs = list(envs)
        first = self.envs[0]
        # RLlib's PettingZoo wrapper keeps its agents in the order of a set, which differs from process to process.
        self._keys = list(getattr(_bare(first), "possible_agents", None) or first.possible_agents)
        self.agent_ids = tuple(str(a) for a in self._keys)
        self.num_agents, self.num_replicas = len(self.agent_ids), len(self.envs)
        self.device = torch.device(device)
        self._seed = seed
        full = {name: first.get_observation_space(key) for name, key in zip(self.agent_ids, self._keys, strict=True)}
        self._is_masked = all(isinstance(s, gym.spaces.Dict) and "action_mask" in s.spaces for s in full.values())
        inner = {a: cast(gym.spaces.Dict, s)["observations"] if self._is_masked else s for a, s in full.items()}
        self._inner = [inner[a] for a in self.agent_ids]
        self.observation_spaces = {a: gym.spaces.flatten_space(s) for a, s in inner.items()}
        self.action_spaces = {
            name: first.get_action_space(key) for name, key in zip(self.agent_ids, self._keys, strict=True)
        }
        self.obs_dims = [int(np.prod(cast(Any, s.shape))) for s in self.observation_spaces.values()]
        self.windows = [(0, 1, dim) for dim in self.obs_dims]  # a foreign environment says nothing of bars
        self._width = max(self.obs_dims)
        self._kind, self._num_actions, self._action_dims = _action_kind(self.action_spaces)
        self._with_state = with_state
        self._has_state = with_state and _tells_state(_bare(first))
        self._acting: list[set[Any]] = [set() for _ in self.envs]
        self._left: list[dict[Any, bool]] = [{} for _ in self.envs]
        self.state_dim = 0
        if with_state:
            first.reset(seed=seed % 2**32)
            self.state_dim = self._state_of(0, np.zeros((self.num_agents, self._width), np.float32)).size

    def reset(self, seed: int | None = None) -> Step:
        """Start a new episode in every environment; replica b is seeded by ``seed + b``, folded into 32 bits."""
        base = self._seed if seed is None else seed
        rows = [self._begin(b, seed=(base + b) % 2**32) for b in range(self.num_replicas)]
        zero = np.zeros(self.num_replicas, bool)
        return self._step(rows, np.zeros((self.num_replicas, self.num_agents)), zero, zero, {}, [])

    def step(self, actions: Tensor) -> Step:
        """Step every environment once; those that end are reset and their last observation kept.

        Raises:
            ValueError: if the shape is wrong, or an action is none of its agent's; before anything is stepped.
        """
        choices = self._checked(actions)
        rewards = np.zeros((self.num_replicas, self.num_agents))
        terminated, truncated = np.zeros(self.num_replicas, bool), np.zeros(self.num_replicas, bool)
        rows, finals = [], {}
        for b, env in enumerate(self.envs):
            acting = self._acting[b]
            joint = {key: self._action(choices[b, n], n) for n, key in enumerate(self._keys) if key in acting}
            obs, reward, term, trunc, _ = env.step(joint)
            rewards[b] = [reward.get(key, 0.0) for key in self._keys]
            terminated[b], truncated[b] = self._ends(b, term, trunc)
            if terminated[b] or truncated[b]:
                row = self._rows(obs)
                finals[b] = (*row, self._state_of(b, row[0]) if self._with_state else None)
                row = self._begin(b)
            else:
                self._acting[b] = set(obs) - set(self._left[b])
                row = self._rows({key: obs[key] for key in self._acting[b]})
            rows.append(row)
        return self._step(rows, rewards, terminated, truncated, finals, list(finals))

    def get_state(self) -> dict[str, Any]:
        """Nothing: a foreign environment keeps its state to itself."""
        return {}

    def set_state(self, state: dict[str, Any]) -> None:
        """Refuse a state that another environment wrote."""
        if state:
            raise IncompatibleError("the checkpoint holds the state of another kind of environment; start a new run")

    def close(self) -> None:
        """Close every environment."""
        for env in self.envs:
            env.close()

    def _begin(self, b: int, *, seed: int | None = None) -> tuple[np.ndarray, np.ndarray | None]:
        """Reset one environment; everyone it observes acts."""
        obs, _ = self.envs[b].reset(seed=seed)
        self._acting[b], self._left[b] = set(obs), {}
        return self._rows(obs)

    def _ends(self, b: int, terminateds: dict[Any, bool], truncateds: dict[Any, bool]) -> tuple[bool, bool]:
        """Note who left, and say whether the episode was terminated or else truncated."""
        for key in self._keys:
            if terminateds.get(key, False) or truncateds.get(key, False):
                self._left[b][key] = bool(terminateds.get(key, False))
        have_all_left = len(self._left[b]) == self.num_agents
        terminated = bool(terminateds.get("__all__", False)) or (have_all_left and all(self._left[b].values()))
        return terminated, not terminated and (have_all_left or bool(truncateds.get("__all__", False)))

    def _checked(self, actions: Tensor) -> np.ndarray:
        is_discrete, dims = self._kind == "discrete", np.array(self._action_dims)
        shape = (self.num_replicas, self.num_agents, *(() if is_discrete else (dims.max(),)))
        choices = actions.cpu().numpy()
        if choices.shape != shape or choices.dtype.kind not in ("iu" if is_discrete else "fiu"):
            wanted = "int64" if is_discrete else "float32"
            raise ValueError(f"actions are {choices.shape} {choices.dtype}, expected {shape} {wanted}")
        if is_discrete:
            bad = (choices < 0) | (choices >= dims)
        else:
            bad = (~np.isfinite(choices) & (np.arange(dims.max()) < dims[:, None])).any(-1)
        if bad.any():
            b, n = np.argwhere(bad)[0]
            space = self.action_spaces[self.agent_ids[n]]
            raise ValueError(
                f"action of agent {self.agent_ids[n]!r} in replica {b} is {choices[b, n]}, which is not in {space}"
            )
        return choices

    def _action(self, choice: Any, agent: int) -> Any:
        space = self.action_spaces[self.agent_ids[agent]]
        if self._kind == "discrete":
            return int(choice) + int(getattr(space, "start", 0))
        return np.asarray(choice[: self._action_dims[agent]], space.dtype).reshape(cast(Any, space.shape))

    def _rows(self, obs: dict[Any, Any]) -> tuple[np.ndarray, np.ndarray | None]:
        values = np.zeros((self.num_agents, self._width), np.float32)
        mask = np.zeros((self.num_agents, self._num_actions), bool) if self._kind == "discrete" else None
        for n, key in enumerate(self._keys):
            if key not in obs:
                if mask is not None:
                    mask[n, 0] = True
                continue
            seen = obs[key]["observations"] if self._is_masked else obs[key]
            values[n, : self.obs_dims[n]] = gym.spaces.flatten(self._inner[n], seen)
            if mask is not None:
                allowed = obs[key]["action_mask"] if self._is_masked else np.ones(self._action_dims[n], bool)
                mask[n, : self._action_dims[n]] = np.asarray(allowed, bool)
        return values, mask

    def _state_of(self, b: int, row: np.ndarray) -> np.ndarray:
        if self._has_state:
            return np.asarray(cast(Any, _bare(self.envs[b])).state(), np.float32).ravel()
        return row.ravel()

    def _step(
        self,
        rows: list[tuple[np.ndarray, np.ndarray | None]],
        rewards: np.ndarray,
        terminated: np.ndarray,
        truncated: np.ndarray,
        finals: dict[int, tuple[np.ndarray, np.ndarray | None, np.ndarray | None]],
        ended: list[int],
    ) -> Step:
        obs = self._tensor(np.stack([r[0] for r in rows]))
        mask = self._tensor(np.stack([cast(Any, r[1]) for r in rows])) if rows[0][1] is not None else None
        state = (
            self._tensor(np.stack([self._state_of(b, r[0]) for b, r in enumerate(rows)])) if self._with_state else None
        )
        final_obs = final_mask = final_state = None
        if ended:
            final_obs = torch.zeros_like(obs)
            final_obs[ended] = self._tensor(np.stack([finals[b][0] for b in ended]))
            if mask is not None:
                final_mask = torch.zeros_like(mask)
                final_mask[ended] = self._tensor(np.stack([cast(Any, finals[b][1]) for b in ended]))
            if state is not None:
                final_state = torch.zeros_like(state)
                final_state[ended] = self._tensor(np.stack([cast(Any, finals[b][2]) for b in ended]))
        return Step(
            obs=obs,
            state=state,
            action_mask=mask,
            reward=self._tensor(rewards),
            terminated=self._tensor(terminated),
            truncated=self._tensor(truncated),
            final_obs=final_obs,
            final_state=final_state,
            final_mask=final_mask,
            stats=None,
        )

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(array).to(self.device)


def _bare(env: Any) -> Any:
    """The environment inside RLlib's PettingZoo wrapper, or itself."""
    return getattr(env, "par_env", env)


def _tells_state(env: Any) -> bool:
    """Whether an environment has a global state; PettingZoo's base class has the method, which raises."""
    method = getattr(env, "state", None)
    return callable(method) and getattr(method, "__func__", None) is not ParallelEnv.state


def _action_kind(spaces: dict[str, gym.Space]) -> tuple[str, int, list[int]]:
    """Say whether a team acts by choices or by numbers, how many of them, and each agent's own count."""
    if all(isinstance(s, gym.spaces.Discrete) for s in spaces.values()):
        counts = [int(cast(gym.spaces.Discrete, s).n) for s in spaces.values()]
        return "discrete", max(counts), counts
    if all(isinstance(s, gym.spaces.Box) for s in spaces.values()):
        dims = [int(np.prod(cast(Any, s.shape))) for s in spaces.values()]
        return "continuous", 0, dims
    named = ", ".join(f"{a}: {s}" for a, s in spaces.items())
    raise IncompatibleError(f"a team must act all in Discrete or all in Box spaces, but it has {named}")
