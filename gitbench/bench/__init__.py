"""The speed benchmark: the same weights and the same workload here and in what a user would pick instead.

`gitbench bench` and `nox -s bench` run it. Every row compares two programs that were measured next to each other in one
process, after their results on the very inputs that are timed were found equal.

    workloads   what is timed: training steps, captioning, scoring; shapes of models and batches; the tasks of a command
    run         every task in a process of its own, one after another
    program     what a program must be able to do, its inputs, the shared weights;  ours, peers: the programs
    measure     one task: build both programs, check (`checks`), time;  scoring: the same for caption scores
    rows        paired times, ratios, intervals; targets and the comparison with an earlier result
    report      bench.md, the chart and bench.json
"""
