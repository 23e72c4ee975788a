"""Hardware runs the same laws as the CPU: they lie beside the ring's other tests."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "ring"))
