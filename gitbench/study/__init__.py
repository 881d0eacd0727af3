"""A study on disk: its plan, configs, records, proof, lock and bundle. No torch."""
