"""Running what a plan says: scheduling over an executor, the worker process, scoring, progress. No torch here."""
