"""What is refused of an exported folder; that exports act as their checkpoints do is tested with policies."""

import json

import pytest

from algos.export import FORMAT, NETWORKS_FILE, load_networks
from common.errors import IncompatibleError


@pytest.mark.parametrize("key", ["format", "layout", "modules"])
def test_description_that_lacks_a_part_is_refused(tmp_path, key):
    content = {"format": FORMAT, "layout": {}, "modules": {}}
    del content[key]
    (tmp_path / NETWORKS_FILE).write_text(json.dumps(content))
    with pytest.raises(IncompatibleError, match=rf"{NETWORKS_FILE} (has format None|does not describe)"):
        load_networks(tmp_path)


def test_other_format_is_refused(tmp_path):
    (tmp_path / NETWORKS_FILE).write_text(json.dumps({"format": 9, "layout": {}, "modules": {}}))
    with pytest.raises(IncompatibleError, match=f"has format 9, but this version reads format {FORMAT}"):
        load_networks(tmp_path)
