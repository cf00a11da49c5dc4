"""`runtime demo`: what goes wrong when state moves between agents, and what does not.

- `commands`: the command;
- `flow`: the graph and the decision, the same for both sides; `model`: who answers it; `desks`: how a side reads and
  writes, which is all that differs; `meeting`: flows start from one state;
- `scenario`: who applies for what; `tables`: the schemas of both sides, which are dropped at the end;
- `race`: runs a side and collects what it did; `measures`: the numbers, from what was collected;
- `progress`, `views`, `plot`: what is shown.
"""
