"""The captioner of scenes that ships with the package: its recipe (`recipe`), and where it lies (`shipped`). No torch."""
