"""Exports and checkpoints that somebody has changed and sealed anew: a team that acts, or one line."""

import json
import resource
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from fuzzing import ANYTHING, changed, fuzz, refused
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file

from algos.export import tensors_sha256
from common.errors import IncompatibleError
from common.manifests import seal
from experiments.runs.models import load_policy

pytestmark = pytest.mark.fuzz
ALGOS = ("qmix", "ppo", "sac")
_MOST_BYTES = 1 << 30
"""By which the process may grow, whatever files claim."""


def seen_by(policy, value=0.0):
    """The same number in every place that the agents observe."""
    widths = zip(policy.agent_ids, policy.layout["obs_dims"], strict=True)
    return {agent: np.full(width, value, np.float32) for agent, width in widths}


def acted(path):
    """Load a team and let it act, twice; what is wrong with it is told in one line."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def act():
        policy = load_policy(path)
        for _ in range(2):
            assert all(np.isfinite(action).all() for action in policy(seen_by(policy, 1.0)).values())

    said = refused(act)
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < _MOST_BYTES
    return said


@st.composite
def bytes_changed(draw, content):
    """Bytes of which a few are others, or the end is missing."""
    found = bytearray(content)
    for _ in range(draw(st.integers(0, 4))):
        found[draw(st.integers(0, 300) | st.integers(0, len(found) - 1)) % len(found)] = draw(st.integers(0, 255))
    return bytes(found[: draw(st.just(len(found)) | st.integers(0, len(found)))])


@st.composite
def header_changed(draw, content):
    """A SafeTensors file whose header says something else."""
    length = int.from_bytes(content[:8], "little")
    header = draw(changed(json.loads(content[8 : 8 + length])))
    return len(header).to_bytes(8, "little") + header + content[8 + length :]


def harm(draw, folder, names):
    """Change one file of a folder, lose it, or add another."""
    name = draw(st.sampled_from(names))
    path = folder / name
    kind = draw(st.integers(0, 9))
    if kind == 0:
        path.unlink()
    elif kind == 1:
        (folder / draw(st.sampled_from(["more.safetensors", "x.pkl", "algorithm_state.pkl"]))).write_bytes(b"\x80\x04.")
    elif kind == 2:
        path.write_bytes(draw(bytes_changed(path.read_bytes())))
    elif path.suffix == ".safetensors":
        path.write_bytes(draw(header_changed(path.read_bytes())))
    else:
        path.write_bytes(draw(changed(json.loads(path.read_text()))))


def described(folder):
    return [p.name for p in folder.iterdir() if p.name in ("networks.json", "modules.json", "team.json")]


@pytest.mark.parametrize("algo", ALGOS)
@fuzz(parts=len(ALGOS))
@given(data=st.data())
def test_any_export_acts_or_is_refused(trained, algo, data):
    with tempfile.TemporaryDirectory() as place:
        folder = shutil.copytree(trained / f"{algo}-export", Path(place) / "model")
        names = data.draw(st.sampled_from([described(folder), sorted(p.name for p in folder.glob("*.*"))]))
        names = [name for name in names if name not in ("manifest.json", "summary.md")]
        harm(data.draw, folder, names)
        seal(folder)
        acted(folder)


@pytest.mark.parametrize("algo", ALGOS)
@fuzz(parts=len(ALGOS))
@given(data=st.data())
def test_any_checkpoint_acts_or_is_refused(trained, algo, data):
    with tempfile.TemporaryDirectory() as place:
        run = Path(place) / algo
        shutil.copytree(trained / algo, run)
        (folder,) = run.glob("trial_0/checkpoint_*")
        harm(data.draw, folder, data.draw(st.sampled_from([described(folder), ["weights.safetensors", "team.json"]])))
        seal(folder)
        acted(run)
        acted(folder)


@pytest.mark.parametrize("algo", ALGOS)
@fuzz(parts=len(ALGOS))
@given(value=st.sampled_from([np.nan, np.inf, -np.inf, 1e38, -3e38]), data=st.data())
def test_weights_that_are_no_numbers_or_too_large(trained, algo, value, data):
    with tempfile.TemporaryDirectory() as place:
        folder = shutil.copytree(trained / f"{algo}-export", Path(place) / "model")
        path = data.draw(st.sampled_from(sorted(folder.glob("trader_?.safetensors"))))
        with safe_open(str(path), "pt") as file:
            tensors, header = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118
        tensor = tensors[data.draw(st.sampled_from(sorted(tensors)))].view(-1)
        tensor[data.draw(st.integers(0, len(tensor) - 1))] = value
        save_file(tensors, path, metadata={**header, "tensors_sha256": tensors_sha256(tensors)})
        seal(folder)
        said = acted(folder)
        assert said or np.isfinite(value)


CLAIMS = (
    {"hidden": [10**9]},
    {"fcnet_hiddens": [10**9, 10**9]},
    {"network": "transformer", "num_layers": 10**9},
    {"window": [0, 10**9, 0]},
    {"n_critics": 10**9},
    {"shape": [10**12]},
    {"discrete": 10**12},
    {"obs_dims": [10**12] * 4},
)


@pytest.mark.parametrize("algo", ALGOS)
@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: list(claim)[-1])
def test_nothing_is_made_of_what_a_file_merely_claims(trained, tmp_path, algo, claim):
    folder = shutil.copytree(trained / f"{algo}-export", tmp_path / "model")
    content = json.loads((folder / "networks.json").read_text())

    def put(tree):
        if isinstance(tree, dict):
            return {key: claim.get(key, put(value)) for key, value in tree.items()}
        return [put(item) for item in tree] if isinstance(tree, list) else tree

    wanted = put(content)
    (folder / "networks.json").write_text(json.dumps(wanted))
    seal(folder)
    is_unused = wanted == content or ("network" in claim and algo != "qmix")
    assert bool(acted(folder)) != is_unused


@pytest.fixture(scope="module")
def policies(trained):
    return {algo: load_policy(trained / f"{algo}-export") for algo in ALGOS}


NUMBERS = st.sampled_from([np.nan, np.inf, -np.inf, 0.0, 1.0, -3.0, 1e38, 1e300])


@pytest.mark.parametrize("algo", ALGOS)
@fuzz(parts=len(ALGOS))
@given(data=st.data())
def test_any_observation_is_answered_or_refused(policies, algo, data):
    policy = policies[algo]
    seen = seen_by(policy)
    agent, kind = data.draw(st.sampled_from(policy.agent_ids)), data.draw(st.integers(0, 5))
    is_nonsense, width = False, len(seen[agent])
    if kind == 0:
        del seen[agent]
        is_nonsense = True
    elif kind == 1:
        seen[agent] = data.draw(ANYTHING)
        is_nonsense = True
    elif kind == 2:
        value = data.draw(NUMBERS)
        seen[agent] = seen[agent].astype(np.float64)
        seen[agent][data.draw(st.integers(0, width - 1))] = value
        is_nonsense = not np.isfinite(value) or value > 1e39
    elif kind == 3:
        seen[agent] = np.zeros(
            data.draw(st.integers(0, 2 * width)), data.draw(st.sampled_from(["f4", "i8", "O", "U3"]))
        )
        is_nonsense = seen[agent].size != width or seen[agent].dtype.kind in "OU"
    elif kind == 4:
        mask = data.draw(st.sampled_from([np.zeros(5), np.ones(5, bool), np.ones(4), np.eye(5)[1], None, "x", np.nan]))
        seen[agent] = {"observations": seen[agent], "action_mask": mask}
    else:
        seen[agent] = {data.draw(st.sampled_from(["obs", "observations"])): seen[agent]}
    actions = {}
    said = refused(lambda: actions.update(policy(seen)))
    if said:
        assert agent in said or "too large" in said
    else:
        assert not is_nonsense
        assert list(actions) == list(policy.agent_ids)
        assert all(np.isfinite(action).all() for action in actions.values())
    policy.reset()
    assert all(np.isfinite(action).all() for action in policy(seen_by(policy)).values())
    policy.reset()


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("algo", ALGOS)
def test_observation_that_is_no_number_is_refused_with_its_place(policies, algo, value):
    seen = seen_by(policies[algo])
    agent = policies[algo].agent_ids[1]
    seen[agent][2] = value
    with pytest.raises(IncompatibleError, match=rf"agent '{agent}' is {value} in column 2"):
        policies[algo](seen)
