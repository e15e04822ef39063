"""`python -m benchmarks`: what the guard costs in throughput (`kill`, `two_hosts`, `check`, `sandbox`: the others)."""

from __future__ import annotations

import sys

from benchmarks.throughput import main

sys.exit(main())
