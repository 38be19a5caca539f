"""What a branch may change of the run that it starts from."""

from dataclasses import replace

import pytest

from algos.maddpg.config import MADDPGSettings
from experiments.settings.fields import settings_of
from experiments.settings.run_config import RunConfig
from experiments.tuning.branching import MAY_DIFFER, differences


@pytest.mark.parametrize(
    ("name", "value"), [("use_centralised_gradient", True), ("policy_delay", 2), ("actor_lr", 0.5)]
)
def test_how_policies_are_trained_may_differ(name, value):
    parent = RunConfig(algo="maddpg")
    branch = replace(parent, maddpg=MADDPGSettings(**{name: value}))
    assert differences(parent, branch) == []


def test_what_is_in_the_weights_may_not():
    parent = RunConfig(algo="maddpg")
    (told,) = differences(parent, replace(parent, maddpg=MADDPGSettings(twin_critics=True)))
    assert told.startswith("--maddpg.twin-critics was False and is now True")


def test_what_may_differ_exists():
    names = settings_of(RunConfig)
    for allowed in MAY_DIFFER:
        assert allowed in names or (allowed[-1] in "._" and any(name.startswith(allowed) for name in names)), allowed
