"""What goes into the archive of `gitbench gpu-check --pack` beside gitbench and its packages: how it starts there."""
