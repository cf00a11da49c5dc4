"""Reducers, and state that all threads share.

A reducer says what becomes of several writes to one place: of the tasks of one super-step to a channel (`channel`), or
of any number of flows to a value that all threads share (`declared`, `reductions`). The rules are pure (`folding`,
`reducers`); what is merged in the database is merged in the transaction that commits the super-step.
"""
