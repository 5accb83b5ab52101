"""Options of the whole test run."""

import locale
from collections.abc import Iterator

import hypothesis
import pytest

# A busy machine is no failure, and a run finds what the one before it found.
hypothesis.settings.register_profile("onnxc", deadline=None, derandomize=True)
hypothesis.settings.load_profile("onnxc")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--bless", action="store_true", help="rewrite expected outputs instead of comparing; inspect the diff")
    parser.addoption("--all", action="store_true", help="all cases of the ONNX suite where a usual run takes a share; takes hours")


@pytest.fixture(autouse=True)
def keep_locale() -> Iterator[None]:
    """ONNX Runtime's StringNormalizer changes the locale of the process, and so the encoding in which later tests read files."""
    before = locale.setlocale(locale.LC_ALL)
    yield
    locale.setlocale(locale.LC_ALL, before)


@pytest.fixture
def bless(request: pytest.FixtureRequest) -> bool:
    """True if expected outputs are to be rewritten."""
    return bool(request.config.getoption("--bless"))


@pytest.fixture(scope="session")
def takes_all(request: pytest.FixtureRequest) -> bool:
    """True if no test is to take a share of its cases."""
    return bool(request.config.getoption("--all"))
