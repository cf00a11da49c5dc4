"""Side-by-side benchmarks. `python -m tests.benchmarks` runs all of them and writes docs/benchmarks.md.

Contenders take turns within one run (A B C, then B C A, …), so that a busy machine slows all of them alike; what is
compared are medians of the ratios of neighbouring turns. Nothing here asserts a time.

`setting` boots the database and the savers · `tables` turns figures into text · one module per question: `loop`,
`chat`, `race`, `round_trips`, `vectors`. Each has `async def run(place) -> str`, a section of the page.
"""
