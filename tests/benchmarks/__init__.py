"""Speed and memory, measured: `python -m tests.benchmarks` lists what there is. No tests; pytest does not look here."""
