"""The runtime: author API, `transactional`, settings, loading of graphs, command line.

Programs import from `superstep`. `wiring` joins the three libraries; `faults` is the floor that all of them stand on.
"""
