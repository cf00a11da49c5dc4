"""A call of a language model from its request to its record, as a LangChain chat model.

- `chat_model`: what authors ask for a model by. `model`: `RoutedChatModel`, a route as a chat model;
- `service`: answers its calls, whole or as streams;
- `call`: one call: request, costs, record;
- `stream_accumulator`: lets a stream pass, and keeps what its last chunk and its record say;
- `stream_replay`: a stream through a cache;
- `registry`: the service of the process, from whatever configured it;
- `probe`: one small call to one deployment, to see whether it works.
"""
