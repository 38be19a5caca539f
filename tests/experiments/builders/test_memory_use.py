"""What is larger than the machine is refused by the settings that ask for it, before any of it is made."""

import pytest
from sample_runs import config_of

from algos.registry import algorithms
from common import memory
from common.errors import IncompatibleError, InputError
from experiments.builders import memory_use
from experiments.builders.algorithms import algorithm_config, check_algorithm
from experiments.builders.environments import environment_of
from experiments.builders.memory_use import network_bytes, outlined_networks, replayed_step_bytes
from experiments.settings.groups import settings_of_algo

REFUSED = (InputError, IncompatibleError)


def run_of(algo, **own):
    desk = {} if "discrete" in algorithms()[algo].actions else {"desk": {"action": "continuous"}}
    return config_of(algo, **desk, **{algorithms()[algo].group: own})


def refusal(algo, **own):
    run = run_of(algo, **own)
    with pytest.raises(REFUSED) as caught:
        check_algorithm(run, environment_of(run))
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("algo", algorithms())
def test_networks_that_no_machine_holds_are_refused_by_their_flag(algo):
    flag = f"--{algorithms()[algo].group}.hidden"
    assert refusal(algo, hidden=[1_000_000, 1_000_000]).startswith(f"{flag}: networks of that size do not fit into the")
    assert refusal(algo, hidden=[10**15, 10**15]).startswith(f"{flag}: networks of that size")


@pytest.mark.parametrize(
    ("algo", "own", "flags"),
    [
        (
            "qmix",
            {"network": "transformer", "num_layers": 1000, "d_model": 10_000},
            "--qmix.d-model, --qmix.num-layers",
        ),
        ("qmix", {"mixing_embed_dim": 10**12}, "--qmix.mixing-embed-dim"),
        ("mappo", {"network": "transformer", "d_model": 10**8, "hidden": [8]}, "--mappo.d-model, --mappo.hidden"),
        ("tqc", {"n_critics": 1_000, "hidden": [8_192, 8_192]}, "--tqc.hidden, --tqc.n-critics"),
        ("tqc", {"n_quantiles": 10**12}, "--tqc.n-quantiles"),
        ("indq", {"num_quantiles": 10**12}, "--indq.num-quantiles"),
    ],
)
def test_any_setting_that_shapes_networks_is_named_at_once(algo, own, flags):
    assert refusal(algo, **own).startswith(f"{flags}: networks of that size")


@pytest.mark.parametrize("algo", [name for name, a in algorithms().items() if a.has_replay])
def test_replay_that_no_machine_holds_is_refused_by_its_flag(algo):
    group = algorithms()[algo].group
    said = refusal(algo, replay_capacity=10**12)
    assert said.startswith(f"--{group}.replay-capacity 1000000000000: a replay buffer of so many steps takes about ")


@pytest.mark.parametrize("algo", ["qmix", "tqc", "ppo"])
def test_networks_are_taken_up_to_what_the_machine_has(algo, monkeypatch):
    run = run_of(algo)
    environment = environment_of(run)
    config = algorithm_config(run, environment)
    spaces = memory_use._spaces_of_networks(config, environment.team)
    made = config.get_multi_rl_module_spec(spaces=spaces).build()
    for name in spaces:
        if hasattr(made[name], "make_target_networks"):
            made[name].make_target_networks()
    own = settings_of_algo(run)
    needed = sum(network_bytes(made[name], own) for name in spaces)
    assert needed == sum(network_bytes(network, own) for network in outlined_networks(config, environment).values())
    monkeypatch.setattr(memory_use, "check_memory", lambda *_: None)
    for there, fits in ((needed, True), (needed - 1, False)):
        monkeypatch.setattr(memory_use, "total_bytes", lambda there=there: there)
        if fits:
            check_algorithm(run, environment)
        else:
            with pytest.raises(REFUSED, match="networks of that size"):
                check_algorithm(run, environment)


def test_steps_of_a_replay_are_taken_up_to_what_the_machine_has(monkeypatch):
    run = run_of("qmix", replay_capacity=100_000)
    environment = environment_of(run)
    needed = 100_000 * replayed_step_bytes(algorithm_config(run, environment), run, environment)
    for there, fits in ((needed, True), (needed - 1, False)):
        monkeypatch.setattr(memory, "total_bytes", lambda there=there: there)
        if fits:
            check_algorithm(run, environment)
        else:
            with pytest.raises(InputError, match=r"--qmix\.replay-capacity 100000: "):
                check_algorithm(run, environment)


def test_cluster_is_not_measured_by_the_machine_that_the_command_runs_on(monkeypatch):
    run = run_of("qmix", replay_capacity=10**12)
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    check_algorithm(run, environment_of(run))
