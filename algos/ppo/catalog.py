"""Our transformer among the encoders that RLlib's catalog builds for PPO."""

from dataclasses import dataclass
from typing import Any, cast

import gymnasium as gym
from ray.rllib.algorithms.ppo.ppo_catalog import PPOCatalog
from ray.rllib.core.columns import Columns
from ray.rllib.core.models.base import ENCODER_OUT, Encoder
from ray.rllib.core.models.configs import ModelConfig
from ray.rllib.core.models.torch.base import TorchModel
from torch import Tensor

from algos.network_settings import NetworkSettings
from algos.transformer import TransformerEncoder
from algos.windows import width_of, window_of

NETWORK_KEYS = ("network", "d_model", "num_heads", "num_layers")
"""What a model config says of the network, beside RLlib's own keys."""


@dataclass
class WindowEncoderConfig(ModelConfig):
    """What RLlib's catalog hands to whoever builds the encoder of one network."""

    space: gym.Space | None = None
    settings: NetworkSettings | None = None

    @property
    def output_dims(self) -> tuple[int, ...]:
        """Width of the features."""
        return (cast(NetworkSettings, self.settings).d_model,)

    def build(self, framework: str = "torch") -> "WindowEncoder":
        """Build the encoder; there is one for torch alone."""
        return WindowEncoder(self)


class WindowEncoder(TorchModel, Encoder):  # type: ignore[misc]
    """A transformer over the bars of the observations of one network, as RLlib's modules call it."""

    def __init__(self, config: WindowEncoderConfig) -> None:
        TorchModel.__init__(self, config)
        Encoder.__init__(self, config)
        s, space = cast(NetworkSettings, config.settings), cast(gym.Space, config.space)
        self.net = TransformerEncoder(
            [window_of(space)],
            [width_of(space)],
            d_model=s.d_model,
            num_heads=s.num_heads,
            num_layers=s.num_layers,
            is_shared=False,  # which spares the offset of the one agent
        )

    def _forward(self, inputs: dict[str, Any], **kwargs: Any) -> dict[str, Tensor]:
        return {ENCODER_OUT: self.net(inputs[Columns.OBS].unsqueeze(0)).squeeze(0)}


class WindowCatalog(PPOCatalog):
    """RLlib's catalog for PPO, and the transformer where the model config asks for it."""

    @classmethod
    def _get_encoder_config(
        cls, observation_space: gym.Space, model_config_dict: dict[str, Any], action_space: gym.Space | None = None
    ) -> ModelConfig:
        if model_config_dict.get("network", "mlp") == "mlp":
            stock: ModelConfig = super()._get_encoder_config(observation_space, model_config_dict, action_space)
            return stock
        settings = NetworkSettings(**{key: model_config_dict[key] for key in NETWORK_KEYS})
        return WindowEncoderConfig(input_dims=observation_space.shape, space=observation_space, settings=settings)
