"""`jobs/iterate.py`, but the reward's temperature is fitted on 8 pairs per group instead of 400.

The critiques of 800 pairs, written twice in each run, would take most of a test's time.
"""

import runpy
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from vlrm_ray.scenes import bench  # noqa: E402

bench.CALIBRATION_PAIRS = 8
runpy.run_path(str(ROOT / "jobs" / "iterate.py"), run_name="__main__")
