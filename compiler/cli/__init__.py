"""The command line: the frame and one file for each command."""

from .main import COMMANDS as COMMANDS
from .main import FAULT as FAULT
from .main import OK as OK
from .main import USAGE as USAGE
from .main import main as main
from .main import onnxc as onnxc
from .main import run as run
