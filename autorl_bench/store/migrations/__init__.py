"""The schema's history, one module a version; ``autorl_bench.store.migrate`` runs them."""
