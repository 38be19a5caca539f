"""What is packed comes back as it was, of the same types to the last bit; nothing that is read runs code."""

import json
import math
from collections import defaultdict, deque

import gymnasium as gym
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ray.rllib.env.multi_agent_episode import MultiAgentEpisode
from ray.rllib.env.utils.infinite_lookback_buffer import InfiniteLookbackBuffer

from algos.states import ARRAYS_FILE, STATE_FILE, UnsavableError, pack, unpack
from common.errors import IncompatibleError


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("states")


def returned(state, folder, *path, known=None):
    for name, content in pack(state, known=known).items():
        (folder / name).write_bytes(content)
    return unpack(folder, *path, known=known)


def same(found, wanted):
    """Equal in type, order and every bit."""
    assert type(found) is type(wanted)
    if isinstance(wanted, dict):
        assert list(found) == list(wanted)
        return all(same(found[key], value) for key, value in wanted.items())
    if isinstance(wanted, (list, tuple, deque)):
        assert getattr(found, "maxlen", None) == getattr(wanted, "maxlen", None)
        return len(found) == len(wanted) and all(map(same, found, wanted))
    if isinstance(wanted, np.ndarray):
        if wanted.dtype == object:
            return found.shape == wanted.shape and same(found.tolist(), wanted.tolist())
        return (found.dtype, found.shape, found.tobytes()) == (wanted.dtype, wanted.shape, wanted.tobytes())
    if isinstance(wanted, (float, np.floating)) and np.isnan(wanted):
        return bool(np.isnan(found))
    if isinstance(wanted, (float, np.generic)):
        return np.asarray(found).tobytes() == np.asarray(wanted).tobytes()
    return found == wanted


DTYPES = ["?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8", ">f8", "c16", "M8[us]", "U3"]
SHAPES = st.sampled_from([(), (0,), (3,), (2, 3), (2, 0, 1)])
arrays = st.builds(
    lambda dtype, shape, seed: np.random.default_rng(seed).integers(0, 2, shape).astype(dtype),
    st.sampled_from(DTYPES),
    SHAPES,
    st.integers(0, 9),
)
leaves = st.one_of(
    *(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(), arrays),
    *(st.floats(width=32).map(np.float32), st.floats().map(np.float64), st.integers(-9, 9).map(np.int32)),
)
keys = st.one_of(st.text(), st.integers(), st.tuples(st.text(), st.integers()))
trees = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.lists(inner, max_size=4).map(lambda items: deque(items, maxlen=7)),
        st.dictionaries(keys, inner, max_size=4),
        st.dictionaries(keys, inner, max_size=3).map(lambda items: defaultdict(list, items)),
    ),
)


@settings(max_examples=300, deadline=None)
@given(trees)
def test_every_tree_of_data_comes_back(place, tree):
    assert same(returned(tree, place), tree)


@pytest.mark.parametrize("text", [{"$array": 1}, {"$tuple": [1]}, {"$": 2, "a": 3}, {"a": {"$known": "b"}}])
def test_keys_that_look_like_marks_are_keys(place, text):
    assert returned(text, place) == text


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64, torch.bool, torch.uint8, torch.bfloat16])
def test_tensors_come_back_as_they_were(place, dtype):
    values = torch.arange(24).reshape(2, 3, 4).to(dtype)
    taken = {"whole": values, "turned": values.transpose(0, 2), "one": values[1, 2, 3], "none": values[:0]}
    found = returned(taken, place)
    for name, value in taken.items():
        assert found[name].dtype == dtype
        assert torch.equal(found[name], value)
    found["whole"].zero_()  # it can be changed, and is nobody else's
    assert values.any()


def test_conjugate_views_come_back(place):
    values = torch.complex(torch.arange(3.0), torch.ones(3)).conj()
    assert torch.equal(returned(values, place), values)


@pytest.mark.parametrize("kind", ["PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64"])
def test_generators_go_on_drawing(place, kind):
    generator = np.random.Generator(getattr(np.random, kind)(3))
    generator.integers(5, dtype=np.int32)  # half of a word is kept
    found = returned(generator, place)
    assert found.integers(1 << 30, size=5).tolist() == generator.integers(1 << 30, size=5).tolist()


def test_sets_and_what_defaults_make_come_back(place):
    found = returned({"set": {1, 2}, "frozen": frozenset({"a"}), "default": defaultdict(InfiniteLookbackBuffer)}, place)
    assert (found["set"], found["frozen"]) == ({1, 2}, frozenset({"a"}))
    assert isinstance(found["default"]["new"], InfiniteLookbackBuffer)


def mapping(agent_id, episode, **kwargs):
    return "shared"


