"""Makes the oracle of the ranking tests importable for all tests of evaluation."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "ranking"))
