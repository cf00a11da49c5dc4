"""Child runs, which the commit of a super-step queues, and questions that are answered from outside of a run.

`spawned` says what a child is, `waiting` how a parent asks for its end, `queries` are the statements, `ends` what goes
into the transaction in which a child ends.
"""
