import pytest
from teams import floor_env, ppo_config, qmix_config

import algos.algorithm as module
from algos.algorithm import TeamAlgorithm
from algos.qmix.algorithm import QMIX

pytestmark = pytest.mark.usefixtures("ray_session")


def test_sampled_steps_and_timers_are_reported_under_rllibs_names():
    algorithm = qmix_config(floor_env()).build_algo()
    results = [algorithm.train() for _ in range(2)]
    assert [r["env_runners"]["num_env_steps_sampled_lifetime"] for r in results] == [32, 64]
    assert algorithm.num_env_steps_sampled == 64
    assert set(results[1]["timers"]) >= {"env_runner_sampling_timer", "learner_update_timer", "synch_weights"}
    algorithm.stop()


@pytest.mark.parametrize("make", [qmix_config, ppo_config])
def test_runners_act_by_the_weights_just_learned(make):
    algorithm = make(floor_env()).build_algo()
    for _ in range(2):
        algorithm.train()
    (module_id,) = algorithm.learner_group._learner.module.keys()
    learned = algorithm.learner_group._learner.module[module_id].state_dict()
    used = algorithm.env_runner.module[module_id].state_dict()
    assert used.keys() <= learned.keys()
    assert all((used[name] == learned[name]).all() for name in used)
    algorithm.stop()


def test_training_does_not_go_on_for_ever_without_runners(monkeypatch):
    algorithm: TeamAlgorithm = qmix_config(floor_env()).build_algo()
    assert isinstance(algorithm, QMIX)
    now = [0.0]
    monkeypatch.setattr(module, "synchronous_parallel_sample", lambda **_: ([], []))
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(module.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    while now[0] < module.IDLE_LIMIT_S:
        assert algorithm.sample_rollouts() == []
        now[0] += 50.0
    monkeypatch.undo()
    assert algorithm.sample_rollouts(), "one answer and the clock starts again"
    assert algorithm._idle_since is None
    monkeypatch.setattr(module, "synchronous_parallel_sample", lambda **_: ([], []))
    monkeypatch.setattr(module, "IDLE_LIMIT_S", -1.0)
    with pytest.raises(RuntimeError, match="no env runner has answered"):
        algorithm.sample_rollouts()
    algorithm.stop()
