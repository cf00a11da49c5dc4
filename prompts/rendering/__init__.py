"""From a version and values for its variables to messages.

- `prompt`: a version as a LangChain runnable;
- `templates`: the template engine;
- `text`: a version as text for people, to compare.
"""
