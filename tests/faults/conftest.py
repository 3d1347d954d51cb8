"""What the tests of faults compare with."""

import pytest
from tiny import forked, train


@pytest.fixture(scope="session")
def unharmed(tmp_path_factory):
    """Digest of a run that nothing happened to; a file may have others."""
    folder = tmp_path_factory.mktemp("unharmed")
    code, log = forked(folder, train, folder / "run", "mae")
    assert code == 0, log
    return (folder / "run/sha256").read_text()
