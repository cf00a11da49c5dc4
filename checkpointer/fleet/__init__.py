"""Runs that outlive a process: they wait in a table for a worker, on any machine, that has their graph.

`runs` says what a queued run is, `fleet` what can be done with it, `queries` are the statements.
"""
