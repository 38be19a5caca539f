"""What learners are set to, unless the user says otherwise, on markets, games and benchmarks that are scored."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from algos.registry import TEAM, algorithm, algorithms
from experiments.settings.layers import merge

SCORED = tuple(known.name for known in algorithms().values() if TEAM in known.configs)
"""Algorithms that can be scored: those that the batched team runner samples for."""
GAMES = ("two-step", "climbing", "penalty")
_STEP_SIZES = MappingProxyType({"lr_decay_steps": 1.0})


class Recipe(NamedTuple):
    """How long to learn, and with which differences from the defaults.

    Attributes:
        steps: Environment steps.
        settings: Of the algorithm's group.
        num_episodes: Episodes by which the chosen policy is valued.
        falling: Settings that say over how many steps something falls, and which part of all steps that is.
        num_evaluation_episodes: Episodes of each evaluation on the way.
    """

    steps: int
    settings: Mapping[str, Any]
    num_episodes: int = 4_096
    falling: Mapping[str, float] = _STEP_SIZES
    num_evaluation_episodes: int = 256

    def but(
        self,
        settings: Mapping[str, Any] = MappingProxyType({}),
        *,
        steps: int | None = None,
        num_episodes: int | None = None,
        falling: Mapping[str, float] | None = None,
        num_evaluation_episodes: int | None = None,
    ) -> Recipe:
        """The same recipe with other settings, steps, episodes and what falls; None leaves what there is."""
        return Recipe(
            steps or self.steps,
            {**self.settings, **settings},
            num_episodes or self.num_episodes,
            falling or self.falling,
            num_evaluation_episodes or self.num_evaluation_episodes,
        )


_ON_POLICY = {
    "gamma": 1.0,
    "lr": 1e-3,
    "train_batch_size_per_learner": 1024,
    "minibatch_size": 256,
    "num_epochs": 5,
    "entropy_coeff": 0.0,
    "num_envs_per_env_runner": 64,
}
_OFF_POLICY = {
    "gamma": 1.0,
    "num_updates": 16,
    "rollout_fragment_length": 8,
    "num_envs_per_env_runner": 32,
    "replay_capacity": 50_000,
}
_TWIN = {"twin_critics": True, "policy_delay": 2}
"""Two critics, and policies at every other step, as TD3 has them; targets follow at every step."""
_OF_GAMES = {
    "lr": 1e-3,
    "epsilon_end": 1.0,
    "hidden": (64,),
    "num_updates": 10,
    "num_envs_per_env_runner": 8,
    "replay_capacity": 5_000,
    "learning_starts": 200,
    "train_batch_size": 64,
    "use_reward_standardisation": False,
    "lr_decay_steps": None,
}
"""Every joint action is tried equally often, so that what is learned does not hang on the order of trials."""
_BENCHMARK_EPISODES = 512
"""Fewer than elsewhere: most benchmarks are stepped one by one, which takes its time."""
_WIDE = {"hidden": (128, 128)}
"""Who is to go where hangs on where all are: networks of 64 learn it worse."""
_BENCHMARK_OFF_POLICY = {**_WIDE, "gamma": 0.99, "replay_capacity": 200_000}
_BENCHMARK_ON_POLICY = {
    "gamma": 0.99,
    "lr": 3e-3,
    "hidden": (64, 64),
    "use_shared_networks": False,
    "entropy_coeff": 0.02,
    "num_envs_per_env_runner": 256,
    "train_batch_size_per_learner": 6_400,
    "minibatch_size": 1_600,
    "num_epochs": 4,
}
"""An episode of particles, or half of one of foraging, of each of so many replicas that are stepped as one; passed over
seldom, for sampling costs little. Each agent has its own network, and parts its work from the others' sooner than by a
shared one that is told who it serves."""
_CHANCE_THEN_NONE = {**_STEP_SIZES, "entropy_decay_steps": 0.5}
"""Agents that step aside at random never stand in each other's way for long. Those without chance do, unless they have
learned for long enough with little of it."""
_COVERING = {"gamma": 0.95, "entropy_coeff": 0.003, "minibatch_size": 800}
"""Particles are on their way for a few steps: to look further ahead is to see what later chance will do."""
_ALIKE = {"use_shared_networks": True, "use_agent_id": False}
"""Who goes where is to hang on where they are: agents that know who they are learn that worse."""
_SPEAKING = {**_WIDE, "entropy_coeff": 0.02}
"""Much chance at first: a speaker that has settled for one word says nothing, and nobody listens."""
_SHORT_SIGHT = {
    "gamma": 0.85,
    "n_step": 3,
    "lr": 1e-3,
    "epsilon_decay_steps": 50_000,
    "grad_clip": 1.0,
    "hidden": (64, 64),
    "use_shared_networks": False,
}
"""Particles never come to an end, only their time does: with a discount of .95 or .99 what was learned of a team's
value has run away. Half the step size, or chance for four times as long, learns slower."""
_OPTIMISTS = {**_OF_GAMES, "overestimation_weight": 0.01, "use_shared_networks": False}
"""Agents that expect the best of each other."""
_SETTLING_OPTIMISTS = {**_OPTIMISTS, "epsilon_end": 0.05, "epsilon_decay_steps": 5_000}
"""The same, where several joint actions are equally good: they settle on one by playing it more and more often."""
_LINEAR_QUADRATIC = {
    "gamma": 0.99,
    "lambda_": 0.9,
    "lr": 3e-4,
    "initial_std": 0.2,
    "vf_clip_param": None,
    "num_envs_per_env_runner": 128,
    "train_batch_size_per_learner": 2048,
    "minibatch_size": 512,
}
_UNCLIPPED = 1e5
"""RLlib bounds the squared error of the value function by 10, above which it has no gradient: where returns are tens,
nothing is learned of them. This is far above the square of any return here. The gradient of such errors drowns the
policy's where both are clipped as one: ``grad_clip`` is raised with it."""
_WIDE_THEN_NARROW = {
    **_TWIN,
    "gamma": 0.99,
    "hidden": (128, 128),
    "actor_lr": 3e-4,
    "train_batch_size": 1024,
    "num_envs_per_env_runner": 256,
    "replay_capacity": 500_000,
    "learning_starts": 8_000,
    "noise_start": 0.3,
    "noise_end": 0.07,
    "noise_decay_steps": 200_000,
    "logit_penalty": 0.0,
}
"""Good policies differ by a hundredth of what a bad one loses, and what factors will do adds far more than that to each
target: the critic first sees far positions, then learns from very much data near the best, none of it often. It
wants actions that do not add up (``action=positions``)."""
_SLOW_AND_SMALL = {
    "hidden": (32, 32),
    "noise_start": 0.3,
    "noise_end": 0.3,
    "critic_lr": 2e-3,
    "actor_lr": 5e-5,
    "use_centralised_gradient": True,
}
"""One bar's return says next to nothing of a weight: small networks have less room to know it by heart, and policies
follow slowly. Three large weights lose a hundred times what good ones differ by, and critics that have seen them see
little else: noise of .3 to the end shows few. What is best for each hangs on what the others hold, not on what noise
made of it once."""
_MYOPIC = {"gamma": 0.0}
"""Whose utility is the logarithm does best by looking no further than the next bar, for trading is free there (Mossin
1968); whatever else is summed is noise."""
_EQUILIBRIUM = {
    "lr": 3e-4,
    "initial_std": 0.2,
    "num_envs_per_env_runner": 256,
    "train_batch_size_per_learner": 4096,
    "minibatch_size": 1024,
}
"""What each learns hangs on what the others do: small steps and little noise, from much data. A trader's profit falls
by a tenth where all trade a twentieth too much."""
_OF_SECTION: Mapping[str, Recipe] = MappingProxyType(
    {
        "qmix": Recipe(150_000, {**_OFF_POLICY, "epsilon_decay_steps": 50_000, "target_network_update_freq": 100}),
        "maddpg": Recipe(60_000, {**_OFF_POLICY, "noise_decay_steps": 20_000}),
        "mappo": Recipe(200_000, _ON_POLICY),
        "ppo": Recipe(200_000, _ON_POLICY),
    }
)
_LIKE = MappingProxyType({"indq": "qmix"})
"""Groups that take another's recipes wherever they have none of their own."""
_OF_ANY = Recipe(200_000, {}, falling={})
"""For an algorithm of your own: its defaults, as nothing is known of its settings."""
_OF_BENCHMARK: Mapping[str, Recipe] = MappingProxyType(
    {
        "qmix": Recipe(
            1_500_000,
            {
                **_BENCHMARK_OFF_POLICY,
                "num_envs_per_env_runner": 64,
                "num_updates": 32,
                "epsilon_decay_steps": 200_000,
                "tau": 0.01,
                "target_network_update_freq": 1,
            },
            _BENCHMARK_EPISODES,
        ),
        "maddpg": Recipe(500_000, {**_BENCHMARK_OFF_POLICY, "noise_decay_steps": 200_000}, _BENCHMARK_EPISODES),
        "ppo": Recipe(2_000_000, _BENCHMARK_ON_POLICY, _BENCHMARK_EPISODES),
    }
)
"""No more steps than were published: 2 million off policy, 20 million on policy (Papoudakis et al. 2021)."""
_PARTICLES = MappingProxyType(
    {
        "qmix": _OF_BENCHMARK["qmix"].but(_SHORT_SIGHT),
        "maddpg": _OF_BENCHMARK["maddpg"].but({**_TWIN, "gamma": 0.95, "use_shared_networks": False}),
        "mappo": _OF_BENCHMARK["ppo"].but(_COVERING, steps=5_000_000),
    }
)
_FORAGING_OFF_POLICY = {
    **_ALIKE,
    "gamma": 0.95,
    "n_step": 5,
    "lr": 1e-3,
    "epsilon_decay_steps": 400_000,
    "num_updates": 16,
}
"""Two foods are seldom found by chance: it takes long enough a time of it, and what was found is to be told of to the
steps before. Whoever is nearer goes first, whoever that is. Twice the updates take twice the time."""
_FORAGING_ON_POLICY = {**_WIDE, **_ALIKE, "gamma": 0.95, "clip_param": 0.1}
"""After large steps of the policies both agents may load for ever what they have just eaten: smaller ones are taken."""
_CHANCE_FOR_LONG = {**_STEP_SIZES, "entropy_decay_steps": 0.75}
"""Agents that are alike can lose at once what both have learned: not while steps are large and no chance is left to
find it again."""
_FORAGING_EPISODES = 4_096
"""All food is eaten in nearly every episode: it takes many to tell in how many it is not. It is stepped as one."""


