"""Recipes: what is set for an algorithm on a market, and how what the command says changes it."""

import dataclasses
from pathlib import Path

import pytest
import yaml

from algos.maddpg.config import MADDPGSettings
from algos.registry import algorithm
from envs.optima.catalog import CATALOG
from experiments.scoring import recipes, settings
from experiments.scoring.recipes import SCORED, Recipe, recipe


def test_every_pair_has_a_recipe_of_existing_settings():
    for market in CATALOG:
        for algo in SCORED:
            found = recipe(market, algo)
            assert found.steps > 0
            settings.parse_score(["--market", market, "--algo", algo])
    assert recipe("two-step", "indq").settings == recipe("two-step", "qmix").settings
    assert recipe("two-step", "vdn").settings == recipe("two-step", "qmix").settings


def test_flags_win_over_the_recipe():
    config = settings.parse_score(["--market", "almgren-chriss", "--algo", "maddpg"])
    assert (
        config.maddpg.actor_lr == recipe("almgren-chriss", "maddpg").settings["actor_lr"] != MADDPGSettings().actor_lr
    )
    asked = settings.parse_score(["--network", "gru", "--market", "two-step", "--algo", "vdn"])
    assert (asked.qmix.network, asked.mappo.network) == ("gru", "mlp")
    config = settings.parse_score(["--market", "almgren-chriss", "--algo", "maddpg", "--maddpg.actor-lr", "0.3"])
    assert (config.maddpg.actor_lr, config.maddpg.gamma) == (0.3, 1.0)


def test_step_sizes_fall_over_the_steps_that_are_asked_for():
    words = ["--market", "almgren-chriss", "--algo", "maddpg"]
    own = recipe("almgren-chriss", "maddpg").steps
    assert settings.parse_score(words).maddpg.lr_decay_steps == own
    longer = settings.parse_score([*words, "--steps", str(3 * own)])
    assert longer.maddpg.lr_decay_steps == settings.asked_for(longer)["steps"] == 3 * own
    kept = settings.parse_score([*words, "--steps", str(3 * own), "--maddpg.lr-decay-steps", "7"])
    assert kept.maddpg.lr_decay_steps == 7
    assert settings.parse_score(["--market", "climbing", "--algo", "qmix", "--steps", "9"]).qmix.lr_decay_steps is None


def test_what_falls_over_a_part_of_the_steps_does_so_of_those_that_are_asked_for():
    words = ["--market", "lbf:8x8-2p-2f-coop", "--algo", "mappo", "--steps", "600"]
    mappo = settings.parse_score(words).mappo
    assert (mappo.lr_decay_steps, mappo.entropy_decay_steps) == (600, 450)
    words[1] = "mpe:simple_spread"
    mappo = settings.parse_score(words).mappo
    assert (mappo.lr_decay_steps, mappo.entropy_decay_steps) == (600, None)


def test_a_benchmark_may_have_a_recipe_of_its_own_and_has_its_familys_otherwise():
    own, family = recipe("lbf:5x5-2p-1f-coop", "mappo"), recipe("lbf:Foraging-6x6-2p-1f-v3", "mappo")
    assert own.steps < family.steps == recipe("lbf:8x8-2p-2f-coop", "ippo").steps
    assert own.num_episodes == recipe("mpe:simple_spread", "mappo").num_episodes < family.num_episodes
    assert own.settings["gamma"] != family.settings["gamma"]


def test_who_says_how_networks_are_shared_means_nothing_of_the_recipe():
    assert recipe("mpe:simple_spread", "qmix").settings["use_agent_id"] is False

    def asked_with(market, algo, *words):
        return getattr(settings.parse_score(["--market", market, "--algo", algo, *words]), algo)

    own = asked_with("mpe:simple_spread", "qmix", "--qmix.use-shared-networks", "False")
    assert (own.use_shared_networks, own.use_agent_id) == (False, None)
    assert recipe("mpe:simple_reference", "mappo").settings["use_shared_networks"] is False
    alike = asked_with("mpe:simple_reference", "mappo", "--mappo.use-agent-id", "False")
    assert (alike.use_shared_networks, alike.use_agent_id) == (True, False)
    kept = asked_with("mpe:simple_spread", "qmix", "--qmix.lr", "0.1")
    assert (kept.use_shared_networks, kept.use_agent_id) == (True, False)


@pytest.mark.parametrize("name", ["recipes.yaml", "standing.yaml"])
def test_no_name_stands_twice_in_a_file_of_ours(name):
    """The last of them would win in silence; of several mappings taken in at once, another one in another PyYAML."""
    waiting = [yaml.compose((Path(recipes.__file__).with_name(name)).read_text())]
    while waiting:
        node = waiting.pop()
        if isinstance(node, yaml.MappingNode):
            names = [key.value for key, _ in node.value]
            assert len(set(names)) == len(names), node.start_mark
            assert not any(k.value == "<<" and isinstance(v, yaml.SequenceNode) for k, v in node.value)
            waiting += [value for _, value in node.value]
        elif isinstance(node, yaml.SequenceNode):
            waiting += node.value


def test_an_algorithm_of_your_own_is_scored_with_its_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = dataclasses.replace(algorithm("qmix"), name="mine", group="mine")
    monkeypatch.setattr(recipes, "algorithm", {"mine": mine}.__getitem__)
    assert recipe("merton", "mine", 1_000) == Recipe(1_000, {}, falling={})
