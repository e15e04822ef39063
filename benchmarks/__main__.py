"""`python -m benchmarks`: what the guard costs a program: throughput, beside a byte pump, latency, many connections.

docs/benchmarks.md lists the other benchmarks, and has the figures of these.
"""

from __future__ import annotations

import sys

from benchmarks import latency, many, pump, throughput

sys.exit(max(one.main([]) for one in (throughput, pump, latency, many)))
