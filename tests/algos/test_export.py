"""What is refused of an exported folder; that exports act as their checkpoints do is tested with policies."""

import json

import pytest

from algos.export import FORMAT, NETWORKS_FILE, load_networks
from common.errors import IncompatibleError, InputError

LAYOUT = {"agent_ids": ["a"], "modules": ["own"], "obs_dims": [1], "actions": ["Discrete(2)"]}
WHOLE = {"format": FORMAT, "layout": LAYOUT, "modules": {"own": {}}}


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("format", "has format None"),
        ("layout", "does not describe a team"),
        ("modules", r"does not describe the networks \['own'\]"),
    ],
)
def test_description_that_lacks_a_part_is_refused(tmp_path, key, said):
    (tmp_path / NETWORKS_FILE).write_text(json.dumps({name: part for name, part in WHOLE.items() if name != key}))
    with pytest.raises(IncompatibleError, match=rf"{NETWORKS_FILE} {said}"):
        load_networks(tmp_path)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ([], "file names that are none"),
        ({"a": "../x"}, "which is no path in its folder"),
        ({"a": "/x"}, "which is no path in its folder"),
        ({"a": 3}, r"3\.safetensors"),
        ({}, r"a\.safetensors"),
    ],
)
def test_weights_are_read_in_the_folder_alone(tmp_path, names, said):
    (tmp_path / NETWORKS_FILE).write_text(json.dumps({**WHOLE, "file_names": names}))
    with pytest.raises((IncompatibleError, InputError), match=said):
        load_networks(tmp_path)


def test_other_format_is_refused(tmp_path):
    (tmp_path / NETWORKS_FILE).write_text(json.dumps({"format": 9, "layout": {}, "modules": {}}))
    with pytest.raises(IncompatibleError, match=f"has format 9, but this version reads format {FORMAT}"):
        load_networks(tmp_path)
