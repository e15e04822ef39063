"""What `make bench` runs: each module prints its figures as a table, measured side by side in one run."""
