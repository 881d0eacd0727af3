"""The proof on a GPU: one command that says whether what was built without one is right on a card, and how fast it is.

`gitbench gpu-check` and `nox -s gpu_check` run it; docs/gpu_check.md says how. Every check is a process of its own with a
time limit. What it finds is appended to one file line by line, so that nothing is lost if the machine goes away.

    listing     the checks in their order, and how the time is shared out
    checks      one module a check
    run         all checks, one after another;  child: one of them, in its own process
    results     findings, how they are written down and read back;  page: what they become
    sizes       the runs that are checked: those of the gpu profile, on a CPU those of the smoke profile
    steps       training steps that are timed and profiled;  watched, crowd: processes that checks start
    pack        the archive for a machine that has torch and nothing else, and no network
"""
