"""A call of a language model from its request to its record, as a LangChain chat model."""
