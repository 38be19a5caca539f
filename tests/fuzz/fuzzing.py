"""How many random inputs each test is given, and JSON in which something is wrong."""

import json
import math
import os

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from common.errors import FaultsError, IncompatibleError, InputError

_CASES = int(os.environ.get("FUZZ_CASES", "0"))


def fuzz(*, parts=1):
    """How a test draws: in CI the same forty inputs each time; ``make fuzz`` draws others, and more of them.

    Args:
        parts: Values of the test's parameter, which divide the inputs of ``make fuzz`` among themselves.
    """
    return settings(
        max_examples=math.ceil(_CASES / parts) if _CASES else 40,
        derandomize=not _CASES,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


FUZZ = fuzz()
LEAVES = st.one_of(
    *(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    *(st.just("../x"), st.just("a" * 64), st.just("os:system"), st.just(10**9), st.just(10**12), st.just(-1)),
)
ANYTHING = st.recursive(LEAVES, lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(max_size=5), v, max_size=3))
BROKEN = st.one_of(
    st.binary(max_size=60),
    st.just(b"[" * 100_000),
    st.just(b'{"a":' * 50_000),
    st.just(b'{"format": ' + b"9" * 5000 + b"}"),
    st.just(b'"\\ud800"'),
    ANYTHING.map(lambda value: json.dumps(value).encode()),
)


@st.composite
def changed(draw, content):
    """A JSON tree in which one value, somewhere, is another or missing; or something else altogether."""
    if draw(st.integers(0, 9)) == 0:
        return draw(BROKEN)
    tree = json.loads(json.dumps(content))
    at = tree
    while True:
        keys = list(at) if isinstance(at, dict) else list(range(len(at)))
        key = draw(st.sampled_from(keys))
        if isinstance(at[key], (dict, list)) and at[key] and draw(st.integers(0, 4)):
            at = at[key]
            continue
        kind = draw(st.integers(0, 5))
        if kind == 0:
            del at[key]
        elif kind == 1 and isinstance(at, list):
            at.append(at[key])
        else:
            at[key] = draw(ANYTHING)
        return json.dumps(tree).encode()


def refused(act, kinds=(InputError, IncompatibleError)):
    """Do something, and return what it raises, if it does: for the user to mend, and told in a line for each fault."""
    said = None
    try:
        act()
    except kinds as error:
        said = error
    if said is None:
        return ""
    lines = str(said).split("\n")
    assert all(lines)
    assert 1 < len(lines) < 12 if isinstance(said, FaultsError) else len(lines) == 1
    return str(said)
