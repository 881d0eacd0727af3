"""The checks, one module each with a function `check(setting, report)`; their order is in `gitbench.gpu_check.listing`."""
