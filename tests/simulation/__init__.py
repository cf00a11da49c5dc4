"""Deterministic simulation of the router: virtual time, fake providers, seeded faults, checked invariants.

The code under test is the real router with the real policy; only the network is made up. `clock` is the event loop,
`schedules` makes a schedule of faults and calls from a seed, `world` plays the providers and the callers and checks
what must hold at every moment, `verdict` checks what must hold at the end. To look at one seed:

    python -m tests.simulation SEED
"""
