"""LangGraph's checkpointer interface, its synchronous half, and opening and closing a saver."""
