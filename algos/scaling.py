"""Settings that every algorithm shares: where it samples and where it learns."""

from typing import Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from common.strict import STRICT


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ScalingSettings:
    """How many processes and replicas do the work; field names are RLlib's."""

    num_env_runners: int = Field(default=0, ge=0)
    """Remote sampling processes; 0 samples in the trainer's own process (exact resume needs 0). It may change later."""
    num_envs_per_env_runner: int | None = Field(default=None, gt=0)
    """Replicas of the market that one runner steps at once; None takes the algorithm's own default."""
    num_learners: int = Field(default=0, ge=0)
    """Remote learner processes; 0 learns in the trainer's own process."""
    num_gpus_per_learner: float | None = Field(default=None, ge=0)
    """GPUs for each learner; None takes one where the machine has one, else none."""
    num_gpus_per_env_runner: float = Field(default=0.0, ge=0)
    """GPUs for each remote runner; its floor is stepped there."""
    floor_device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where a runner steps its floor; auto follows the device that the runner was given."""
    num_cpus_per_env_runner: float = Field(default=1.0, ge=0)
    """CPUs that each remote runner claims."""
