"""What tests of accidents share: the runs that nothing happened to."""

import pytest
from killing import References


@pytest.fixture(scope="session")
def references(tmp_path_factory):
    return References(tmp_path_factory.mktemp("references"))
