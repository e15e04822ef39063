"""`python -m benchmarks`: what the guard costs in throughput (the others: `kill`, `check`, `sandbox`)."""

from __future__ import annotations

import sys

from benchmarks.throughput import main

sys.exit(main())
