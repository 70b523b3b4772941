"""Many runs: records, statistics, tables."""
