"""`transactional(graph)`: conflicts retried, streams that show a super-step once, reports."""
