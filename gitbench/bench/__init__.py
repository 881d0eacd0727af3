"""The speed benchmark: the same weights and the same work here and in what a user would pick instead.

`gitbench bench` and `nox -s bench` run it. Every row compares two programs that were measured next to each other in one
process, after their results on the very inputs that are timed were found equal. The values (`rows`, `shapes`,
`targets`), the report and the regression check need no torch.
"""
