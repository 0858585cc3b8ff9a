"""Array libraries: each backend views its arrays for a target, allocates results and hands them back; none computes."""
