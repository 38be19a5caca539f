"""Small modules of MADDPG, and batches of what their teams did."""

from collections import OrderedDict
from dataclasses import asdict

import gymnasium as gym
import numpy as np
import torch
from ray.rllib.core.rl_module.rl_module import RLModuleSpec

from algos.maddpg.config import MADDPGSettings
from algos.maddpg.module import TeamDDPGModule
from algos.replay import TeamBatch

DISCRETE = (gym.spaces.Discrete(2), gym.spaces.Discrete(4))
BOXES = (gym.spaces.Box(-2.0, 4.0, (1,), np.float32), gym.spaces.Box(0.0, 1.0, (3,), np.float32))
KINDS = {"discrete": DISCRETE, "continuous": BOXES}


def module_of(actions=DISCRETE, *, widths=(3, 2), inference_only=False, **settings) -> TeamDDPGModule:
    torch.manual_seed(0)
    boxes = [(a, gym.spaces.Box(-9, 9, (w,), np.float32)) for a, w in zip(("zoe", "abe"), widths, strict=True)]
    obs = OrderedDict(obs=gym.spaces.Dict(OrderedDict(boxes)), state=gym.spaces.Box(-9, 9, (0,), np.float32))
    return RLModuleSpec(
        module_class=TeamDDPGModule,
        observation_space=gym.spaces.Dict(obs),
        action_space=gym.spaces.Dict(OrderedDict(zip(("zoe", "abe"), actions, strict=True))),
        inference_only=inference_only,
        model_config={"settings": asdict(MADDPGSettings(hidden=(8,), **settings))},
    ).build()


def draw(seed=0):
    return torch.Generator().manual_seed(seed)


def loosened(module):
    """Give policies, and the targets apart from them, preferences: they start with next to none."""
    with torch.no_grad():
        module.agents.head.weight.mul_(30)
        if not module.inference_only:
            module.target_agents.head.weight.mul_(-20)
    return module


def batch_of(module, samples=7, *, mask=None, next_mask=None):
    obs, following = torch.randn(2, 1, samples, 2, 3, generator=draw(1))
    acted = module.act(obs[0], None if mask is None else mask[0], explore=True, generator=draw(2))
    own = module.settings.reward == "own"
    return TeamBatch(
        obs=obs,
        actions=acted.stored.unsqueeze(0),
        rewards=torch.randn((1, samples, 2) if own else (1, samples), generator=draw(3)),
        discounts=torch.rand(1, samples, generator=draw(4)),
        next_obs=following,
        ended=torch.zeros(1, samples, dtype=torch.bool),
        next_mask=next_mask,
        state=None,
        next_state=None,
        mask=mask,
    )
