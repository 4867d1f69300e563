"""A modelled world for the real decisions: traces, sites with queues, a pool, policies, and a report."""
