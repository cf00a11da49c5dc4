"""Workers: processes that take queued runs, on any number of machines.

`worker` is the loop, `graphs` what it has to run, `perform` one run.
"""
