"""A model of the commit protocol, explored exhaustively at small scope.

`world` is the state: what the database has, what each process remembers. `database` is what PostgreSQL promises at
SERIALIZABLE, and nothing more: any outcome that the manual allows is explored. `tasks`, `results` and `barrier` are the
protocol (`checkpointer/step`, `threads`, `commit`), one atomic statement or transaction of the server at a time, with
every process free to run, stop or die in between. `scenarios` are the small worlds, `switches` the ways to break the
protocol. `invariants` are DESIGN's, by number. `explore` looks at every reachable state, breadth first, so that a
counterexample is a shortest one. To look at one:

    python -m tests.model SCENARIO [SWITCH …]

Left out: turns (hints, on which no guarantee rests), constraints and what else SQL can reject, relative writes, changes
of a thread from outside of runs, answers that come while another process asks anew, time, pools. And subgraphs in
subgraphs, side by side, and with state that is kept from call to call.
"""
