"""A task for tests of the spine: it does in order what its script says."""
