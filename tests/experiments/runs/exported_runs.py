"""One small run of each kind of team that is exported."""

from sample_runs import config_of

SMALL_QMIX = {"hidden": [16], "num_envs_per_env_runner": 4, "learning_starts": 32, "train_batch_size": 16}
SMALL_PPO = {"hidden": [16], "num_envs_per_env_runner": 4, "train_batch_size_per_learner": 64, "minibatch_size": 32}
SMALL_DQN = {"hidden": [16], "num_envs_per_env_runner": 2, "learning_starts": 32}
SMALL_IMPALA = {"hidden": [16], "num_envs_per_env_runner": 4, "train_batch_size_per_learner": 64, "lr": 0.01}
RUNS = {
    "qmix": config_of("qmix", qmix=SMALL_QMIX),
    "qmix-gru": config_of("qmix", qmix=SMALL_QMIX | {"network": "gru", "sequence_length": 4}),
    "qmix-separate": config_of("qmix", qmix=SMALL_QMIX | {"use_shared_networks": False}, desk={"preset": "roles"}),
    "vdn": config_of("vdn", qmix=SMALL_QMIX | {"optimizer": "rmsprop", "use_agent_id": False}),
    "indq": config_of("indq", indq=SMALL_QMIX | {"num_quantiles": 3, "dueling": True, "prioritised_replay": True}),
    "indq-separate": config_of(
        "indq", indq=SMALL_QMIX | {"use_shared_networks": False, "dueling": True}, desk={"preset": "roles"}
    ),
    "ppo": config_of("ppo", ppo=SMALL_PPO),
    "ppo-continuous": config_of("ppo", ppo=SMALL_PPO, desk={"action": "continuous", "preset": "roles"}),
    "mappo": config_of("mappo", mappo=SMALL_PPO),
    "mappo-separate": config_of("mappo", mappo=SMALL_PPO | {"use_shared_networks": False}),
    "ippo-continuous": config_of("ippo", mappo=SMALL_PPO, desk={"action": "continuous", "preset": "roles"}),
    "maddpg": config_of("maddpg", maddpg=SMALL_QMIX),
    "maddpg-continuous": config_of(
        "maddpg",
        maddpg=SMALL_QMIX | {"use_shared_networks": False, "reward": "own", "noise": "ou"},
        desk={"action": "continuous", "preset": "roles"},
    ),
    "dqn": config_of("dqn", dqn=SMALL_DQN),
    "appo": config_of("appo", appo=SMALL_IMPALA),
    "tqc-continuous": config_of("tqc", tqc=SMALL_DQN, desk={"action": "continuous"}),
    "sac-continuous": config_of("sac", sac=SMALL_DQN, desk={"action": "continuous", "preset": "roles"}),
}
