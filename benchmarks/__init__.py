"""How fast numbapool is: against its past (`compare`), other libraries (`peers`), and at its first call (`startup`)."""
