"""BenchMARL's side of the comparison: runs in its own virtual environment and speaks JSON, a line each way.

The first line that it reads holds ``algo`` and the settings that both sides share; every further one is the number of
iterations to train. It answers each with their frames and seconds.
"""

import json
import sys
import time
from typing import Any

import torch
from benchmarl.algorithms import MaddpgConfig, QmixConfig
from benchmarl.environments.common import Task
from benchmarl.environments.pettingzoo.common import PettingZooClass
from benchmarl.experiment import Callback, Experiment, ExperimentConfig
from benchmarl.models.mlp import MlpConfig
from mpe2 import simple_spread_v3
from torchrl.envs.libs.pettingzoo import PettingZooWrapper


class SpreadClass(PettingZooClass):
    """BenchMARL's own ``pettingzoo/simple_spread``, taken from mpe2, to which PettingZoo moved it."""

    def get_env_fun(self, num_envs: int, continuous_actions: bool, seed: int | None, device: Any) -> Any:
        """What makes one environment; BenchMARL steps so many of them in a row."""
        return lambda: PettingZooWrapper(
            simple_spread_v3.parallel_env(continuous_actions=continuous_actions, **self.config),
            return_state=True,
            categorical_actions=True,
            seed=seed,
            device=device,
        )


class SpreadTask(Task):
    """The one task, as BenchMARL registers tasks."""

    SIMPLE_SPREAD = None

    @staticmethod
    def associated_class() -> type[SpreadClass]:
        """Return what makes the environments."""
        return SpreadClass


class Turns(Callback):
    """Trains as many iterations as each line asks for, says how long they took, and waits for the next line."""

    def __init__(self) -> None:
        super().__init__()
        self.left = self.frames = 0
        self.wall = self.cpu = 0.0

    def wait(self) -> None:
        """Read how many iterations come next; the end of the input ends the process."""
        line = sys.stdin.readline()
        if not line:
            sys.exit(0)
        self.left, self.frames = int(line), 0
        self.wall, self.cpu = time.perf_counter(), time.process_time()

    def on_batch_collected(self, batch: Any) -> None:
        """Count what was collected."""
        self.frames += batch.numel()

    def on_train_end(self, training_td: Any, group: str) -> None:
        """Answer, if that was the last iteration that was asked for."""
        self.left -= 1
        if self.left == 0:
            taken = {"wall_s": time.perf_counter() - self.wall, "cpu_s": time.process_time() - self.cpu}
            print(json.dumps({"frames": self.frames, **taken}), file=sys.__stdout__, flush=True)
            self.wait()


def experiment(asked: dict[str, Any], turns: Turns) -> Experiment:
    """BenchMARL's experiment with the settings of both sides, and nothing that the other side does not do."""
    config = ExperimentConfig.get_from_yaml()
    config.train_device = config.sampling_device = config.buffer_device = asked["device"]
    config.share_policy_params = True
    config.prefer_continuous_actions = asked["algo"] == "maddpg"
    config.gamma, config.lr, config.clip_grad_val = asked["gamma"], asked["lr"], asked["grad_clip"]
    config.soft_target_update, config.polyak_tau = asked["tau"] < 1, asked["tau"]
    config.hard_target_update_frequency = asked["target_network_update_freq"]
    config.max_n_iters, config.max_n_frames = 10**6, None
    config.off_policy_n_envs_per_worker = asked["replicas"]
    config.off_policy_collected_frames_per_batch = asked["frames_per_iteration"]
    config.off_policy_n_optimizer_steps = asked["updates_per_iteration"]
    config.off_policy_train_batch_size = asked["batch"]
    config.off_policy_memory_size = asked["replay_capacity"]
    config.evaluation, config.render, config.loggers, config.create_json = False, False, [], False
    config.save_folder = asked["folder"]
    model = MlpConfig.get_from_yaml()
    model.num_cells, model.activation_class = list(asked["hidden"]), torch.nn.ReLU
    algo = {"qmix": QmixConfig, "maddpg": MaddpgConfig}[asked["algo"]].get_from_yaml()
    if asked["algo"] == "qmix":
        algo.mixing_embed_dim = asked["mixing_embed_dim"]
    task: Any = SpreadTask.SIMPLE_SPREAD
    return Experiment(
        task=task.get_task(config=asked["task"]),
        algorithm_config=algo,
        model_config=model,
        critic_model_config=model,
        seed=0,
        config=config,
        callbacks=[turns],
    )


if __name__ == "__main__":
    sys.stdout = sys.stderr  # the answers alone go to the real one
    torch.set_num_threads(1)
    turns = Turns()
    trained = experiment(json.loads(sys.stdin.readline()), turns)
    print(json.dumps({"ready": True}), file=sys.__stdout__, flush=True)
    turns.wait()
    trained.run()
