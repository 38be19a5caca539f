"""What can be set for QMIX and VDN."""

from pydantic import Field
from pydantic.dataclasses import dataclass

from algos.q_settings import TeamQSettings
from common.strict import STRICT, Choice, setting


@dataclass(frozen=True, kw_only=True, config=STRICT)
class QMIXSettings(TeamQSettings):
    """Settings of QMIX, and of VDN, which has no use for those of the mixing network."""

    mixing_embed_dim: int = setting(32, gt=0, search=Choice((16, 32, 64)))
    """Width of the mixing network's hidden layer (QMIX)."""
    hypernet_hidden: int = Field(default=64, gt=0)
    """Width of the hypernetworks' hidden layer (QMIX)."""
