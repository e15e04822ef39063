"""A cost-aware subscription planner and budget guard for Databento."""