_OF_MARKET: Mapping[tuple[str, str], Recipe] = MappingProxyType(
    {
        **{(game, "qmix"): Recipe(10_000, _OF_GAMES) for game in GAMES},
        **{(family, section): own for family in ("lbf", "mpe") for section, own in _OF_BENCHMARK.items()},
        ("lbf", "qmix"): _OF_BENCHMARK["qmix"].but(
            _FORAGING_OFF_POLICY,
            steps=2_000_000,
            num_episodes=_FORAGING_EPISODES,
            num_evaluation_episodes=_FORAGING_EPISODES // 4,
        ),
        ("lbf:5x5-2p-1f-coop", "qmix"): _OF_BENCHMARK["qmix"],
        ("lbf", "mappo"): _OF_BENCHMARK["ppo"].but(
            _FORAGING_ON_POLICY,
            steps=8_000_000,
            num_episodes=_FORAGING_EPISODES,
            falling=_CHANCE_FOR_LONG,
            num_evaluation_episodes=_FORAGING_EPISODES // 4,
        ),
        ("lbf:5x5-2p-1f-coop", "mappo"): _OF_BENCHMARK["ppo"].but(steps=1_500_000, falling=_CHANCE_THEN_NONE),
        **{("mpe", section): own for section, own in _PARTICLES.items()},
        ("mpe:simple_speaker_listener", "maddpg"): _PARTICLES["maddpg"].but(steps=800_000),
        ("mpe:simple_speaker_listener", "mappo"): _PARTICLES["mappo"].but(
            _SPEAKING, steps=3_000_000, falling=_CHANCE_THEN_NONE
        ),
        ("mpe:simple_spread", "qmix"): _PARTICLES["qmix"].but({**_WIDE, **_ALIKE}),
        ("mpe:simple_spread", "maddpg"): _PARTICLES["maddpg"].but(steps=1_000_000),
        ("mpe:simple_spread", "mappo"): _PARTICLES["mappo"].but({**_WIDE, **_ALIKE}),
        ("climbing", "indq"): Recipe(10_000, _OPTIMISTS),
        ("penalty", "indq"): Recipe(10_000, _SETTLING_OPTIMISTS),
        ("almgren-chriss", "maddpg"): Recipe(80_000, {**_TWIN, "actor_lr": 2e-4, "logit_penalty": 0.03}),
        ("almgren-chriss", "ippo"): Recipe(300_000, {"lr": 5e-4}),
        ("merton", "ppo"): Recipe(200_000, {"entropy_coeff": 0.003, "num_envs_per_env_runner": 128}),
        ("merton", "maddpg"): Recipe(200_000, {**_TWIN, "target_noise": 0.1}),
        ("garleanu-pedersen", "mappo"): Recipe(300_000, _LINEAR_QUADRATIC),
        ("garleanu-pedersen", "maddpg"): Recipe(600_000, _WIDE_THEN_NARROW),
        ("kyle", "ippo"): Recipe(1_500_000, _EQUILIBRIUM, 65_536),
        ("market-making", "mappo"): Recipe(400_000, {}),
        ("market-making", "ppo"): Recipe(
            3_000_000,
            {
                "vf_clip_param": _UNCLIPPED,
                "grad_clip": 100.0,
                "train_batch_size_per_learner": 4_096,
                "minibatch_size": 1_024,
            },
        ),
        ("floor", "mappo"): Recipe(
            300_000,
            {
                **_MYOPIC,
                "lr": 1e-3,
                "num_envs_per_env_runner": 256,
                "train_batch_size_per_learner": 16_384,
                "minibatch_size": 4_096,
            },
        ),
        ("floor", "ppo"): Recipe(400_000, _MYOPIC),
        ("floor", "maddpg"): Recipe(
            800_000,
            {
                **_OFF_POLICY,
                **_MYOPIC,
                **_SLOW_AND_SMALL,
                "num_updates": 8,
                "num_envs_per_env_runner": 256,
                "replay_capacity": 800_000,
                "train_batch_size": 4_096,
            },
        ),
        ("two-step", "mappo"): Recipe(60_000, {"entropy_coeff": 0.05}),
        ("two-step", "ppo"): Recipe(60_000, {"entropy_coeff": 0.05}),
    }
)


def recipe(market: str, algo: str, steps: int | None = None) -> Recipe:
    """What is set for an algorithm on a market; ``falling`` sets what it names by the steps, unless the recipe does.

    Args:
        market: Of the catalog, or a benchmark's, of which the part before the colon counts where the whole name has no
            recipe of its own.
        algo: One of ``SCORED``.
        steps: In place of its own; None leaves them.
    """
    section = algorithm(algo).group
    like = _LIKE.get(section, section)
    general = _OF_SECTION.get(like, _OF_ANY)
    names = [(name, by) for name in (market, market.partition(":")[0]) for by in (algo, section, like)]
    own = next((_OF_MARKET[name] for name in names if name in _OF_MARKET), general)
    total = steps or own.steps
    falling = {name: max(1, round(part * total)) for name, part in own.falling.items()}
    return own._replace(steps=total, settings=merge(merge(general.settings, falling), own.settings))
