"""Threads of other savers, taken over: what LangGraph's own Postgres saver has stored, as rows of this one."""
