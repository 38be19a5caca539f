"""What can be set for the networks of every algorithm that has one module for the whole team."""

from typing import Literal, Self

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from common.strict import STRICT


@dataclass(frozen=True, kw_only=True, config=STRICT)
class NetworkSettings:
    """How an agent's observation is encoded."""

    network: Literal["mlp", "gru", "transformer"] = "mlp"
    """Encoder of each agent's observation: mlp takes it as one row; gru carries memory from bar to bar (Hausknecht and
    Stone 2015); transformer attends over the bars of its window (Vaswani et al. 2017)."""
    d_model: int = Field(default=32, gt=0)
    """Width of the transformer's tokens."""
    num_heads: int = Field(default=4, gt=0)
    """Attention heads, of the transformer and of a critic that attends."""
    num_layers: int = Field(default=1, gt=0, le=1_000)
    """Blocks of the transformer."""

    @model_validator(mode="after")
    def _check_heads(self) -> Self:
        if self.network == "transformer" and self.d_model % self.num_heads:
            raise ValueError(
                f"d_model is {self.d_model}, which num_heads {self.num_heads} does not divide: each head takes an "
                "equal share of it"
            )
        return self


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TeamNetworkSettings(NetworkSettings):
    """Which networks the agents of a team have."""

    use_shared_networks: bool = True
    """One network for all agents; False gives each agent its own. This holds for policies, and for value functions and
    critics of which each agent has one."""
    use_agent_id: bool | None = None
    """Tell the one network of all agents which of them it serves, by a one-hot id (obs_agent_id of PyMARL). False makes
    agents alike: they part their work by where they are, never by who they are. None: True where networks are
    shared. Joint critics of own rewards (maddpg) are always told, for all of them see the same."""

    @property
    def has_agent_id(self) -> bool:
        """Whether there is a shared network, and it is told which agent it serves."""
        return self.use_shared_networks and self.use_agent_id is not False

    @model_validator(mode="after")
    def _check_sharing(self) -> Self:
        if self.use_agent_id is not None and not self.use_shared_networks:
            raise ValueError(
                f"use_agent_id is {self.use_agent_id}, but use_shared_networks is False: an agent's own network serves "
                "nobody else; leave use_agent_id out, or share networks"
            )
        return self


@dataclass(frozen=True, kw_only=True, config=STRICT)
class CriticSettings(TeamNetworkSettings):
    """How observations are encoded, and how a critic of several agents looks at them."""

    critic: Literal["mlp", "attention"] = "mlp"
    """A critic of all agents: mlp sees everything in one row; attention values each agent by a token of its own and
    what it attends to of the others' (Iqbal and Sha 2019)."""
