"""Planning, launching and storing runs. No torch: a run's own process imports it."""
