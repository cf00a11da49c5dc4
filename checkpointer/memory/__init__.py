"""Long-term memory: what threads know of each other's, in one LangGraph `BaseStore`.

- `store`: LangGraph's interface, and what it has beyond that; `store_options`: how one is configured;
- `reading`, `writing`: what an operation comes to, inside a super-step and outside; `here`: which of the two it is;
- `own_writes`: what a task sees of what it has staged itself;
- `filters`, `namespaces`, `values`, `indexing`: pure parts;
- `queries`: a typed function for each statement. `migrations`: the tables. `rows`: what they hold;
- `sweeper`: ends what has expired, deletes what ended long ago. `listings`: for programs that run no graph.

Which interleavings could break it, and what stops them, is said in `writing`.
"""
