"""RLlib's PPO loss on rollout arrays: advantages, minibatches and nothing else is ours."""

from typing import Any

import torch
from ray.rllib.core.columns import Columns
from ray.rllib.evaluation.postprocessing import Postprocessing
from torch import Tensor

from algos.learner import TeamLearner, require_finite
from algos.learner_state import WholePPOLearner
from algos.minibatches import cyclic_order
from algos.returns import generalised_advantages
from algos.rollout import Rollout
from common.counted import counted_seed


class TeamPPOLearner(TeamLearner, WholePPOLearner):
    """PPO's clipped surrogate (Schulman et al. 2017) as RLlib writes it, fed by ``Rollout`` arrays.

    Value function bootstraps are truncation-correct, advantages are standardised per module over the whole batch, and
    minibatches are drawn from a generator seeded by (seed, update), so that a resumed run shuffles as an unbroken one.
    """

    def learn(  # type: ignore[override]
        self,
        data: Rollout,
        *,
        agents: dict[str, list[int]],
        widths: dict[str, int],
        num_epochs: int,
        minibatch_size: int,
        num_minibatches: int,
        **_: Any,
    ) -> None:
        """Take ``num_minibatches`` gradient steps on minibatches of every module's agent steps.

        Args:
            data: The sampled rollout.
            agents: Agent indices per module.
            widths: Observation width per module.
            num_epochs: Passes over the batch (already part of ``num_minibatches``).
            minibatch_size: Agent steps in a minibatch.
            num_minibatches: Gradient steps, equal on every learner.

        Raises:
            NonFiniteLossError: if the last loss of a module is NaN or infinite.
        """
        rollout = data.to(self._device)
        columns = {m: self._columns(rollout, m, index, widths[m]) for m, index in agents.items()}
        generator = torch.Generator(device=self._device)
        generator.manual_seed(counted_seed(self.config.seed or 0, self._weights_seq_no))
        orders = {
            m: cyclic_order(len(c[Columns.ACTIONS]), num_minibatches * minibatch_size, generator)
            for m, c in columns.items()
        }
        losses: dict[str, Tensor] = {}
        all_losses: dict[str, Any] = {}
        for i in range(num_minibatches):
            batch = {}
            for m, c in columns.items():
                rows = orders[m][i * minibatch_size : (i + 1) * minibatch_size]
                batch[m] = {name: values[rows] for name, values in c.items()}
            _, losses, _ = self._update(batch)
            for m, loss in losses.items():
                all_losses[m] = all_losses.get(m, 0.0) + loss.detach()
        for m, loss in losses.items():
            require_finite(all_losses[m], m)
            self.metrics.log_value((m, self.TOTAL_LOSS_KEY), loss, window=1)
        self.log_trained(dict.fromkeys(losses, num_minibatches * minibatch_size), rollout.env_steps())

    @torch.no_grad()
    def _columns(self, rollout: Rollout, module_id: str, index: list[int], width: int) -> dict[str, Tensor]:
        """Flatten one module's part of a rollout to rows [T * B * n, ...] and add advantages and value targets."""
        module = self.module[module_id].unwrapped()
        obs = rollout.obs[:, :, index, :width]
        values = module.compute_values({Columns.OBS: obs.flatten(0, 2)}).view(obs.shape[:3])
        final = rollout.final_obs[:, index, :width]
        final_values = module.compute_values({Columns.OBS: final.flatten(0, 1)}).view(final.shape[:2])
        advantages = generalised_advantages(
            rollout.rewards[:, :, index],
            values[:-1],
            rollout.next_values(values, final_values),
            rollout.terminated.unsqueeze(-1),
            rollout.ended.unsqueeze(-1),
            gamma=self.config.gamma,
            lambda_=self.config.lambda_,
        )
        targets = advantages + values[:-1]
        advantages = (advantages - advantages.mean()) / advantages.std(unbiased=False).clamp_min(1e-4)
        assert rollout.logp is not None
        assert rollout.dist_inputs is not None
        inputs, actions = rollout.dist_inputs[module_id], rollout.actions[:, :, index]
        if actions.dim() == 4:
            actions = actions[..., : inputs.shape[-1] // 2]  # without the padding to the widest agent
        columns = {
            Columns.OBS: obs[:-1],
            Columns.ACTIONS: actions,
            Columns.ACTION_LOGP: rollout.logp[:, :, index],
            Columns.ACTION_DIST_INPUTS: inputs,
            Postprocessing.ADVANTAGES: advantages,
            Postprocessing.VALUE_TARGETS: targets,
        }
        if rollout.action_mask is not None:
            columns["action_mask"] = rollout.action_mask[:-1, :, index, : inputs.shape[-1]]
        return {name: values.flatten(0, 2) for name, values in columns.items()}
