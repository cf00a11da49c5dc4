"""What graph authors use inside nodes.

Importing any of it joins the libraries (`wiring`), so whatever an author starts with, searches by text are embedded and
calls of models are recorded. What asks models, and what reads prompts, is imported by those who use it.
"""

from __future__ import annotations

from superstep.runtime.wiring import join

join()
