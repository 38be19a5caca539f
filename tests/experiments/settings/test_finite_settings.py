"""No setting of any verb takes a number without an end."""

from typing import get_args

import pytest
from verbs import VERBS

from common.errors import InputError
from experiments.backtest import BacktestConfig
from experiments.settings.arguments import build_settings, parse_flags, scan_flags
from experiments.settings.fields import settings_of
from experiments.settings.layers import nested
from experiments.settings.run_config import RunConfig


def takes_floats(kind):
    return kind is float or any(takes_floats(part) for part in get_args(kind))


NUMBERS = [(cls, setting) for cls in VERBS for setting in settings_of(cls).values() if takes_floats(setting.kind)]


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan")])
@pytest.mark.parametrize(("cls", "setting"), NUMBERS, ids=lambda item: getattr(item, "name", None))
def test_endless_number_is_refused_from_a_file(cls, setting, value):
    given = nested({setting.name: [value] if setting.is_tuple else value})
    with pytest.raises(InputError, match=setting.name.replace(".", r"\.")):
        build_settings(cls, given, where="mine.yaml")


@pytest.mark.parametrize("word", ["inf", "1e400", "nan"])
@pytest.mark.parametrize("cls", [RunConfig, BacktestConfig])
def test_endless_capital_is_refused_in_one_line(cls, word):
    flags = scan_flags(cls, ["--capital", word], aliases={"capital": "floor.capital"} if cls is RunConfig else None)
    with pytest.raises(InputError, match=rf"capital is '{word}'") as refused:
        parse_flags(cls, flags, base={})
    assert "\n" not in str(refused.value)
