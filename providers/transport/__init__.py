"""One request to one deployment: clients, the vendors' dialects, streams.

- `invoke`: asks a deployment for a whole answer or for a stream, under its time limits;
- `clients`: its LangChain model: key, address, connections; `proxies`: those of the environment;
- `wire`: tools and schemas in its dialect, and how an answer says that it ended;
- `structured`: a schema's value out of an answer. `chunks`: a whole answer as a stream;
- `response_hook`: the last HTTP response of an attempt. `retrying`: repeats an attempt;
- `loop_local`: connections by event loop. `sync_bridge`: an event loop for callers that cannot await.
"""
