"""Options of the whole test run."""

import hypothesis
import pytest

# A busy machine is no failure, and a run finds what the one before it found.
hypothesis.settings.register_profile("onnxc", deadline=None, derandomize=True)
hypothesis.settings.load_profile("onnxc")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--bless", action="store_true", help="rewrite expected outputs instead of comparing; inspect the diff")


@pytest.fixture
def bless(request: pytest.FixtureRequest) -> bool:
    """True if expected outputs are to be rewritten."""
    return bool(request.config.getoption("--bless"))
