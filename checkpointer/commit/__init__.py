"""The barrier: what LangGraph says a task produced, and the transaction that commits a super-step."""
