"""What MADDPG minimises: the squared TD error of the critics, and minus the value of what the policies would do."""

from typing import Any

import torch
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from torch import Tensor

from algos.learner import ACTOR, CRITIC, NUM_UPDATES, TargetLearner, clip_gradients, learner_rank, require_finite
from algos.losses import squared_td_loss, td_targets
from algos.maddpg.config import MADDPGSettings
from algos.maddpg.module import NEXT_Q, OUTPUT_SQUARE, POLICY_Q, Q
from algos.replay import TeamBatch
from algos.runner import TEAM_MODULE
from common.counted import counted_seed


class MADDPGLearner(TargetLearner, TorchLearner):
    """Gradient steps on joint batches (Lowe et al. 2017, eq. 5 and 6).

    Noise is drawn from a generator seeded by (seed, update, learner), so that a resumed run draws as an unbroken one.
    Critics and policies step at once: policies are judged by the critics of before the step.
    """

    def configure_optimizers_for_module(self, module_id: str, config: Any = None) -> None:
        """One Adam for the policies and one for the critics."""
        settings: MADDPGSettings = config.settings
        self.register_adams(module_id, {ACTOR: settings.actor_lr, CRITIC: settings.critic_lr})

    def compute_loss_for_module(
        self, *, module_id: str, config: Any, batch: dict[str, Any], fwd_out: dict[str, Tensor]
    ) -> Tensor:
        """The critics' squared TD errors, minus the mean value of the policies' actions, plus their penalty.

        Args:
            module_id: The team's module.
            config: Holds the settings.
            batch: ``{"joint": TeamBatch, "noise": Noise}``.
            fwd_out: What the module's training forward returned; gets both terms added.
        """
        joint: TeamBatch = batch["joint"]
        following, discounts = fwd_out[NEXT_Q], joint.discounts.view(-1, 1)
        targets = td_targets(joint.rewards.reshape(len(following), -1), discounts, following)
        fwd_out["critic_loss"] = torch.stack([squared_td_loss(q, targets) for q in fwd_out[Q]]).sum()
        fwd_out["policy_loss"] = config.settings.logit_penalty * fwd_out[OUTPUT_SQUARE] - fwd_out[POLICY_Q].mean()
        return fwd_out["critic_loss"] + fwd_out["policy_loss"]

    def learn(self, data: list[TeamBatch], **_: Any) -> None:
        """Take one gradient step on each batch.

        Args:
            data: Joint batches of steps or, for a GRU, of sequences.

        Raises:
            NonFiniteLossError: if a loss, or the last gradient, is NaN or infinite.
        """
        s: MADDPGSettings = self.config.settings
        wrapped = self.module[TEAM_MODULE]
        module = wrapped.unwrapped()
        actor, critic = (self.get_optimizer(TEAM_MODULE, name) for name in (ACTOR, CRITIC))
        parts = [list(part.parameters()) for part in (module.agents, module.critic)]
        generator = torch.Generator(device=self._device)
        generator.manual_seed(counted_seed(self.config.seed or 0, self._weights_seq_no, learner_rank()))
        all_losses = torch.zeros((), device=self._device)
        for batch in data:
            joint = self.transfer(batch)
            inputs = {"joint": joint, "noise": module.draw_noise(joint.discounts.numel(), generator)}
            out = wrapped.forward_train(inputs)
            loss = self.compute_loss_for_module(module_id=TEAM_MODULE, config=self.config, batch=inputs, fwd_out=out)
            for optimizer in (actor, critic):
                optimizer.zero_grad(set_to_none=True)
            loss.backward()
            all_losses += loss.detach()
            norms = [clip_gradients(params, s.grad_clip) for params in parts]
            critic.step()
            self._num_updates += 1
            if self._num_updates % s.policy_delay == 0:
                actor.step()
            if self._num_updates % s.target_network_update_freq == 0:
                module.update_targets(s.tau)
        require_finite(all_losses, TEAM_MODULE, norms)
        self.metrics.log_dict(
            {
                self.TOTAL_LOSS_KEY: loss.detach(),
                "policy_loss": out["policy_loss"].detach(),
                "critic_loss": out["critic_loss"].detach(),
                "q_mean": out[Q].detach().mean(),
                "actor_grad_norm": norms[0],
                "critic_grad_norm": norms[1],
                NUM_UPDATES: float(self._num_updates),
            },
            key=TEAM_MODULE,
            window=1,
        )
        samples = sum(b.discounts.numel() for b in data)
        self.log_trained({TEAM_MODULE: samples}, samples)
