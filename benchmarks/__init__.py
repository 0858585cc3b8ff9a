"""How fast numbapool is: against its past (`compare`), other libraries (`peers`, `family`), and at its first call (`startup`)."""