def test_an_episode_goes_on_as_it_was(place):
    box, choices = gym.spaces.Box(-1.0, 1.0, (2,), np.float32), gym.spaces.Tuple([gym.spaces.Discrete(3)])
    spaces = {"observation_space": {"a": box, "b": box}, "action_space": {"a": choices, "b": choices}}
    episode = MultiAgentEpisode(**spaces, agent_to_module_mapping_fn=mapping)
    seen = {agent: np.full(2, 0.25, np.float32) for agent in "ab"}
    episode.add_env_reset(observations=seen, infos={})
    for reward in (0.5, np.float64(0.25)):
        actions = dict.fromkeys("ab", (1,))
        extra = {agent: {"action_logp": np.float32(-1.5)} for agent in "ab"}
        rewards = dict.fromkeys("ab", reward)
        episode.add_env_step(seen, actions, rewards, infos={}, extra_model_outputs=extra)
    known = {"mapping": mapping, "box": box, "choices": choices}
    found = returned(episode, place, known=known)
    assert found.agent_to_module_mapping_fn is mapping
    assert found.observation_space["a"] is box
    again = returned(found, place, known=known)
    for one in (found, again):
        assert pack(one, known=known) == pack(episode, known=known)
        assert one.get_rewards() == episode.get_rewards()
        one.add_env_step(seen, actions, rewards, infos={}, extra_model_outputs=extra)
        assert len(one) == len(episode) + 1


def test_a_part_is_read_alone(place):
    known = {"f": mapping}
    assert returned({"a": {"b": (1, 2)}, "c": mapping}, place, "a", "b", known=known) == (1, 2)
    assert unpack(place, "a") == {"b": (1, 2)}, "without what the rest refers to"


class Foreign:
    pass


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ({"env": {"made": [Foreign()]}}, r"^env/made is a test_states\.Foreign, "),
        ({"call": lambda: 1}, r"^call is a builtins\.function"),
        ({"p": torch.nn.Parameter(torch.ones(2))}, r"^p is a torch\.nn\.parameter\.Parameter"),
        ({"d": defaultdict(lambda: 3)}, r"^d is a builtins\.function"),
        (np.zeros(2, [("a", "O")]), r"^it is a numpy\.ndarray"),
        (gym.spaces.MultiBinary(3), r"MultiBinary"),
    ],
)
def test_what_is_no_data_is_refused_with_its_place(state, said):
    with pytest.raises(UnsavableError, match=said):
        pack(state)


def test_it_is_of_its_instant(place):
    values = np.zeros(3)
    packed = pack({"values": values})
    values[:] = 1.0
    for name, content in packed.items():
        (place / name).write_bytes(content)
    assert not unpack(place)["values"].any()


HOSTILE = [
    *(b"", b"{", b"[1", b"\xff\xfe", b'{"$exec": 1}', b'{"$known": "missing"}', b'{"$array": ["float64", 0, 99]}'),
    *(b'{"$array": ["float64", -1, 1]}', b'{"$array": ["float64", 0, -1]}', b'{"$array": ["float64", 0.0, 1]}'),
    *(b'{"$raw": ["|O", [1], "AAAAAAAAAAA="]}', b'{"$object": ["Popen", {}]}', b'{"$default": ["eval", []]}'),
    *(
        b'{"$object": ["SingleAgentEpisode", {"__class__": 1}]}',
        b'{"$object": ["SingleAgentEpisode", {"get_state": 1}]}',
    ),
    *(b'{"$generator": {"bit_generator": "os"}}', b'{"$set": [[1]]}', b'{"$tuple": 3}', b'{"$space": {"box": {}}}'),
    *(b"[" * 100_000, b'{"$scalar": ["O", 1]}', b'{"$scalar": ["float64", "x"]}', b'{"$deque": [-1, 1]}', b"1" * 5_000),
]


@pytest.mark.parametrize("text", HOSTILE, ids=[str(i) for i in range(len(HOSTILE))])
def test_what_was_made_to_do_harm_is_refused_in_one_line(place, text):
    for name, content in pack({"a": np.zeros(2)}).items():
        (place / name).write_bytes(content)
    (place / STATE_FILE).write_bytes(text)
    with pytest.raises(IncompatibleError, match=f"{STATE_FILE} cannot be read"):
        unpack(place)


def test_arrays_that_are_cut_are_refused(place):
    for name, content in pack({"a": np.zeros(2)}).items():
        (place / name).write_bytes(content)
    (place / ARRAYS_FILE).write_bytes((place / ARRAYS_FILE).read_bytes()[:-1])
    with pytest.raises(IncompatibleError, match=f"{ARRAYS_FILE} cannot be read"):
        unpack(place)


def test_text_is_json_of_the_standard(place):
    (place / STATE_FILE).write_bytes(pack([math.nan, math.inf, -math.inf])[STATE_FILE])

    def refuse(word):
        raise AssertionError(word)

    assert json.loads((place / STATE_FILE).read_bytes(), parse_constant=refuse)
