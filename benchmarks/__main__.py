"""`python -m benchmarks`: what the guard costs in throughput; docs/benchmarks.md lists the others."""

from __future__ import annotations

import sys

from benchmarks.throughput import main

sys.exit(main())
