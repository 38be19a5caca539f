import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import FaultsError, IncompatibleError, InputError


@pytest.mark.parametrize("kind", [InputError, IncompatibleError])
@given(name=st.text())
def test_a_message_is_one_line_that_can_be_printed_whatever_name_stands_in_it(kind, name):
    error = kind(f"{name} does not exist")
    assert str(error).isprintable()
    assert str(kind(error)) == str(pickle.loads(pickle.dumps(error))) == str(error)
    if name.isprintable():
        assert str(error) == f"{name} does not exist"


def test_what_cannot_be_seen_is_written_as_in_code():
    assert str(InputError("a\nb\tc\x1b[2J\udc80 does not exist")) == r"a\nb c\x1b[2J\udc80 does not exist"


def test_several_faults_keep_a_line_each():
    said = FaultsError("p.csv: line 2: one\np.csv: line 3: \x1b[31mtwo")
    assert str(said) == str(pickle.loads(pickle.dumps(said))) == "p.csv: line 2: one\np.csv: line 3: \\x1b[31mtwo"
