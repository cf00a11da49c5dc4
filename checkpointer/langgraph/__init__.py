"""Everything that LangGraph keeps private and that we depend on, in one place."""
