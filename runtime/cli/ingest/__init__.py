"""`runtime ingest`: events into derived state.

- `commands`: what is typed; `group`: files and commands of one name side by side;
- `views`: what is printed; `progress`: what is shown meanwhile.
"""
